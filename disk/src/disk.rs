//! A disk: cuts requests into pieces of files, has them done, and puts the outcomes together.

use crate::align::Alignment;
use crate::bounce::Bounce;
use crate::engine::{Call, Engine};
use crate::error::SetupError;
use crate::files::Files;
use crate::options::{DiskOptions, Method};
use crate::piece::{Action, Piece};
use crate::plain::Plain;
use crate::ring::{BareRing, Ring};
use crate::stripe::Layout;
use denali_devices::block::{BlockBackend, Failed, Geometry, Operation, RequestId, Wake};
use denali_devices::virtio::HostSlice;
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// Bytes of a sector.
const SECTOR: u64 = 512;

/// Longest time that [`BlockBackend::drain`] waits.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// Times a piece is begun again that the host keeps interrupting with nothing done.
const STALLS_MAX: u32 = 1000;

/// How long requests that the host had no room for wait to be tried again, in nanoseconds.
const RETRY_NS: u64 = 1_000_000;

/// A request whose pieces are under way.
#[derive(Clone, Copy, Debug, Default)]
struct Parts {
    left: u32,
    failed: bool,
}

/// A raw file, a block device of the host, or a striped set (RAID-0) of either, as a back end of a block
/// device. When it is dropped, it waits for what is in flight.
pub struct Disk {
    geometry: Geometry,
    layout: Layout,
    alignment: Alignment,
    engine: Engine,
    pieces: Vec<Piece>,
    free: Vec<u32>,
    /// Pieces for which the host had no room.
    waiting: VecDeque<u32>,
    requests: Vec<Parts>,
    in_flight: u32,
    done: VecDeque<(RequestId, Result<(), Failed>)>,
    bounce: Bounce,
    /// Scratch: the piece of each file that a request's next run of that file joins.
    joined: Vec<Option<u32>>,
    bounced: u64,
    errors: u64,
}

impl Disk {
    /// Gives up the files' locks: nothing is under way, and nothing will be begun, so that others may go on with
    /// them. Otherwise the host does so only some time after the disk is dropped, even after its process has
    /// ended.
    pub fn unlock(&self) {
        self.engine.files().unlock();
    }

    /// A disk made of open files, in their order. It can be written if all of them were opened so.
    ///
    /// # Errors
    /// When the files' sizes or the stripe unit are not usable, or the host refuses.
    pub fn new(files: Vec<OwnedFd>, options: &DiskOptions) -> Result<Self, SetupError> {
        Self::with_ring(files, options, None)
    }

    /// The same, on a ring that was made before for the same issuer, if it is to have one.
    ///
    /// # Errors
    /// As [`Disk::new`].
    pub fn with_ring(
        files: Vec<OwnedFd>,
        options: &DiskOptions,
        ring: Option<BareRing>,
    ) -> Result<Self, SetupError> {
        let layout = layout(files.len(), options.stripe_unit)?;
        let mut alignment = Alignment::NONE;
        let mut read_only = false;
        for file in &files {
            alignment = alignment.and(match options.pages && options.direct {
                true => Alignment::SAFE,
                false => Alignment::of(file.as_fd(), options.direct),
            });
            read_only |= opened_to_read(file)?;
        }
        let files = Files::new(files);
        let sectors = layout.capacity(files.size()?) / SECTOR;
        let block = u64::from(alignment.position) / SECTOR;
        let sectors = sectors / block * block;
        if sectors == 0 {
            return Err(SetupError::Size);
        }
        let geometry = Geometry {
            sectors,
            block_size: alignment.position,
            read_only,
            discard: true,
            write_zeroes: true,
        };
        let joined = vec![None; files.len()];
        Ok(Self {
            geometry,
            layout,
            alignment,
            engine: engine(files, options, ring)?,
            pieces: Vec::new(),
            free: Vec::new(),
            waiting: VecDeque::new(),
            requests: Vec::new(),
            in_flight: 0,
            done: VecDeque::new(),
            bounce: Bounce::default(),
            joined,
            bounced: 0,
            errors: 0,
        })
    }

