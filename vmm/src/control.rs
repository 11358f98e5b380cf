//! Requests of a keeper or a person: who asks, what is asked, and the answers.

use crate::last_words;
use denali_control::{Received, Request, Tell, Told, receive};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, accept4};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Most clients at a time; further ones wait in the listening socket's queue.
const CLIENTS_MAX: usize = 8;

/// The monitor's end of the control protocol.
pub(crate) struct Control {
    /// Readable when somebody has something to say.
    epoll: OwnedFd,
    listener: Option<OwnedFd>,
    clients: Vec<Arc<OwnedFd>>,
    /// The client that is told of everything: the keeper.
    keeper: Option<RawFd>,
    asked: Option<Asking>,
    buffer: Vec<u8>,
}

/// A request that is not answered yet; meanwhile no other is taken.
pub(crate) struct Asking {
    client: RawFd,
    /// What is asked.
    pub(crate) request: Request,
    /// The descriptor that came along.
    pub(crate) file: Option<OwnedFd>,
}

impl Control {
    /// A control that listens at `listener` and is connected to a keeper by `channel`; `None` where there is
    /// neither.
    pub(crate) fn new(
        listener: Option<OwnedFd>,
        channel: Option<Arc<OwnedFd>>,
    ) -> io::Result<Option<Self>> {
        if listener.is_none() && channel.is_none() {
            return Ok(None);
        }
        let descriptor = epoll::create(true)?;
        // SAFETY: the descriptor was made by the call above and belongs to nobody else.
        let epoll = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let keeper = channel.as_ref().map(AsRawFd::as_raw_fd);
        let mut control =
            Self { epoll, listener, clients: Vec::new(), keeper, asked: None, buffer: Vec::new() };
        if let Some(listener) = &control.listener {
            control.watch(listener.as_raw_fd())?;
        }
        if let Some(channel) = channel {
            control.add(channel)?;
        }
        Ok(Some(control))
    }

    /// Becomes readable when [`Control::look`] would find something.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// The request that waits for its answer.
    pub(crate) fn asked(&self) -> Option<&Request> {
        self.asked.as_ref().map(|asking| &asking.request)
    }

    /// Takes the request that waits, to [answer](Control::answer) it.
    pub(crate) fn take(&mut self) -> Option<Asking> {
        self.asked.take()
    }

    /// Takes the descriptor that came along with the request that waits.
    pub(crate) fn take_file(&mut self) -> Option<OwnedFd> {
        self.asked.as_mut().and_then(|asking| asking.file.take())
    }

