//! A broker for tests: the real program, started as the launcher starts it, and a monitor's ends of its
//! channels.

#![allow(dead_code)] // each test crate uses a part of it

use denali_broker::{Answer, Channel, Client, Failure, Received, Service, Spec};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// After this long a test has failed: far more than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A broker that serves.
pub struct Broker {
    /// The monitor's ends of the channels.
    pub channels: Vec<OwnedFd>,
    /// Process id.
    pub pid: u32,
}

/// What came of a request.
#[derive(Debug)]
pub enum Outcome {
    Connected(OwnedFd),
    Failed(Failure),
    Resolved(Vec<u8>),
}

impl Broker {
    /// Starts a broker for these services.
    pub fn start(services: Vec<Service>) -> Self {
        let (mut ours, mut theirs, mut channels) = (Vec::new(), Vec::new(), Vec::new());
        for service in services {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let kind = SockType::SeqPacket;
            let (our, their) = socketpair(AddressFamily::Unix, kind, None, flags).unwrap();
            channels.push(Channel { socket: their.as_raw_fd(), service });
            ours.push(our);
            theirs.push(their);
        }
        let mut file = File::from(memfd_create(c"test", MFdFlags::MFD_CLOEXEC).unwrap());
        file.write_all(&serde_json::to_vec(&Spec { channels }).unwrap()).unwrap();
        file.rewind().unwrap();
        let argument = file.as_raw_fd().to_string();
        theirs.push(file.into());
        // Once the broker has left its parent it is this process's, which so learns how it ends.
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        // The broker is found by a descriptor that it alone has, once it has left its parent.
        let inode = std::fs::metadata(format!("/proc/self/fd/{}", theirs[0].as_raw_fd()));
        let inode = std::os::unix::fs::MetadataExt::ino(&inode.unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_denali-broker"));
        command.arg(argument).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::piped());
        let descriptors = theirs;
        // SAFETY: the closure makes system calls on descriptors that it owns and nothing else.
        unsafe {
            command.pre_exec(move || {
                let flag = libc::CLOSE_RANGE_CLOEXEC;
                libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flag);
                for descriptor in &descriptors {
                    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
                }
                Ok(())
            });
        }
        let mut first = command.spawn().unwrap();
        drop(command);
        let mut said = String::new();
        first.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "ready\n");
        assert!(first.wait().unwrap().success());
        let pid = process_with_socket(inode).expect("the broker has its channel");
        Self { channels: ours, pid }
    }

    /// The monitor's end of channel `index`, as a client; once.
    pub fn client(&mut self) -> Client {
        Client::new(self.channels.remove(0))
    }

    /// Waits until the process ends, which must be of its own accord.
    pub fn wait_for_its_end(&self) {
        let pid = nix::unistd::Pid::from_raw(self.pid as i32);
        until("the broker ends", || match waitpid(pid, Some(WaitPidFlag::WNOHANG)).unwrap() {
            WaitStatus::StillAlive => false,
            ended => {
                assert_eq!(ended, WaitStatus::Exited(pid, 0));
                true
            }
        });
    }
}

/// The process that has the socket with this inode open.
fn process_with_socket(inode: u64) -> Option<u32> {
    let wanted = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find(|pid| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets.into_iter().any(|target| target == Path::new(&wanted))
    })
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The next answer: its number and what it says; `None` when the broker is gone.
#[track_caller]
pub fn next_answer(client: &mut Client) -> Option<(u32, Outcome)> {
    let start = Instant::now();
    loop {
        match client.receive() {
            Received::Answer(Answer::Connected { id, socket }) => {
                return Some((id, Outcome::Connected(socket)));
            }
            Received::Answer(Answer::Failed { id, why }) => {
                return Some((id, Outcome::Failed(why)));
            }
            Received::Answer(Answer::Resolved { id, message }) => {
                return Some((id, Outcome::Resolved(message.to_vec())));
            }
            Received::Gone => return None,
            Received::Nothing => {
                assert!(start.elapsed() < PATIENCE, "no answer");
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }
}