    /// A descriptor that is readable while there are completions to be collected; `None` where every
    /// request completes at once.
    #[must_use]
    pub fn descriptor(&self) -> Option<RawFd> {
        self.engine.descriptor()
    }

    /// Whether it uses io_uring.
    #[must_use]
    pub fn uses_io_uring(&self) -> bool {
        matches!(self.engine, Engine::Ring(_))
    }

    /// Cuts a read or write into pieces, one for each file as far as calls go.
    fn transfer(&mut self, id: RequestId, action: Action, offset: u64, slices: &[HostSlice]) {
        let length = slices.iter().map(|slice| slice.length as u64).sum();
        let (layout, mut memory) = (self.layout, Cursor::new(slices));
        self.joined.fill(None);
        for run in layout.runs(offset, length) {
            let mut at = run.offset;
            memory.take(run.bytes.end - run.bytes.start, |slice| {
                let joined = self.joined[run.file];
                if joined.is_none_or(|piece| !self.pieces[piece as usize].push(slice)) {
                    let piece = self.new_piece(id, run.file, action);
                    self.pieces[piece as usize].offset = at;
                    self.pieces[piece as usize].push(slice);
                    self.joined[run.file] = Some(piece);
                }
                at += slice.length as u64;
            });
        }
    }

    /// Cuts a discard or write-zeroes into one range for each file.
    fn allocate(&mut self, id: RequestId, action: Action, hint: bool, range: (u64, u64)) {
        let layout = self.layout;
        self.joined.fill(None);
        for run in layout.runs(range.0, range.1) {
            let piece = self.joined[run.file].unwrap_or_else(|| {
                let piece = self.new_piece(id, run.file, action);
                self.pieces[piece as usize].offset = run.offset;
                self.pieces[piece as usize].hint = hint;
                piece
            });
            self.joined[run.file] = Some(piece);
            self.pieces[piece as usize].length += run.bytes.end - run.bytes.start;
        }
    }

    fn new_piece(&mut self, id: RequestId, file: usize, action: Action) -> u32 {
        let piece = self.free.pop().unwrap_or_else(|| {
            self.pieces.push(Piece::new());
            self.pieces.len() as u32 - 1
        });
        self.pieces[piece as usize].renew(id, file, action);
        self.requests[usize::from(id)].left += 1;
        self.waiting.push_back(piece);
        piece
    }

    /// Begins what waits, as far as there is room.
    fn begin_waiting(&mut self) {
        while let Some(piece) = self.waiting.pop_front() {
            if !self.begin(piece) {
                self.waiting.push_front(piece);
                return;
            }
        }
    }

    /// Begins what is left of a piece; false when there is no room. A piece that needs the bounce buffer
    /// while another has it is begun later.
    fn begin(&mut self, token: u32) -> bool {
        let piece = &mut self.pieces[token as usize];
        let (action, filled) = (piece.action, piece.filled);
        let transfers = matches!(action, Action::Read | Action::Write { .. });
        let bounces = transfers && !self.alignment.takes(piece.slices());
        if bounces && !self.bounce.acquire(token) {
            return true;
        }
        piece.bounced = bounces;
        let bounce_slice;
        let (action, slices, length) = if filled {
            let (zeroes, length) = self.bounce.zeroes(piece.length);
            (Action::Write { durable: false }, zeroes, length)
        } else if bounces {
            self.bounced += 1;
            bounce_slice = [self.bounce.slice(piece.length)];
            let length = bounce_slice[0].length;
            if action != Action::Read {
                // SAFETY: the slices are mapped until the request is reported as completed, which
                // `submit` was promised. The buffer is this piece's, which has nothing in flight.
                unsafe { self.bounce.fill(piece.slices(), length) };
            }
            (action, &bounce_slice[..], length as u64)
        } else {
            (action, piece.slices(), piece.length)
        };
        let call = Call { token, file: piece.file, action, offset: piece.offset, length, slices };
        // SAFETY: guest memory is mapped until the request is reported as completed. Buffers and lists
        // of the disk's own stay until then too: a list of one slice is not kept, the list of zeroes is
        // never moved, and a piece's list is not touched while it is in flight.
        if unsafe { self.engine.push(call) } {
            return true;
        }
        self.engine.start();
        // SAFETY: as above.
        unsafe { self.engine.push(call) }
    }