    /// Takes what clients have said, one request at a time, without waiting.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        while self.asked.is_none() {
            let mut events = [epoll::Event::new(epoll::Events::empty(), 0)];
            if epoll::wait(self.epoll.as_raw_fd(), 0, &mut events)? == 0 {
                break;
            }
            let source = { events[0].data } as RawFd;
            match self.listener.as_ref().map(AsRawFd::as_raw_fd) {
                Some(listener) if listener == source => self.accept(listener)?,
                _ => self.hear(source),
            }
        }
        self.buffer = Vec::new();
        Ok(())
    }

    /// Answers a request.
    pub(crate) fn answer(&mut self, asking: &Asking, told: &Told) {
        self.tell(asking.client, told);
    }

    /// Makes whoever asks the keeper, unless there is one already.
    ///
    /// # Errors
    /// Why not, in one line.
    pub(crate) fn adopt(&mut self) -> Result<(), String> {
        let Some(asking) = self.asked.as_ref().map(|asking| asking.client) else { return Ok(()) };
        let gone = self.keeper.filter(|&keeper| self.client(keeper).is_some_and(has_hung_up));
        // What it last asked for is nobody's wish any more.
        gone.into_iter().for_each(|keeper| self.forget(keeper));
        if self.keeper.is_some_and(|keeper| keeper != asking) {
            return Err("it has a keeper; whoever wants it must wait until that has gone".into());
        }
        self.keeper = Some(asking);
        last_words::are_for(
            self.clients.iter().find(|socket| socket.as_raw_fd() == asking).cloned(),
        );
        Ok(())
    }

    fn client(&self, number: RawFd) -> Option<BorrowedFd<'_>> {
        let found = self.clients.iter().find(|socket| socket.as_raw_fd() == number);
        found.map(|socket| socket.as_fd())
    }

    /// Whether there is a keeper.
    pub(crate) fn has_keeper(&self) -> bool {
        self.keeper.is_some()
    }

    /// Tells the keeper, if there is one.
    pub(crate) fn tell_keeper(&mut self, told: &Told) {
        if let Some(keeper) = self.keeper {
            self.tell(keeper, told);
        }
    }

    /// A client that does not take what it is told is one no more.
    fn tell(&mut self, client: RawFd, told: &Told) {
        if self.client(client).is_some_and(|socket| told.tell(socket).is_err()) {
            self.forget(client);
        }
    }

    fn accept(&mut self, listener: RawFd) -> io::Result<()> {
        match accept4(listener, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
            Ok(descriptor) => {
                // SAFETY: the descriptor was made by the call above and belongs to nobody else.
                let client = unsafe { OwnedFd::from_raw_fd(descriptor) };
                self.add(Arc::new(client))
            }
            Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM) => {
                // No room: nobody is heard any more, which is better than to be woken for ever.
                self.unwatch(listener);
                self.listener = None;
                Ok(())
            }
            // It has gone again.
            Err(_) => Ok(()),
        }
    }

    fn add(&mut self, client: Arc<OwnedFd>) -> io::Result<()> {
        self.watch(client.as_raw_fd())?;
        self.clients.push(client);
        if self.clients.len() == CLIENTS_MAX
            && let Some(listener) = &self.listener
        {
            self.unwatch(listener.as_raw_fd());
        }
        Ok(())
    }

    fn hear(&mut self, client: RawFd) {
        let found = self.clients.iter().find(|socket| socket.as_raw_fd() == client).cloned();
        let Some(socket) = found else { return self.unwatch(client) };
        match receive(socket.as_fd(), &mut self.buffer) {
            Ok(Received::Message(descriptors)) => self.understand(client, descriptors),
            Ok(Received::Nothing) => {}
            Ok(Received::Gone) | Err(_) => self.forget(client),
        }
    }

    fn understand(&mut self, client: RawFd, descriptors: Vec<OwnedFd>) {
        match serde_json::from_slice(&self.buffer) {
            Ok(request) => {
                let file = descriptors.into_iter().next();
                self.asked = Some(Asking { client, request, file });
            }
            Err(error) => {
                self.tell(client, &Told::Refused { why: format!("not understood: {error}") });
            }
        }
    }

    fn forget(&mut self, client: RawFd) {
        self.unwatch(client);
        self.clients.retain(|socket| socket.as_raw_fd() != client);
        if self.keeper == Some(client) {
            self.keeper = None;
            last_words::are_for(None);
        }
        if self.clients.len() == CLIENTS_MAX - 1
            && let Some(listener) = self.listener.as_ref().map(AsRawFd::as_raw_fd)
        {
            // It was watched before, so there is room for it.
            let _ = self.watch(listener);
        }
    }

    fn watch(&self, source: RawFd) -> io::Result<()> {
        let event = epoll::Event::new(epoll::Events::EPOLLIN, source as u64);
        let add = epoll::ControlOptions::EPOLL_CTL_ADD;
        match epoll::ctl(self.epoll.as_raw_fd(), add, source, event) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn unwatch(&self, source: RawFd) {
        let event = epoll::Event::new(epoll::Events::empty(), 0);
        // What is not watched need not be removed.
        let _ =
            epoll::ctl(self.epoll.as_raw_fd(), epoll::ControlOptions::EPOLL_CTL_DEL, source, event);
    }
}

