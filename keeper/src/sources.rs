//! What wakes parked guests: their timers, and what comes at their sources.
//!
//! A source may have something that its guest does not take, however often it is woken: a client of a
//! console that its program does not use. It is looked at ever less often.

use crate::clock;
use crate::event::{Event, Reason};
use crate::keeper::Keeper;
use crate::watcher::Token;
use denali_launcher::Source;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Times in a row that a source may have something at the moment its guest is parked: by chance, it came just
/// then. Whoever comes to a guest that is much wanted shall not wait for that, and a few wakes in vain cost little.
const CHANCES: u8 = 8;

/// The first pause in which nobody looks at a source whose guest does not take what it has, in ns; each is
/// twice the one before.
const PAUSE_NS: u64 = 1_000_000_000;

/// The longest pause is 2 to the power of this of the first: 17 minutes.
const PAUSES_MAX: u8 = 10;

/// A source that had something when its guest was parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unread {
    source: u16,
    /// Times in a row that it had.
    times: u8,
    /// The other end is gone, and the guest has been woken for that.
    for_good: bool,
}

/// What is done about a source when its guest is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    /// The guest is woken when there is something.
    Always,
    /// The guest is woken after so many ns, for there is something all the time.
    After(u64),
    /// Nothing more will come.
    Never,
}

impl Keeper<'_> {
    /// Watches for what wakes a guest that is parked.
    pub(crate) fn watch(&mut self, number: u32) {
        let guest = &mut self.guests[number as usize];
        let mut wakes_at = guest.wakes_at();
        let mut unread = std::mem::take(&mut guest.unread);
        let sources = guest.sources();
        let (ready, mut problem) = (look(&sources), None);
        for (index, (source, ready)) in (0..).zip(sources.iter().zip(ready)) {
            match decide(&mut unread, index, ready) {
                Watch::Always => {
                    let token = Token::Source(number, index);
                    problem = self.watcher.once(source.descriptor, token).err().or(problem);
                }
                Watch::After(pause) => {
                    let at = clock::boot_ns().saturating_add(pause);
                    wakes_at = Some(wakes_at.map_or(at, |other| other.min(at)));
                }
                Watch::Never => {}
            }
        }
        guest.unread = unread;
        if let Some(error) = problem {
            let message = format!("cannot be woken by what comes for it: {error}");
            self.teller.tell(&Event::Notice { name: &guest.name, message });
        }
        if let Some(at) = wakes_at {
            self.wheel.set(number, at);
        }
    }

    /// Something came for a guest, at one of its sources.
    pub(crate) fn came(&mut self, number: u32, source: u16, hung_up: bool) {
        let guest = &mut self.guests[number as usize];
        // What was seen before it got its monitor is the monitor's now.
        if !guest.waits() {
            return;
        }
        let commands = guest.sources().get(usize::from(source)).map(|source| source.commands);
        match commands {
            Some(true) => self.accept_clients(number),
            Some(false) => {
                if hung_up {
                    guest.unread.retain(|unread| unread.source != source);
                    guest.unread.push(Unread { source, times: 1, for_good: true });
                }
                self.wake(number, Reason::Arrival);
            }
            None => {}
        }
    }
}

/// What each source has at the moment.
fn look(sources: &[Source<'_>]) -> Vec<PollFlags> {
    let mut polled: Vec<PollFd<'_>> =
        sources.iter().map(|source| PollFd::new(source.descriptor, PollFlags::POLLIN)).collect();
    match poll(&mut polled, PollTimeout::ZERO) {
        Ok(_) => {
            polled.iter().map(|polled| polled.revents().unwrap_or(PollFlags::empty())).collect()
        }
        // All of them are watched.
        Err(_) => vec![PollFlags::empty(); sources.len()],
    }
}

/// Decides about a source of a guest that is being parked, and remembers what it had.
fn decide(unread: &mut Vec<Unread>, source: u16, ready: PollFlags) -> Watch {
    let known = unread.iter().position(|unread| unread.source == source);
    if known.is_some_and(|known| unread[known].for_good) {
        return Watch::Never;
    }
    if ready.is_empty() {
        if let Some(known) = known {
            unread.swap_remove(known);
        }
        return Watch::Always;
    }
    let known = known.unwrap_or_else(|| {
        unread.push(Unread { source, times: 0, for_good: false });
        unread.len() - 1
    });
    let unread = &mut unread[known];
    unread.times = unread.times.saturating_add(1);
    match unread.times.checked_sub(CHANCES + 1) {
        None => Watch::Always,
        Some(_) if ready.contains(PollFlags::POLLHUP) => {
            unread.for_good = true;
            Watch::Never
        }
        Some(pauses) => Watch::After(PAUSE_NS << pauses.min(PAUSES_MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: PollFlags = PollFlags::empty();
    const SOMETHING: PollFlags = PollFlags::POLLIN;

    #[test]
    fn a_source_that_is_taken_from_is_always_watched() {
        let mut unread = Vec::new();
        for ready in [NOTHING, SOMETHING, NOTHING, SOMETHING, NOTHING] {
            assert_eq!(decide(&mut unread, 3, ready), Watch::Always);
        }
        assert!(unread.is_empty());
    }

    #[test]
    fn a_source_that_is_never_taken_from_is_looked_at_ever_less_often() {
        let mut unread = Vec::new();
        for _ in 0..CHANCES {
            assert_eq!(decide(&mut unread, 3, SOMETHING), Watch::Always);
        }
        assert_eq!(decide(&mut unread, 3, SOMETHING), Watch::After(PAUSE_NS));
        assert_eq!(decide(&mut unread, 1, SOMETHING), Watch::Always, "another one");
        assert_eq!(decide(&mut unread, 3, SOMETHING), Watch::After(2 * PAUSE_NS));
        for _ in 0..300 {
            decide(&mut unread, 3, SOMETHING);
        }
        assert_eq!(decide(&mut unread, 3, SOMETHING), Watch::After(PAUSE_NS << 10));
        assert_eq!(decide(&mut unread, 3, NOTHING), Watch::Always, "it was taken");
        assert_eq!(decide(&mut unread, 3, SOMETHING), Watch::Always);
    }

    #[test]
    fn a_source_that_hung_up_wakes_a_few_times_at_most() {
        let gone = SOMETHING | PollFlags::POLLHUP;
        let mut unread = Vec::new();
        for _ in 0..CHANCES {
            assert_eq!(decide(&mut unread, 3, gone), Watch::Always);
        }
        assert_eq!(decide(&mut unread, 3, gone), Watch::Never);
        assert_eq!(decide(&mut unread, 3, gone), Watch::Never);
        let mut unread = vec![Unread { source: 3, times: 1, for_good: true }];
        assert_eq!(
            decide(&mut unread, 3, gone),
            Watch::Never,
            "it was told of while it was parked"
        );
    }
}
