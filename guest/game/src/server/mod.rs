//! The server's side of the game.

mod bucket;
mod history;
mod secrets;
mod session;

use crate::delta::Delta;
use crate::pace::Pace;
use crate::protocol::{
    Answer, Closing, DATAGRAM_MAX, Input, Refusal, Request, SNAPSHOT_HEADER, SnapshotPart, Welcome,
};
use crate::state::State;
use crate::status::Status;
use crate::world::{PLAYERS, World};
use alloc::boxed::Box;
use alloc::vec::Vec;
use bucket::Bucket;
use history::History;
use secrets::Secrets;
use session::Session;

/// Most clients that any server takes.
pub const CLIENTS_MAX: u8 = PLAYERS as u8;
/// Bytes of entries in a datagram.
const ENTRIES_MAX: usize = DATAGRAM_MAX - SNAPSHOT_HEADER;
/// Answers per second to who has not joined; as many again may come at once.
const HANDSHAKES_PER_S: u32 = 400;
/// The same for the status, whose answers are larger.
const STATUSES_PER_S: u32 = 100;

/// Who a datagram comes from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// IPv4 address.
    pub address: [u8; 4],
    /// UDP port.
    pub port: u16,
}

/// What takes datagrams to be sent. It may lose them.
pub trait Outbox {
    /// Sends a datagram of at most [`DATAGRAM_MAX`] bytes.
    fn send(&mut self, to: Peer, datagram: &[u8]);
}

/// How a server is to be.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Ticks per second: 1 to 255.
    pub tick_hz: u8,
    /// Most clients: 1 to [`CLIENTS_MAX`].
    pub clients: u8,
    /// After so long without a datagram a client is gone, in ns.
    pub patience_ns: u64,
    /// What nobody else may know: 16 random bytes.
    pub secret: [u64; 2],
}

/// A server.
#[derive(Debug)]
pub struct Server {
    settings: Settings,
    secrets: Secrets,
    world: World,
    pace: Pace,
    history: History,
    sessions: [Option<Session>; PLAYERS],
    handshakes: Bucket,
    statuses: Bucket,
    status: Status,
    delta: Delta,
    /// The datagram that is being written.
    datagram: Vec<u8>,
}

