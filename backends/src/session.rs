//! The loop that serves one front end: its requests, its rings, the device's own events.

use crate::Device;
use crate::early;
use crate::front_end::FrontEnd;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vhost::vhost_user::{BackendReqHandler, Error, VhostUserBackendReqHandlerMut};

/// Data of the front end's socket in the epoll descriptor; rings have their index.
const SOCKET: u64 = u64::MAX;
/// Data of the device's descriptor.
const WAKE: u64 = u64::MAX - 1;

/// Most events taken at once.
const EVENTS: usize = 8;

/// One front end, connected.
pub struct Session {
    requests: BackendReqHandler<Mutex<FrontEnd>>,
    front_end: Arc<Mutex<FrontEnd>>,
    epoll: OwnedFd,
}

/// Why a front end was let go of.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// It broke the protocol, or asked for what cannot be.
    #[error("the front end asked for what cannot be: {0}")]
    Request(Error),
    /// The operating system refused something.
    #[error("cannot watch the front end: {0}")]
    Watch(#[from] io::Error),
}

impl Session {
    /// A session with the front end at the other end of `socket`. This opens what the loop needs.
    ///
    /// # Errors
    /// When the operating system has no descriptors left.
    pub fn new(socket: UnixStream, device: Device) -> io::Result<Self> {
        let epoll = epoll_descriptor()?;
        let events = epoll::Events::EPOLLIN;
        let add = |fd, data| {
            let event = epoll::Event::new(events, data);
            epoll::ctl(epoll.as_raw_fd(), epoll::ControlOptions::EPOLL_CTL_ADD, fd, event)
        };
        add(socket.as_raw_fd(), SOCKET)?;
        if let Some(wake) = device.wake {
            add(wake, WAKE)?;
        }
        #[expect(
            clippy::arc_with_non_send_sync,
            reason = "the vhost crate wants one; all is one thread"
        )]
        let front_end = Arc::new(Mutex::new(FrontEnd::new(device, epoll.try_clone()?)));
        let requests = BackendReqHandler::from_stream(socket, Arc::clone(&front_end));
        Ok(Self { requests, front_end, epoll })
    }

    /// Serves the front end until it leaves.
    ///
    /// # Errors
    /// When it broke the protocol, and therefore is not served any longer.
    pub fn run(&mut self) -> Result<(), SessionError> {
        let mut events = [epoll::Event::new(epoll::Events::empty(), 0); EVENTS];
        let mut more = false;
        loop {
            let timeout = if more { 0 } else { lock(&self.front_end).timeout() };
            let count = match epoll::wait(self.epoll.as_raw_fd(), timeout, &mut events) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => return Err(error.into()),
            };
            let asked = events[..count].iter().any(|event| event.data == SOCKET);
            if asked && !self.answer()? {
                return Ok(());
            }
            more = lock(&self.front_end).service();
        }
    }

    /// Answers one request; false when the front end has left.
    fn answer(&mut self) -> Result<bool, SessionError> {
        if !lock(&self.front_end).agreed() && self.answer_early()? {
            return Ok(true);
        }
        match self.requests.handle_request() {
            Ok(()) => Ok(true),
            Err(Error::Disconnected | Error::PartialMessage | Error::SocketBroken(_)) => Ok(false),
            Err(error) => Err(SessionError::Request(error)),
        }
    }

    /// Answers a request that comes before its time; false when the next one does not.
    fn answer_early(&mut self) -> Result<bool, SessionError> {
        let Some(request) = early::take(self.requests.as_raw_fd())? else { return Ok(false) };
        let result = lock(&self.front_end).set_vring_enable(request.index, request.enable);
        if request.need_reply {
            early::reply(&self.requests, result.is_ok())?;
        }
        result.map(|()| true).map_err(SessionError::Request)
    }

    /// What happened, in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let front_end = lock(&self.front_end);
        let counters = front_end.counters();
        let mut line =
            format!("services {}, interrupts {}", counters.services, counters.interrupts);
        for (name, value) in front_end.device_counters() {
            line.push_str(&format!(", {name} {value}"));
        }
        line
    }
}

fn epoll_descriptor() -> io::Result<OwnedFd> {
    let number = epoll::create(true)?;
    // SAFETY: the descriptor was made by the call above and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// There is one thread, and it does not go on after a panic.
fn lock(front_end: &Mutex<FrontEnd>) -> MutexGuard<'_, FrontEnd> {
    front_end.lock().unwrap_or_else(PoisonError::into_inner)
}
