//! What the server knows of a client that plays.

use super::Peer;
use super::bucket::Bucket;
use crate::protocol::{Command, Input};

/// Datagrams per tick that a client may send; several, because its clock need not be the server's.
const PER_TICK: u32 = 4;
/// Ticks' worth of datagrams that may come at once.
const BURST_TICKS: u32 = 8;

/// A client that plays.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) peer: Peer,
    pub(super) nonce: u64,
    pub(super) token: u64,
    /// When it was heard of last.
    pub(super) heard_ns: u64,
    /// The last tick it said it has.
    pub(super) has: Option<u32>,
    /// Sequence number of its last command; 0 for none.
    pub(super) sequence: u32,
    /// What it may send.
    pub(super) bucket: Bucket,
    last: Command,
    /// Whether any command since the last tick was to shoot.
    fired: bool,
}

impl Session {
    pub(super) fn new(now_ns: u64, peer: Peer, nonce: u64, token: u64, tick_hz: u8) -> Self {
        let per_s = PER_TICK * u32::from(tick_hz);
        Self {
            peer,
            nonce,
            token,
            heard_ns: now_ns,
            has: None,
            sequence: 0,
            bucket: Bucket::new(per_s, PER_TICK * BURST_TICKS),
            last: Command::default(),
            fired: false,
        }
    }

    /// Whether a datagram from this peer with this token is its.
    pub(super) fn is(&self, peer: Peer, token: u64) -> bool {
        self.peer == peer && self.token == token
    }

    /// Takes in commands, those that came before left out; `tick` is the last there was.
    pub(super) fn take(&mut self, now_ns: u64, input: &Input, tick: u32) {
        self.heard_ns = now_ns;
        if input.has.is_some_and(|has| has <= tick) {
            self.has = self.has.max(input.has);
        }
        let first = input.sequence.saturating_sub(input.commands.len() as u32) + 1;
        for (sequence, command) in (first..=input.sequence).zip(&input.commands) {
            if sequence > self.sequence {
                self.last = *command;
                self.fired |= command.fire;
            }
        }
        self.sequence = self.sequence.max(input.sequence);
    }

    /// What it wants in the next tick: the last it said, and to shoot if it said so at any time since
    /// the last tick.
    pub(super) fn command(&mut self) -> Command {
        let fire = core::mem::take(&mut self.fired) || self.last.fire;
        Command { fire, ..self.last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn session() -> Session {
        Session::new(0, Peer { address: [10, 0, 0, 1], port: 1 }, 1, 2, 30)
    }

    /// Commands that go east by their sequence numbers, and of which those in `fires` shoot.
    fn input(sequences: core::ops::RangeInclusive<u32>, fires: &[u32], has: Option<u32>) -> Input {
        let command = |n| Command { east: n as i8, fire: fires.contains(&n), ..Command::default() };
        let commands: Vec<_> = sequences.clone().map(command).collect();
        Input { token: 2, has, sequence: *sequences.end(), commands }
    }

    #[test]
    fn a_command_of_a_lost_datagram_comes_with_the_next() {
        let mut session = session();
        session.take(1, &input(1..=1, &[], None), 0);
        assert_eq!(session.command(), Command { east: 1, ..Command::default() });
        // The datagram that had 2 as its last command, to shoot, was lost.
        session.take(2, &input(1..=3, &[2], None), 0);
        assert_eq!(session.command(), Command { east: 3, fire: true, ..Command::default() });
        assert_eq!(session.command(), Command { east: 3, ..Command::default() }, "it fired once");
    }

    #[test]
    fn what_comes_late_or_twice_changes_nothing() {
        let mut session = session();
        session.take(5, &input(2..=4, &[3], None), 0);
        session.command();
        session.take(6, &input(2..=4, &[3], None), 0);
        session.take(7, &input(1..=3, &[1, 3], None), 0);
        assert_eq!(session.command(), Command { east: 4, ..Command::default() });
        assert_eq!((session.sequence, session.heard_ns), (4, 7));
    }

    #[test]
    fn what_a_client_has_only_grows_and_was_sent() {
        let mut session = session();
        session.take(1, &input(1..=1, &[], Some(10)), 9);
        assert_eq!(session.has, None, "there is no such tick");
        session.take(1, &input(2..=2, &[], Some(9)), 9);
        session.take(1, &input(3..=3, &[], Some(8)), 9);
        session.take(1, &input(4..=4, &[], None), 9);
        assert_eq!(session.has, Some(9));
    }

    #[test]
    fn the_last_sequence_number_is_no_panic() {
        let mut session = session();
        session.take(1, &input(u32::MAX - 1..=u32::MAX, &[], None), 0);
        assert_eq!(session.sequence, u32::MAX);
    }
}