impl Server {
    /// A server that nobody plays on. Settings out of their ranges count as the nearest in it.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let tick_hz = settings.tick_hz.max(1);
        let settings =
            Settings { tick_hz, clients: settings.clients.clamp(1, CLIENTS_MAX), ..settings };
        let status = Status {
            tick_hz: u32::from(tick_hz),
            clients_max: u32::from(settings.clients),
            ..Status::default()
        };
        Self {
            secrets: Secrets::new(settings.secret),
            world: World::new(u32::from(tick_hz), settings.secret[0] ^ settings.secret[1]),
            pace: Pace::new(u32::from(tick_hz)),
            history: History::default(),
            sessions: [const { None }; PLAYERS],
            handshakes: Bucket::new(HANDSHAKES_PER_S, HANDSHAKES_PER_S),
            statuses: Bucket::new(STATUSES_PER_S, STATUSES_PER_S),
            status,
            delta: Delta::default(),
            datagram: Vec::with_capacity(DATAGRAM_MAX),
            settings,
        }
    }

    /// When [`Server::advance`] wants to be called, in ns; `None` while nobody plays.
    #[must_use]
    pub fn due_ns(&self) -> Option<u64> {
        self.pace.due_ns()
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The last tick, and the world at it.
    #[must_use]
    pub fn last(&self) -> (u32, &State) {
        self.history.last()
    }

    /// Takes in a datagram; answers go to `out`.
    pub fn receive(&mut self, now_ns: u64, from: Peer, datagram: &[u8], out: &mut impl Outbox) {
        self.status.received += 1;
        self.status.received_bytes += datagram.len() as u64;
        let Some(request) = Request::decode(datagram) else {
            self.status.bad += 1;
            return;
        };
        match request {
            Request::Input(input) => self.take_input(now_ns, from, &input),
            Request::Leave { token } => self.let_leave(from, token),
            Request::Status { nonce } => {
                if self.allows(now_ns, |server| &mut server.statuses) {
                    let answer = Answer::Status { nonce, status: Box::new(self.status.clone()) };
                    self.answer(from, &answer, out);
                }
            }
            Request::Hello { nonce } => {
                if self.allows(now_ns, |server| &mut server.handshakes) {
                    let cookie = self.secrets.cookie(now_ns, from, nonce);
                    self.answer(from, &Answer::Challenge { nonce, cookie }, out);
                }
            }
            Request::Join { nonce, cookie } => {
                if self.allows(now_ns, |server| &mut server.handshakes) {
                    let answer = match self.join(now_ns, from, nonce, cookie) {
                        Ok(welcome) => Answer::Welcome { nonce, welcome },
                        Err(why) => Answer::Refused { nonce, why },
                    };
                    self.answer(from, &answer, out);
                }
            }
        }
    }

    /// Moves the world by a tick if one is due, and sends everybody the snapshot. Ticks that were
    /// missed are left out. True if there was a tick.
    pub fn advance(&mut self, now_ns: u64, out: &mut impl Outbox) -> bool {
        let Some(begun) = self.pace.begin(now_ns) else { return false };
        self.status.ticks += 1;
        self.status.missed += begun.missed;
        self.status.lateness.record(begun.late_ns / 1000);
        self.drop_silent(now_ns, out);
        for (number, session) in (0_u8..).zip(&mut self.sessions) {
            if let Some(session) = session {
                self.world.command(number, session.command());
            }
        }
        self.world.step();
        self.history.add(|state| self.world.show(state));
        self.send_snapshots(out);
        true
    }

    /// Ends everybody's game.
    pub fn stop(&mut self, out: &mut impl Outbox) {
        for number in 0..CLIENTS_MAX {
            self.close(number, Closing::Stopping, out);
        }
    }

    fn allows(&mut self, now_ns: u64, which: impl FnOnce(&mut Self) -> &mut Bucket) -> bool {
        let allowed = which(self).take(now_ns);
        self.status.limited += u64::from(!allowed);
        allowed
    }

    fn take_input(&mut self, now_ns: u64, from: Peer, input: &Input) {
        let tick = self.history.last().0;
        let known = self.sessions.iter_mut().flatten().find(|it| it.is(from, input.token));
        let Some(session) = known else {
            self.status.bad += 1;
            return;
        };
        if session.bucket.take(now_ns) {
            session.take(now_ns, input, tick);
        } else {
            self.status.limited += 1;
        }
    }

    fn let_leave(&mut self, from: Peer, token: u64) {
        let known =
            |session: &Option<Session>| session.as_ref().is_some_and(|it| it.is(from, token));
        match self.sessions.iter().position(known) {
            Some(number) => self.remove(number as u8),
            None => self.status.bad += 1,
        }
    }

    /// Lets a client play that knows its cookie. Who asks twice gets the same answer twice.
    fn join(
        &mut self,
        now_ns: u64,
        from: Peer,
        nonce: u64,
        cookie: u64,
    ) -> Result<Welcome, Refusal> {
        if !self.secrets.knows(now_ns, from, nonce, cookie) {
            self.status.bad += 1;
            return Err(Refusal::BadCookie);
        }
        let tick_hz = self.settings.tick_hz;
        let own = self.sessions.iter().position(|it| it.as_ref().is_some_and(|it| it.peer == from));
        if let Some(number) = own
            && let Some(session) = &self.sessions[number]
            && session.nonce == nonce
        {
            return Ok(Welcome { token: session.token, client: number as u8, tick_hz });
        }
        let places = &self.sessions[..usize::from(self.settings.clients)];
        let place = own.or_else(|| places.iter().position(Option::is_none));
        let number = place.ok_or(Refusal::Full)?;
        let token = self.secrets.token(from, nonce);
        self.sessions[number] = Some(Session::new(now_ns, from, nonce, token, tick_hz));
        self.world.join(number as u8);
        self.status.joined += 1;
        self.count_clients();
        self.pace.start(now_ns);
        Ok(Welcome { token, client: number as u8, tick_hz })
    }

    fn drop_silent(&mut self, now_ns: u64, out: &mut impl Outbox) {
        for number in 0..CLIENTS_MAX {
            let session = self.sessions[usize::from(number)].as_ref();
            let patience = self.settings.patience_ns;
            if session.is_some_and(|it| now_ns.saturating_sub(it.heard_ns) > patience) {
                self.status.timed_out += 1;
                self.close(number, Closing::Silent, out);
            }
        }
    }

    fn close(&mut self, number: u8, why: Closing, out: &mut impl Outbox) {
        if let Some(session) = &self.sessions[usize::from(number)] {
            let (peer, nonce) = (session.peer, session.nonce);
            self.remove(number);
            self.answer(peer, &Answer::Closed { nonce, why }, out);
        }
    }

    fn remove(&mut self, number: u8) {
        self.sessions[usize::from(number)] = None;
        self.world.leave(number);
        self.count_clients();
        if self.status.clients == 0 {
            self.pace.stop();
        }
    }

    fn count_clients(&mut self) {
        self.status.clients = self.sessions.iter().flatten().count() as u32;
    }

    /// Sends everybody the last tick, as the difference from what they said they have.
    fn send_snapshots(&mut self, out: &mut impl Outbox) {
        let (tick, state) = self.history.last();
        let digest = state.digest();
        // Most clients have the same tick, so that one difference serves them all.
        let mut computed = None;
        for session in self.sessions.iter().flatten() {
            let (back, base) = self.history.base(session.has);
            if computed != Some(back) {
                self.delta.compute(base, state, ENTRIES_MAX);
                computed = Some(back);
            }
            let parts = self.delta.parts();
            for (part, entries) in (0_u8..).zip(parts) {
                let answer = Answer::Snapshot(SnapshotPart {
                    nonce: session.nonce as u32,
                    tick,
                    back,
                    part,
                    parts: parts.len() as u8,
                    sequence: session.sequence,
                    digest,
                    entries,
                });
                answer.encode(&mut self.datagram);
                post(&mut self.status, session.peer, &self.datagram, out);
            }
        }
    }

    fn answer(&mut self, to: Peer, answer: &Answer<'_>, out: &mut impl Outbox) {
        answer.encode(&mut self.datagram);
        post(&mut self.status, to, &self.datagram, out);
    }
}

/// Sends a datagram and counts it.
fn post(status: &mut Status, to: Peer, datagram: &[u8], out: &mut impl Outbox) {
    status.sent += 1;
    status.sent_bytes += datagram.len() as u64;
    out.send(to, datagram);
}
