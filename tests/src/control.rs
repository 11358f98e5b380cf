//! A client of a monitor's control socket.

use crate::guest::{PATIENCE, wait_until};
use denali_control::{Life, Received, Request, Status, Tell, Told};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// A connection to a monitor.
pub struct Control(OwnedFd);

impl Control {
    /// Connects to the monitor that listens at `path`, once it does.
    #[track_caller]
    pub fn connect(path: &Path) -> Self {
        let mut socket = None;
        wait_until("a monitor listens for commands", || {
            socket = denali_control::connect(path).ok();
            socket.is_some()
        });
        let socket = socket.expect("it was awaited");
        limit_waiting(&socket);
        Self(socket)
    }

    /// Asks, and waits for the answer; `None` if the monitor is gone.
    #[track_caller]
    pub fn try_ask(&self, request: &Request) -> Option<Told> {
        request.tell(self.0.as_fd()).ok()?;
        self.answer()
    }

    /// Asks, and waits for the answer.
    #[track_caller]
    pub fn ask(&self, request: &Request) -> Told {
        self.try_ask(request).unwrap_or_else(|| panic!("the monitor is gone: {request:?}"))
    }

    /// What the monitor tells next; `None` if it is gone.
    #[track_caller]
    pub fn answer(&self) -> Option<Told> {
        let mut buffer = Vec::new();
        match denali_control::receive(self.0.as_fd(), &mut buffer) {
            Ok(Received::Message(_)) => {
                Some(serde_json::from_slice(&buffer).expect("an answer is a message"))
            }
            Ok(Received::Gone) => None,
            Ok(Received::Nothing) => panic!("no answer in {PATIENCE:?}"),
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// Asks to be the guest's keeper, which is what happens, or is refused: why.
    #[track_caller]
    pub fn adopt(&self) -> Result<Status, String> {
        match self.ask(&Request::Adopt {}) {
            Told::Status(status) => Ok(status),
            Told::Refused { why } => Err(why),
            other => panic!("not adopted: {other:?}"),
        }
    }

    /// How the guest is.
    #[track_caller]
    pub fn status(&self) -> Status {
        match self.ask(&Request::Status {}) {
            Told::Status(status) => status,
            other => panic!("no status: {other:?}"),
        }
    }

    /// Has the guest's memory leave as soon as it idles; the pages in its region then.
    #[track_caller]
    pub fn swap_out(&self) -> u64 {
        let mut stored = None;
        wait_until("the guest idles", || match self.ask(&Request::SwapOut {}) {
            Told::SwappedOut { pages } => {
                stored = Some(pages);
                true
            }
            Told::Refused { why } if why.contains("does not idle") => false,
            other => panic!("not swapped out: {other:?}"),
        });
        stored.expect("it was awaited")
    }

    /// Has the memory leave of a guest that may have something to do by itself still: until it is out in one
    /// piece with the look at it.
    #[track_caller]
    pub fn out(&self) -> Status {
        loop {
            self.swap_out();
            let status = self.status();
            if status.life == Life::SwappedOut {
                return status;
            }
        }
    }

    /// Has a copy of the guest written into an empty file; the pages in it, or why there is none.
    #[track_caller]
    pub fn snapshot(&self, file: &File) -> Result<u64, String> {
        let message = serde_json::to_vec(&Request::Snapshot {}).expect("a request is JSON");
        denali_control::send(self.0.as_fd(), &message, &[file.as_fd()])
            .expect("the monitor listens");
        match self.answer() {
            Some(Told::Snapshot { pages }) => Ok(pages),
            Some(Told::Refused { why }) => Err(why),
            other => panic!("no snapshot: {other:?}"),
        }
    }
}

/// Has calls on the socket give up when a test has failed anyway.
fn limit_waiting(socket: &OwnedFd) {
    let time = libc::timeval { tv_sec: PATIENCE.as_secs() as libc::time_t, tv_usec: 0 };
    // SAFETY: the value is valid, and as long as said, during the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const time).cast(),
            size_of_val(&time) as libc::socklen_t,
        )
    };
    assert_eq!(set, 0, "a socket takes options");
}