/// Whether nobody is at the other end any more, whatever they have said before.
fn has_hung_up(socket: BorrowedFd<'_>) -> bool {
    let mut polled = libc::pollfd { fd: socket.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: the structure is valid during the call, which does not wait.
    let ready = unsafe { libc::poll(&raw mut polled, 1, 0) };
    ready > 0 && polled.revents & libc::POLLHUP != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use denali_control::pair;

    fn heard(socket: &OwnedFd) -> Option<Told> {
        let mut buffer = Vec::new();
        match receive(socket.as_fd(), &mut buffer).unwrap() {
            Received::Message(_) => Some(serde_json::from_slice(&buffer).unwrap()),
            _ => None,
        }
    }

    #[test]
    fn one_request_is_answered_after_the_other() {
        let (ours, theirs) = pair().unwrap();
        let mut control = Control::new(None, Some(theirs.into())).unwrap().unwrap();
        control.look().unwrap();
        assert!(control.asked().is_none());
        Request::Status {}.tell(ours.as_fd()).unwrap();
        Request::Park { cut: false }.tell(ours.as_fd()).unwrap();
        for expected in [Request::Status {}, Request::Park { cut: false }] {
            control.look().unwrap();
            let asking = control.take().unwrap();
            assert_eq!(asking.request, expected);
            control.answer(&asking, &Told::SwappedOut { pages: 1 });
            assert_eq!(heard(&ours), Some(Told::SwappedOut { pages: 1 }));
        }
        control.look().unwrap();
        assert!(control.asked().is_none());
    }

    #[test]
    fn what_is_not_understood_is_refused_and_who_leaves_is_forgotten() {
        let (ours, theirs) = pair().unwrap();
        let mut control = Control::new(None, Some(theirs.into())).unwrap().unwrap();
        denali_control::send(ours.as_fd(), b"{}", &[]).unwrap();
        control.look().unwrap();
        assert!(control.asked().is_none());
        assert!(matches!(heard(&ours), Some(Told::Refused { .. })));
        drop(ours);
        control.look().unwrap();
        assert!(control.clients.is_empty() && !control.has_keeper());
        control.tell_keeper(&Told::SwappedOut { pages: 1 });
    }

    /// Has a client ask to be the keeper of a guest.
    fn adopt(control: &mut Control, client: &OwnedFd) -> Result<(), String> {
        Request::Adopt {}.tell(client.as_fd()).unwrap();
        loop {
            control.look().unwrap();
            match control.asked() {
                Some(Request::Adopt {}) => break,
                // What others have asked for.
                _ => drop(control.take()),
            }
        }
        let adopted = control.adopt();
        control.take();
        adopted
    }

    #[test]
    fn the_first_who_asks_is_the_keeper_when_there_is_none_any_more() {
        let [(keeper, theirs), (first, one), (second, two)] = [0; 3].map(|_| pair().unwrap());
        let mut control = Control::new(None, Some(theirs.into())).unwrap().unwrap();
        for client in [one, two] {
            control.add(client.into()).unwrap();
        }
        assert!(adopt(&mut control, &first).unwrap_err().contains("has a keeper"));
        assert!(adopt(&mut control, &keeper).is_ok(), "it is that already");
        // It goes, and what it asked for just before is still there to be heard.
        Request::Status {}.tell(keeper.as_fd()).unwrap();
        drop(keeper);
        assert_eq!(adopt(&mut control, &first), Ok(()));
        assert!(adopt(&mut control, &second).is_err());
        control.tell_keeper(&Told::Parking {});
        assert_eq!((heard(&first), heard(&second)), (Some(Told::Parking {}), None));
        drop(first);
        assert_eq!(adopt(&mut control, &second), Ok(()));
    }

    #[test]
    fn nobody_to_be_heard_needs_no_control() {
        assert!(Control::new(None, None).unwrap().is_none());
    }
}
