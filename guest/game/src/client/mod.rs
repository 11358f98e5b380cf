//! The client's side of the game: joins, says what its player wants, and keeps the world it was told.

mod assembly;

use crate::protocol::{
    Answer, COMMANDS_MAX, Closing, Command, Input, Refusal, Request, SnapshotPart, Welcome,
};
use crate::state::State;
use alloc::vec::Vec;
use assembly::{Assembly, Outcome};

/// ns after which a request of the handshake is sent again.
const RETRY_NS: u64 = 250_000_000;
/// ns without a snapshot after which a server is gone.
const PATIENCE_NS: u64 = 10_000_000_000;
/// Commands whose times of sending are kept.
const TIMES: usize = 64;

/// How far a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Says hello.
    Greeting,
    /// Asks to play, with this cookie.
    Joining(u64),
    /// Plays.
    Playing(Welcome),
    /// May not play.
    Refused(Refusal),
    /// Was told that its game is over.
    Closed(Closing),
    /// Does not hear from the server.
    Lost,
}

/// What a datagram brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Nothing that could be used.
    Nothing,
    /// The handshake went on, or the game ended: see [`Client::stage`].
    Progress,
    /// A part of a snapshot, the rest of which is missing.
    Part,
    /// A snapshot is complete, and right.
    Snapshot {
        /// Its tick.
        tick: u32,
    },
}

/// How long commands took until a snapshot came that knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Sequence number of the command.
    pub sequence: u32,
    /// ns between sending the datagram that had it as its last, and the arrival of the snapshot.
    pub ns: u64,
}

/// What a client has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Inputs sent.
    pub inputs: u64,
    /// Snapshots that were complete and right.
    pub snapshots: u64,
    /// Of these, those that were not differences from another.
    pub full: u64,
    /// Snapshots whose state was not the server's, or which no state can be made from: there are none
    /// unless one side is wrong.
    pub wrong: u64,
    /// Parts that came too late, twice, or on top of a state that is not kept.
    pub stale: u64,
    /// Datagrams that were not this client's.
    pub bad: u64,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    nonce: u64,
    stage: Stage,
    /// When the handshake's request was sent last.
    asked_ns: Option<u64>,
    /// When a snapshot came last.
    heard_ns: u64,
    assembly: Assembly,
    /// The last commands, the oldest first.
    commands: Vec<Command>,
    /// Sequence number of the last of them.
    sequence: u32,
    /// Sequence number up to which snapshots know the commands.
    known: u32,
    /// When the command n was sent, at n modulo [`TIMES`].
    sent_ns: [u64; TIMES],
    latencies: Vec<Latency>,
    counters: Counters,
    datagram: Vec<u8>,
}

impl Client {
    /// A client that has sent nothing. The nonce is random, so that nobody answers in the server's place.
    #[must_use]
    pub fn new(nonce: u64) -> Self {
        Self {
            nonce,
            stage: Stage::Greeting,
            asked_ns: None,
            heard_ns: 0,
            assembly: Assembly::default(),
            commands: Vec::with_capacity(COMMANDS_MAX),
            sequence: 0,
            known: 0,
            sent_ns: [0; TIMES],
            latencies: Vec::new(),
            counters: Counters::default(),
            datagram: Vec::new(),
        }
    }

    /// How far it is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Its number, while it plays.
    #[must_use]
    pub fn number(&self) -> Option<u8> {
        match self.stage {
            Stage::Playing(welcome) => Some(welcome.client),
            _ => None,
        }
    }

    /// The last tick it knows and the world at it.
    #[must_use]
    pub fn last(&self) -> Option<(u32, &State)> {
        self.assembly.last()
    }

    /// What it has seen.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Takes out how long the commands took that the last snapshots were the first to know.
    pub fn latencies(&mut self) -> impl Iterator<Item = Latency> {
        self.latencies.drain(..)
    }

    /// What to send at `now_ns`, if there is something: in the handshake whatever is missing, in the
    /// game what the player wants, which `wish` says. To be called as often as the player has wishes.
    pub fn frame(
        &mut self,
        now_ns: u64,
        wish: impl FnOnce(&State, u8) -> Command,
    ) -> Option<&[u8]> {
        match self.stage {
            Stage::Greeting => self.ask(now_ns, &Request::Hello { nonce: self.nonce }),
            Stage::Joining(cookie) => {
                self.ask(now_ns, &Request::Join { nonce: self.nonce, cookie })
            }
            Stage::Playing(welcome) => {
                if now_ns.saturating_sub(self.heard_ns) > PATIENCE_NS {
                    self.stage = Stage::Lost;
                    return None;
                }
                let state = self.assembly.last().map(|(_, state)| state);
                let command = state.map_or(Command::default(), |it| wish(it, welcome.client));
                self.input(now_ns, welcome.token, command);
                Some(&self.datagram)
            }
            Stage::Refused(_) | Stage::Closed(_) | Stage::Lost => None,
        }
    }

