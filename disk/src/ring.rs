//! io_uring, restricted to what a disk needs before it is enabled.

use crate::engine::Call;
use crate::error::SetupError;
use crate::files::Files;
use crate::options::Issuer;
use crate::piece::Action;
use crate::waker::Waker;
use denali_devices::block::Wake;
use io_uring::register::Restriction;
use io_uring::types::{Fixed, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode, squeue};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{Ordering, fence};

/// Calls that are accepted before any begins.
const SUBMISSIONS: u32 = 128;
/// Results that wait without the kernel keeping them elsewhere: several for each entry of a queue.
const COMPLETIONS: u32 = 512;

/// Flag of `io_uring_enter`: do what completions have left to be done in this thread.
const GET_EVENTS: u32 = 1;

/// `IORING_REGISTER_FILES`: a disabled ring gets its files.
const REGISTER_FILES: u32 = 2;
/// `IORING_REGISTER_ENABLE_RINGS`: it works, and its restrictions hold.
const REGISTER_ENABLE_RINGS: u32 = 12;

/// The operations a ring is good for.
const OPERATIONS: [u8; 6] = [
    opcode::Read::CODE,
    opcode::Readv::CODE,
    opcode::Write::CODE,
    opcode::Writev::CODE,
    opcode::Fsync::CODE,
    opcode::Fallocate::CODE,
];

/// A ring and the files registered with it.
pub(crate) struct Ring {
    ring: IoUring,
    waker: Waker,
    /// The ring signals completions, and may have done so.
    armed: bool,
    calls: u64,
    /// They are registered; kept for the locks that go with them.
    files: Files,
}

/// A ring that is for no files yet: made and restricted, and of no use to anybody before it has files.
///
/// To give it some takes `io_uring_register` with [`BareRing::REGISTERS`], which no ring takes afterwards.
pub struct BareRing {
    ring: IoUring,
    waker: Waker,
}

impl BareRing {
    /// Operations of `io_uring_register` with which it gets its files and is enabled.
    pub const REGISTERS: [u32; 2] = [REGISTER_FILES, REGISTER_ENABLE_RINGS];

    /// Makes one.
    ///
    /// # Errors
    /// When the host has no io_uring that can be restricted.
    pub fn new(issuer: Issuer) -> Result<Self, SetupError> {
        prepare(issuer).map_err(SetupError::NoRing)
    }

    /// Gives it its files, for good.
    fn enable(&self, files: &Files) -> io::Result<()> {
        let descriptors: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let submitter = self.ring.submitter();
        submitter.register_files(&descriptors)?;
        submitter.register_enable_rings()
    }
}

impl Ring {
    /// A ring for these files, enabled and restricted: `made`, if one was made before.
    pub(crate) fn new(
        files: Files,
        issuer: Issuer,
        made: Option<BareRing>,
    ) -> Result<Self, (SetupError, Files)> {
        let made = made.map_or_else(|| prepare(issuer), Ok);
        match made.and_then(|made| made.enable(&files).map(|()| made)) {
            Ok(BareRing { ring, waker }) => Ok(Self { ring, waker, armed: false, calls: 0, files }),
            Err(error) => Err((SetupError::NoRing(error), files)),
        }
    }

    /// Accepts a call; false when the submission queue is full.
    ///
    /// # Safety
    /// As for [`crate::engine::Engine::push`].
    pub(crate) unsafe fn push(&mut self, call: Call<'_>) -> bool {
        let entry = entry(&call).user_data(u64::from(call.token));
        // SAFETY: memory and list stay as long as the kernel uses them, which the caller promises.
        unsafe { self.ring.submission().push(&entry) }.is_ok()
    }

    /// Begins what was accepted, and lets completions be finished; one system call, or none if there is
    /// nothing to do. False when the kernel has not taken all.
    pub(crate) fn start(&mut self) -> bool {
        self.disarm();
        loop {
            let queue = self.ring.submission();
            let left = queue.len();
            if left == 0 && !queue.taskrun() && !queue.cq_overflow() {
                return true;
            }
            drop(queue);
            self.calls += 1;
            // SAFETY: the submitted entries' memory is as `push` was promised; no argument is passed.
            let taken =
                unsafe { self.ring.submitter().enter::<()>(left as u32, 0, GET_EVENTS, None) };
            match taken {
                Ok(taken) if taken >= left => return true,
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return false,
            }
        }
    }

    pub(crate) fn next(&mut self) -> Option<(u32, i32)> {
        let entry = self.ring.completion().next()?;
        Some((entry.user_data() as u32, entry.result()))
    }

    /// Waits until something completes, for at most a moment.
    pub(crate) fn wait(&mut self) {
        let moment = Timespec::new().nsec(50_000_000);
        let arguments = SubmitArgs::new().timespec(&moment);
        self.calls += 1;
        // Whatever the outcome: the caller looks what has completed.
        let _ = self.ring.submitter().submit_with_args(1, &arguments);
    }

