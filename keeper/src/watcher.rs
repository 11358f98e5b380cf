//! What the keeper waits for, and what each event is of.

use epoll::{ControlOptions, Event, Events};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Most events that are taken at once.
const AT_ONCE: usize = 64;

/// What an event is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A signal has come.
    Signals,
    /// The timer has gone off.
    Timer,
    /// Something is for a parked guest, at the source with this number.
    Source(u32, u16),
    /// A monitor says something.
    Channel(u32),
    /// Somebody who gives commands to a parked guest says something.
    Client(u32),
    /// Another thread asks for something.
    Orders,
    /// The switch says something.
    Switch,
}

/// Something that has happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Happened {
    pub(crate) token: Token,
    /// The other end is gone, and nothing more will come.
    pub(crate) hung_up: bool,
}

/// Waits for all of it.
pub(crate) struct Watcher {
    epoll: OwnedFd,
    events: [Event; AT_ONCE],
}

impl Watcher {
    pub(crate) fn new() -> io::Result<Self> {
        let descriptor = epoll::create(true)?;
        // SAFETY: the descriptor was made by the call above and belongs to nobody else.
        let epoll = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(Self { epoll, events: [Event::new(Events::empty(), 0); AT_ONCE] })
    }

    /// Tells of a descriptor whenever it is readable.
    pub(crate) fn add(&self, descriptor: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        self.control(ControlOptions::EPOLL_CTL_ADD, descriptor, Events::EPOLLIN, token)
    }

    /// Tells of a descriptor when it hangs up; and of everything from [`Watcher::heed`] on.
    pub(crate) fn add_unheeded(&self, descriptor: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        self.control(ControlOptions::EPOLL_CTL_ADD, descriptor, Events::empty(), token)
    }

    /// Tells of a descriptor that was added whenever it is readable, also if it is so already.
    pub(crate) fn heed(&self, descriptor: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        self.control(ControlOptions::EPOLL_CTL_MOD, descriptor, Events::EPOLLIN, token)
    }

    /// Tells of a descriptor the next time it is readable, and not again. A descriptor that is never
    /// readable by itself, such as a file's, is never told of.
    pub(crate) fn once(&self, descriptor: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        let events = Events::EPOLLIN | Events::EPOLLONESHOT;
        let mut result = self.control(ControlOptions::EPOLL_CTL_MOD, descriptor, events, token);
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            result = self.control(ControlOptions::EPOLL_CTL_ADD, descriptor, events, token);
        }
        match result {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        }
    }

    /// Tells of a descriptor no more.
    pub(crate) fn remove(&self, descriptor: BorrowedFd<'_>) {
        let delete = ControlOptions::EPOLL_CTL_DEL;
        // What is not watched need not be removed.
        let _ = self.control(delete, descriptor, Events::empty(), Token::Signals);
    }

    /// Waits for events: at most so many milliseconds; `None` = for ever.
    pub(crate) fn wait(&mut self, timeout_ms: Option<i32>) -> io::Result<Vec<Happened>> {
        let epoll = self.epoll.as_raw_fd();
        let count = match epoll::wait(epoll, timeout_ms.unwrap_or(-1), &mut self.events) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            other => other?,
        };
        let happened = |event: &Event| {
            let gone = Events::EPOLLHUP | Events::EPOLLERR;
            let hung_up = Events::from_bits_truncate(event.events).intersects(gone);
            Some(Happened { token: decode(event.data)?, hung_up })
        };
        Ok(self.events[..count].iter().filter_map(happened).collect())
    }

    fn control(
        &self,
        option: ControlOptions,
        descriptor: BorrowedFd<'_>,
        events: Events,
        token: Token,
    ) -> io::Result<()> {
        let event = Event::new(events, encode(token));
        epoll::ctl(self.epoll.as_raw_fd(), option, descriptor.as_raw_fd(), event)
    }
}

/// A token as the kernel keeps it: its kind, the number of a source, and whose it is.
fn encode(token: Token) -> u64 {
    let (kind, source, owner) = match token {
        Token::Signals => (0, 0, 0),
        Token::Timer => (1, 0, 0),
        Token::Source(guest, source) => (2, source, guest),
        Token::Channel(guest) => (3, 0, guest),
        Token::Client(client) => (4, 0, client),
        Token::Orders => (5, 0, 0),
        Token::Switch => (6, 0, 0),
    };
    kind << 48 | u64::from(source) << 32 | u64::from(owner)
}

fn decode(data: u64) -> Option<Token> {
    let (source, owner) = ((data >> 32) as u16, data as u32);
    match data >> 48 {
        0 => Some(Token::Signals),
        1 => Some(Token::Timer),
        2 => Some(Token::Source(owner, source)),
        3 => Some(Token::Channel(owner)),
        4 => Some(Token::Client(owner)),
        5 => Some(Token::Orders),
        6 => Some(Token::Switch),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn tokens_survive_the_kernel() {
        let (guest, source) = (0xffff_fffe, 0xfffe);
        for token in [
            Token::Signals,
            Token::Timer,
            Token::Source(guest, source),
            Token::Channel(guest),
            Token::Client(7),
            Token::Orders,
            Token::Switch,
        ] {
            assert_eq!(decode(encode(token)), Some(token));
        }
        assert_eq!(decode(u64::MAX), None);
    }

    #[test]
    fn sources_are_told_of_once_until_they_are_watched_again() {
        let mut watcher = Watcher::new().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        let token = Token::Source(3, 1);
        watcher.once(reader.as_fd(), token).unwrap();
        assert!(watcher.wait(Some(0)).unwrap().is_empty());
        writer.write_all(b"x").unwrap();
        for _ in 0..2 {
            let happened = watcher.wait(None).unwrap();
            assert!(matches!(happened[..], [Happened { token: t, hung_up: false }] if t == token));
            assert!(watcher.wait(Some(0)).unwrap().is_empty());
            watcher.once(reader.as_fd(), token).unwrap();
        }
        watcher.remove(reader.as_fd());
        watcher.remove(reader.as_fd());
        assert!(watcher.wait(Some(0)).unwrap().is_empty());
        let (reader, writer) = io::pipe().unwrap();
        watcher.add(reader.as_fd(), token).unwrap();
        drop(writer);
        assert!(matches!(watcher.wait(None).unwrap()[..], [Happened { hung_up: true, .. }]));
    }

    #[test]
    fn what_is_not_heeded_yet_wakes_nobody_and_is_not_lost() {
        let mut watcher = Watcher::new().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        let token = Token::Channel(3);
        watcher.add_unheeded(reader.as_fd(), token).unwrap();
        writer.write_all(b"x").unwrap();
        assert!(watcher.wait(Some(0)).unwrap().is_empty());
        watcher.heed(reader.as_fd(), token).unwrap();
        let happened = watcher.wait(None).unwrap();
        assert!(matches!(happened[..], [Happened { token: t, .. }] if t == token));
        watcher.remove(reader.as_fd());
        let (reader, writer) = io::pipe().unwrap();
        watcher.add_unheeded(reader.as_fd(), token).unwrap();
        drop(writer);
        assert!(matches!(watcher.wait(None).unwrap()[..], [Happened { hung_up: true, .. }]));
    }

    #[test]
    fn files_are_never_told_of() {
        let mut watcher = Watcher::new().unwrap();
        let file = tempfile::tempfile().unwrap();
        watcher.once(file.as_fd(), Token::Source(0, 0)).unwrap();
        assert!(watcher.wait(Some(0)).unwrap().is_empty());
    }
}