    /// The datagram with which a client stops playing, if it plays.
    pub fn leave(&mut self) -> Option<&[u8]> {
        let Stage::Playing(welcome) = self.stage else { return None };
        self.stage = Stage::Lost;
        Request::Leave { token: welcome.token }.encode(&mut self.datagram);
        Some(&self.datagram)
    }

    /// Takes in a datagram.
    pub fn receive(&mut self, now_ns: u64, datagram: &[u8]) -> Received {
        match Answer::decode(datagram) {
            Some(Answer::Snapshot(part)) if part.nonce == self.nonce as u32 => {
                self.take(now_ns, &part)
            }
            Some(Answer::Challenge { nonce, cookie }) if nonce == self.nonce => {
                self.progress(Stage::Joining(cookie), |stage| stage == Stage::Greeting)
            }
            Some(Answer::Welcome { nonce, welcome }) if nonce == self.nonce => {
                self.heard_ns = now_ns;
                self.progress(Stage::Playing(welcome), |stage| matches!(stage, Stage::Joining(_)))
            }
            Some(Answer::Refused { nonce, why }) if nonce == self.nonce => {
                // A cookie that is too old is no reason to give up.
                let next = match why {
                    Refusal::BadCookie => Stage::Greeting,
                    Refusal::Full => Stage::Refused(why),
                };
                self.progress(next, |stage| matches!(stage, Stage::Joining(_)))
            }
            Some(Answer::Closed { nonce, why }) if nonce == self.nonce => {
                self.progress(Stage::Closed(why), |stage| matches!(stage, Stage::Playing(_)))
            }
            _ => {
                self.counters.bad += 1;
                Received::Nothing
            }
        }
    }

    fn ask(&mut self, now_ns: u64, request: &Request) -> Option<&[u8]> {
        if self.asked_ns.is_some_and(|asked| now_ns < asked.saturating_add(RETRY_NS)) {
            return None;
        }
        self.asked_ns = Some(now_ns);
        request.encode(&mut self.datagram);
        Some(&self.datagram)
    }

    /// Goes to the next stage, if this one is one from which it is reached.
    fn progress(&mut self, next: Stage, is_before: impl FnOnce(Stage) -> bool) -> Received {
        if !is_before(self.stage) {
            return Received::Nothing;
        }
        self.stage = next;
        self.asked_ns = None;
        Received::Progress
    }

    fn input(&mut self, now_ns: u64, token: u64, command: Command) {
        if self.commands.len() == COMMANDS_MAX {
            self.commands.remove(0);
        }
        self.commands.push(command);
        self.sequence = self.sequence.saturating_add(1);
        self.sent_ns[self.sequence as usize % TIMES] = now_ns;
        self.counters.inputs += 1;
        // What the server knows need not be repeated, but the last command.
        let unknown = (self.sequence - self.known).max(1) as usize;
        let commands = self.commands[self.commands.len().saturating_sub(unknown)..].to_vec();
        let has = self.assembly.last().map(|(tick, _)| tick);
        let input = Input { token, has, sequence: self.sequence, commands };
        Request::Input(input).encode(&mut self.datagram);
    }

    fn take(&mut self, now_ns: u64, part: &SnapshotPart<'_>) -> Received {
        if !matches!(self.stage, Stage::Playing(_)) {
            self.counters.bad += 1;
            return Received::Nothing;
        }
        match self.assembly.add(part) {
            Outcome::Stale => {
                self.counters.stale += 1;
                Received::Nothing
            }
            Outcome::Wrong => {
                self.counters.wrong += 1;
                Received::Nothing
            }
            Outcome::Incomplete => Received::Part,
            Outcome::Complete => {
                self.heard_ns = now_ns;
                self.counters.snapshots += 1;
                self.counters.full += u64::from(part.back == 0);
                self.note_latencies(now_ns, part.sequence);
                Received::Snapshot { tick: part.tick }
            }
        }
    }

    fn note_latencies(&mut self, now_ns: u64, sequence: u32) {
        // A server cannot know what was not sent.
        let sequence = sequence.min(self.sequence);
        let kept = sequence.saturating_sub(TIMES as u32 - 1).max(1);
        for sequence in kept.max(self.known.saturating_add(1))..=sequence {
            let ns = now_ns.saturating_sub(self.sent_ns[sequence as usize % TIMES]);
            self.latencies.push(Latency { sequence, ns });
        }
        self.known = self.known.max(sequence);
    }
}