    /// Says when to wake; `None` is never. Until [`Ring::start`] is called, the next completion signals,
    /// or it signals nothing and the timer runs: which of the two costs no system call.
    pub(crate) fn wake(&mut self, when: Option<Wake>) {
        match when {
            Some(Wake::After(time)) => self.waker.set_timer(time),
            None => self.waker.stop_timer(),
            Some(Wake::AtNext) => {
                self.waker.stop_timer();
                self.ring.completion().enable_eventfd();
                self.armed = true;
                // The kernel does the opposite: it notes what is to be done, then looks whether to signal.
                fence(Ordering::SeqCst);
                let queue = self.ring.submission();
                let missed = queue.taskrun() || queue.cq_overflow();
                drop(queue);
                if missed || !self.ring.completion().is_empty() {
                    self.waker.set_timer(1);
                }
            }
        }
    }

    fn disarm(&mut self) {
        if std::mem::take(&mut self.armed) {
            self.ring.completion().disable_eventfd();
            self.waker.clear_signal();
        }
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.waker.descriptor()
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls + self.waker.calls()
    }
}

fn prepare(issuer: Issuer) -> io::Result<BareRing> {
    let mut ring = build(issuer)?;
    ring.completion().disable_eventfd();
    let submitter = ring.submitter();
    let mut probe = Probe::new();
    submitter.register_probe(&mut probe)?;
    if !OPERATIONS.iter().all(|&operation| probe.is_supported(operation)) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let waker = Waker::new()?;
    submitter.register_eventfd(waker.signal())?;
    submitter.register_restrictions(&mut restrictions())?;
    Ok(BareRing { ring, waker })
}

/// The few operations, on registered files, nothing further to be registered: for good.
pub(crate) fn restrictions() -> Vec<Restriction> {
    let fixed = squeue::Flags::FIXED_FILE.bits();
    let operations = OPERATIONS.iter().map(|&operation| Restriction::sqe_op(operation));
    let flags = [Restriction::sqe_flags_allowed(fixed), Restriction::sqe_flags_required(fixed)];
    operations.chain(flags).collect()
}

/// A disabled ring, with as much of what saves interruptions as the kernel has: at best, completions
/// interrupt nobody until this thread asks for them (Linux 6.1), else only where it enters the kernel
/// anyway (5.19).
fn build(issuer: Issuer) -> io::Result<IoUring> {
    let mut deferred = IoUring::builder();
    deferred.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
    let mut cooperative = IoUring::builder();
    cooperative.setup_coop_taskrun().setup_taskrun_flag();
    let mut candidates = vec![cooperative, IoUring::builder()];
    if issuer == Issuer::ThisThread {
        candidates.insert(0, deferred);
    }
    let mut last = io::ErrorKind::Unsupported.into();
    for builder in &mut candidates {
        builder.setup_r_disabled().setup_cqsize(COMPLETIONS).setup_clamp();
        match builder.build(SUBMISSIONS) {
            Ok(ring) => return Ok(ring),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn entry(call: &Call<'_>) -> squeue::Entry {
    let file = Fixed(call.file as u32);
    let list = call.slices.as_ptr().cast::<libc::iovec>();
    let count = call.slices.len() as u32;
    match (call.action, call.slices) {
        (Action::Read, [slice]) => {
            let length = u32::try_from(slice.length).unwrap_or(1 << 30);
            opcode::Read::new(file, slice.address as *mut u8, length).offset(call.offset).build()
        }
        (Action::Read, _) => opcode::Readv::new(file, list, count).offset(call.offset).build(),
        (Action::Write { durable }, [slice]) => {
            let length = u32::try_from(slice.length).unwrap_or(1 << 30);
            opcode::Write::new(file, slice.address as *const u8, length)
                .offset(call.offset)
                .rw_flags(rw_flags(durable))
                .build()
        }
        (Action::Write { durable }, _) => opcode::Writev::new(file, list, count)
            .offset(call.offset)
            .rw_flags(rw_flags(durable))
            .build(),
        (Action::Sync, _) => opcode::Fsync::new(file).flags(FsyncFlags::DATASYNC).build(),
        (Action::Punch, _) => allocate(file, call, libc::FALLOC_FL_PUNCH_HOLE),
        (Action::Zero, _) => allocate(file, call, libc::FALLOC_FL_ZERO_RANGE),
    }
}

fn rw_flags(durable: bool) -> i32 {
    if durable { libc::RWF_DSYNC } else { 0 }
}

fn allocate(file: Fixed, call: &Call<'_>, mode: i32) -> squeue::Entry {
    opcode::Fallocate::new(file, call.length)
        .offset(call.offset)
        .mode(mode | libc::FALLOC_FL_KEEP_SIZE)
        .build()
}
