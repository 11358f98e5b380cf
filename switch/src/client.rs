//! The supervisor's side: how a switch is started, and talked to.

use crate::message;
use crate::options::{Options, Spec};
use crate::protocol::{Activity, Ask, MESSAGE_MAX, PORTS_MAX, Port, PortNumber, Told};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What the program says when it is ready.
pub(crate) const READY: &str = "ready\n";

/// Ports in one [`Ask::Set`], which then fits a message however long the numbers are, unless ports have
/// very many `wakes`; and those of one [`Told::Connected`].
pub const PORTS_IN_MESSAGE: usize = 256;

/// Numbers of the program's descriptors.
const CONTROL: RawFd = 3;
const UPLINK: RawFd = 4;

/// A listening socket at `path` for a switch, which [`Client::connect`] finds.
///
/// # Errors
/// What the host says, for instance that something is at `path` already.
pub fn control_socket(path: &Path) -> io::Result<OwnedFd> {
    let made = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    bind(made.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&made, Backlog::new(4)?)?;
    Ok(made)
}

/// Starts the program `program` with a listening control socket and, if there is one, the TUN interface that
/// leads to the host, and waits until it is ready. It has a session of its own and lives on when its
/// parent ends.
///
/// # Errors
/// When it cannot be started or says why it does not work.
pub fn start(
    program: &Path,
    control: &OwnedFd,
    uplink: Option<&OwnedFd>,
    options: &Options,
) -> io::Result<Child> {
    options.check().map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
    let spec = Spec { control: CONTROL, uplink: uplink.map(|_| UPLINK), options: options.clone() };
    // It is started in the root directory, so as to hold no other.
    let mut command = Command::new(std::path::absolute(program)?);
    command
        .arg0("denali-switch")
        .arg(serde_json::to_string(&spec)?)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let (control, uplink) = (control.as_raw_fd(), uplink.map(AsRawFd::as_raw_fd));
    // SAFETY: between fork and exec the closure makes system calls and nothing else.
    unsafe { command.pre_exec(move || pass_on(control, uplink)) };
    let mut child = command.spawn()?;
    match hear_ready(&mut child) {
        Ok(()) => Ok(child),
        Err(error) => {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

fn hear_ready(child: &mut Child) -> io::Result<()> {
    let mut said = String::new();
    if let Some(pipe) = child.stderr.take() {
        pipe.take(4096).read_to_string(&mut said)?;
    }
    if said == READY {
        return Ok(());
    }
    let why = if said.is_empty() { "it ended without a word" } else { said.trim_end() };
    Err(io::Error::other(format!("the switch did not start: {why}")))
}

/// Puts the descriptors where the program looks for them, and has exec close all others.
fn pass_on(control: RawFd, uplink: Option<RawFd>) -> io::Result<()> {
    // Numbers that nothing is moved from while something is moved to them.
    let aside = |number: RawFd| {
        // SAFETY: plain numbers.
        Errno::result(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, UPLINK + 1) })
    };
    let (control, uplink) = (aside(control)?, uplink.map(aside).transpose()?);
    // SAFETY: plain numbers. Nothing of this process is used any more but what exec keeps.
    unsafe {
        Errno::result(libc::dup2(control, CONTROL))?;
        let first = match uplink {
            Some(uplink) => {
                Errno::result(libc::dup2(uplink, UPLINK))?;
                UPLINK + 1
            }
            None => UPLINK,
        };
        let flag = libc::CLOSE_RANGE_CLOEXEC as libc::c_uint;
        let (first, last) = (first as libc::c_uint, libc::c_uint::MAX);
        Errno::result(libc::syscall(libc::SYS_close_range, first, last, flag))?;
    }
    Ok(())
}

/// A supervisor's connection to a switch.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    buffer: Box<[u8]>,
}

impl Client {
    /// Connects to the switch whose control socket is at `path`. Whoever was connected before is no more.
    ///
    /// # Errors
    /// What the host says.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let made = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        connect(made.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Self::new(made))
    }

    /// A client on a connected socket, which may block or not.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: vec![0; MESSAGE_MAX].into() }
    }

    /// Asks; `passed` goes along.
    ///
    /// # Errors
    /// What the host says: `WouldBlock` if the socket does not block and the switch is behind,
    /// `InvalidData` for a message that is too long.
    pub fn ask(&self, ask: &Ask, passed: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let bytes =
            message::encode(ask).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
        Ok(message::send(&self.socket, &bytes, passed)?)
    }

    /// Asks for ports, however many, in as many messages as it takes.
    ///
    /// # Errors
    /// As with [`Client::ask`].
    pub fn set(&self, ports: &[Port]) -> io::Result<()> {
        for some in ports.chunks(PORTS_IN_MESSAGE) {
            self.ask(&Ask::Set { ports: some.to_vec() }, None)?;
        }
        Ok(())
    }

    /// What the switch says next, and the descriptor that came along; `None` when it is gone.
    ///
    /// # Errors
    /// What the host says: `WouldBlock` if the socket does not block and there is nothing; `InvalidData` when
    /// the switch says what this version does not understand.
    pub fn receive(&mut self) -> io::Result<Option<(Told, Option<OwnedFd>)>> {
        let received = match message::receive(&self.socket, &mut self.buffer) {
            Err(Errno::ECONNRESET) => return Ok(None),
            other => other?,
        };
        if received.length == 0 {
            return Ok(None);
        }
        let told = message::decode(&self.buffer[..received.length])
            .map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
        Ok(Some((told, received.passed)))
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The table of what ports do, as the switch shares it with [`Told::Hello`].
#[derive(Debug)]
pub struct Table {
    base: std::ptr::NonNull<Activity>,
}

/// Bytes of the table.
pub(crate) const TABLE_BYTES: usize = PORTS_MAX as usize * size_of::<Activity>();

impl Table {
    /// Maps the table for reading.
    ///
    /// # Errors
    /// When it is not as large as it should be, could be cut later, or the host has no room for it.
    pub fn map(file: &OwnedFd) -> io::Result<Self> {
        let status = nix::sys::stat::fstat(file)?;
        let seals = nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_GET_SEALS)?;
        if status.st_size != TABLE_BYTES as i64 || seals & libc::F_SEAL_SHRINK == 0 {
            return Err(io::Error::other("what came along is not the table of a switch"));
        }
        Self::map_with(file, libc::PROT_READ)
    }

    /// Maps the table, of which there must be all.
    pub(crate) fn map_with(file: &OwnedFd, protection: libc::c_int) -> io::Result<Self> {
        let null = std::ptr::null_mut();
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, where the kernel finds room for it.
        let base = unsafe { libc::mmap(null, TABLE_BYTES, protection, flags, file.as_raw_fd(), 0) };
        match std::ptr::NonNull::new(base.cast()) {
            Some(base) if base.as_ptr() != libc::MAP_FAILED.cast() => Ok(Self { base }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// What a port does.
    #[must_use]
    pub fn get(&self, port: PortNumber) -> Option<&Activity> {
        // SAFETY: the mapping has room for so many, is as large as its file, which cannot be cut, and lives as
        // long as `self`; the numbers are atomic, and any bytes are numbers.
        (port < PORTS_MAX).then(|| unsafe { self.base.add(port as usize).as_ref() })
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: the mapping is this structure's own; nothing borrows from it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), TABLE_BYTES) };
    }
}

// SAFETY: the mapping belongs to the process, not to a thread, and has atomic numbers only.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}