    /// Takes results; true when there were any.
    fn collect(&mut self) -> bool {
        let mut any = false;
        while let Some((token, result)) = self.engine.next() {
            any = true;
            self.finished(token, result);
        }
        any
    }

    /// A call for a piece came back: the piece is done, or begun again for what is left.
    fn finished(&mut self, token: u32, result: i32) {
        let Some(piece) = self.pieces.get_mut(token as usize) else { return };
        let transfers = piece.filled || matches!(piece.action, Action::Read | Action::Write { .. });
        let outcome = match result {
            1.. if transfers => {
                piece.stalls = 0;
                self.advanced(token, result as u64)
            }
            // The file ends early: someone has cut it.
            0 if transfers => Some(Err(Failed)),
            0.. => Some(Ok(())),
            _ => self.failed(token, -result),
        };
        match outcome {
            Some(outcome) => self.piece_done(token, outcome),
            None => self.waiting.push_back(token),
        }
    }

    fn advanced(&mut self, token: u32, bytes: u64) -> Option<Result<(), Failed>> {
        let piece = &mut self.pieces[token as usize];
        let bytes = bytes.min(piece.length);
        if piece.bounced && piece.action == Action::Read {
            // SAFETY: the slices are mapped and writable until the request is reported as completed,
            // which `submit` was promised. The buffer is this piece's, and the read into it is over.
            unsafe { self.bounce.empty(piece.slices(), bytes as usize) };
        }
        piece.advance(bytes);
        (piece.length == 0).then_some(Ok(()))
    }

    fn failed(&mut self, token: u32, error: i32) -> Option<Result<(), Failed>> {
        let piece = &mut self.pieces[token as usize];
        let unsupported = error == libc::EOPNOTSUPP || error == libc::ENOSYS;
        match piece.action {
            _ if matches!(error, libc::EINTR | libc::EAGAIN) && piece.stalls < STALLS_MAX => {
                piece.stalls += 1;
                None
            }
            Action::Punch if unsupported && piece.hint => Some(Ok(())),
            Action::Punch | Action::Zero if unsupported && !piece.filled => {
                piece.filled = true;
                None
            }
            _ => Some(Err(Failed)),
        }
    }

    fn piece_done(&mut self, token: u32, outcome: Result<(), Failed>) {
        if let Some(next) = self.bounce.release(token) {
            self.waiting.push_back(next);
        }
        self.free.push(token);
        let id = self.pieces[token as usize].request;
        let request = &mut self.requests[usize::from(id)];
        request.failed |= outcome.is_err();
        request.left -= 1;
        if request.left == 0 {
            let failed = request.failed;
            self.request_done(id, if failed { Err(Failed) } else { Ok(()) });
        }
    }

    fn request_done(&mut self, id: RequestId, outcome: Result<(), Failed>) {
        self.errors += u64::from(outcome.is_err());
        self.in_flight -= 1;
        self.done.push_back((id, outcome));
    }

    /// Collects results, and begins again what is not done, until there is nothing more to do at once.
    fn work(&mut self) {
        while self.collect() && !self.waiting.is_empty() {
            self.begin_waiting();
            self.engine.start();
        }
    }
}

impl BlockBackend for Disk {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    unsafe fn submit(&mut self, id: RequestId, operation: Operation, slices: &[HostSlice]) {
        let index = usize::from(id);
        if self.requests.len() <= index {
            self.requests.resize(index + 1, Parts::default());
        }
        self.requests[index] = Parts::default();
        self.in_flight += 1;
        let length: u64 = slices.iter().map(|slice| slice.length as u64).sum();
        match operation {
            Operation::Read { offset } | Operation::Write { offset, .. }
                if !self.alignment.allows(offset, length) => {}
            Operation::Read { offset } => self.transfer(id, Action::Read, offset, slices),
            Operation::Write { offset, durable } => {
                self.transfer(id, Action::Write { durable }, offset, slices);
            }
            Operation::Flush => {
                for file in 0..self.layout.files {
                    self.new_piece(id, file, Action::Sync);
                }
            }
            Operation::Discard { offset, length } => {
                self.allocate(id, Action::Punch, true, (offset, length));
            }
            Operation::WriteZeroes { offset, length, unmap } => {
                let action = if unmap { Action::Punch } else { Action::Zero };
                self.allocate(id, action, false, (offset, length));
            }
        }
        if self.requests[index].left == 0 {
            self.request_done(id, Err(Failed));
        }
        self.begin_waiting();
    }

    fn start(&mut self) {
        self.begin_waiting();
        self.engine.start();
    }

    fn completed(&mut self, done: &mut dyn FnMut(RequestId, Result<(), Failed>)) {
        self.work();
        while let Some((id, outcome)) = self.done.pop_front() {
            done(id, outcome);
        }
        if self.in_flight == 0 {
            self.engine.wake(None);
        }
    }

    fn wake(&mut self, when: Wake) {
        let stalled = !self.waiting.is_empty();
        self.engine.wake(Some(if stalled { Wake::After(RETRY_NS) } else { when }));
    }

    fn drain(&mut self) -> bool {
        let begun = Instant::now();
        while self.in_flight > 0 && begun.elapsed() < DRAIN_MAX {
            self.start();
            self.work();
            if self.in_flight > 0 {
                self.engine.wait();
            }
        }
        self.in_flight == 0
    }

    fn wait(&mut self) {
        self.start();
        self.work();
        if self.done.is_empty() && self.in_flight > 0 {
            self.engine.wait();
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("io_calls", self.engine.calls()),
            ("io_bounced", self.bounced),
            ("io_errors", self.errors),
        ]
    }
}

impl Drop for Disk {
    /// The kernel still writes into memory that others may take.
    fn drop(&mut self) {
        while !self.drain() {}
    }
}

/// Walks along a list of slices.
struct Cursor<'a> {
    slices: &'a [HostSlice],
    /// Bytes of the first slice that are done with.
    inside: usize,
}

impl<'a> Cursor<'a> {
    fn new(slices: &'a [HostSlice]) -> Self {
        Self { slices, inside: 0 }
    }

    /// Hands `each` the next `length` bytes.
    fn take(&mut self, length: u64, mut each: impl FnMut(HostSlice)) {
        let mut left = length as usize;
        while let (Some(slice), 1..) = (self.slices.first(), left) {
            let now = left.min(slice.length - self.inside);
            if now > 0 {
                each(HostSlice { address: slice.address + self.inside, length: now });
            }
            left -= now;
            self.inside += now;
            if self.inside == slice.length {
                self.slices = &self.slices[1..];
                self.inside = 0;
            }
        }
    }
}

fn layout(files: usize, unit: u64) -> Result<Layout, SetupError> {
    match files {
        0 => Err(SetupError::Stripes("a disk has at least one file")),
        1 => Ok(Layout::ONE),
        _ if !unit.is_power_of_two() || unit < 4096 => {
            Err(SetupError::Stripes("a stripe unit is a power of two of at least 4096 bytes"))
        }
        _ => Ok(Layout { files, unit }),
    }
}

fn opened_to_read(file: &OwnedFd) -> Result<bool, SetupError> {
    // SAFETY: the descriptor is open; the call touches no memory.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 {
        let error = std::io::Error::last_os_error();
        return Err(SetupError::host("examine a disk's file")(error));
    }
    Ok(flags & libc::O_ACCMODE == libc::O_RDONLY)
}

fn engine(
    files: Files,
    options: &DiskOptions,
    ring: Option<BareRing>,
) -> Result<Engine, SetupError> {
    if options.method == Method::Plain {
        return Ok(Engine::Plain(Plain::new(files)));
    }
    match Ring::new(files, options.issuer, ring) {
        Ok(ring) => Ok(Engine::Ring(Box::new(ring))),
        Err((_, files)) if options.method == Method::Auto => Ok(Engine::Plain(Plain::new(files))),
        Err((error, _)) => Err(error),
    }
}
