//! Datagrams of the guest: which socket of the host stands for which conversation, and for how long.

use crate::Config;
use crate::counters::Counters;
use crate::flow::Flow;
use crate::frames::FrameQueue;
use crate::packets::{DATAGRAM_HEADERS, Reason, UNREACHABLE, write_unreachable};
use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;

/// Conversations at once.
const FLOWS_MAX: usize = 256;

/// Datagrams that wait for a socket, of one conversation.
const FIRST_MAX: usize = 4;

/// How long a conversation may rest before it is forgotten, in ns.
const IDLE_NS: u64 = 60_000_000_000;

/// How long it must have rested before another may take its place, in ns.
const CROWDED_NS: u64 = 1_000_000_000;

/// Datagrams taken from sockets in one poll.
const DATAGRAMS_MAX: usize = 256;

/// Most bytes of a datagram.
const SIZE_MAX: usize = 65_536;

/// The conversations.
#[derive(Debug, Default)]
pub struct Conversations {
    slots: Vec<Option<Conversation>>,
    free: Vec<u32>,
    by_flow: HashMap<Flow, u32>,
    /// Slots whose sockets may have something.
    ready: VecDeque<u32>,
    /// When it is looked for conversations that have rested for too long.
    sweep_at: Option<u64>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Conversation {
    flow: Flow,
    state: State,
    /// When something was last sent or received, in ns.
    used_ns: u64,
    /// It is in the list of those whose sockets may have something.
    ready: bool,
}

#[derive(Debug)]
enum State {
    /// A socket was asked for; these datagrams wait.
    Asked(u32, Vec<Vec<u8>>),
    Open(UdpSocket),
}

/// What is to be done about a datagram of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Nothing more.
    Done,
    /// A socket is to be asked for; then [`Conversations::begin`].
    Ask,
}

impl Conversations {
    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.by_flow.is_empty()
    }

    /// Takes a datagram of the guest.
    pub fn send(
        &mut self,
        flow: &Flow,
        payload: &[u8],
        now_ns: u64,
        (config, queue, counters): (&Config, &mut FrameQueue, &mut Counters),
    ) -> Take {
        let found = self.by_flow.get(flow).and_then(|&slot| self.slots[slot as usize].as_mut());
        let Some(conversation) = found else { return Take::Ask };
        conversation.used_ns = now_ns;
        match &mut conversation.state {
            State::Asked(_, first) if first.len() < FIRST_MAX => first.push(payload.to_vec()),
            State::Asked(..) => counters.datagrams_dropped += 1,
            State::Open(socket) => {
                if send(socket, payload, counters) == Sent::NobodyThere {
                    push_unreachable(queue, Reason::Port, flow, config);
                }
            }
        }
        Take::Done
    }

    /// Whether there is room for another conversation; one that has rested makes room.
    pub fn make_room(&mut self, now_ns: u64) -> bool {
        if self.by_flow.len() < FLOWS_MAX {
            return true;
        }
        let used = |slot: &Option<Conversation>| slot.as_ref().map_or(u64::MAX, |it| it.used_ns);
        let oldest = (0..self.slots.len()).min_by_key(|&slot| used(&self.slots[slot]));
        match oldest {
            Some(slot) if used(&self.slots[slot]).saturating_add(CROWDED_NS) <= now_ns => {
                self.remove(slot as u32);
                true
            }
            _ => false,
        }
    }

    /// Begins a conversation for which socket `id` was asked for.
    pub fn begin(&mut self, flow: Flow, id: u32, first: &[u8], now_ns: u64) {
        let state = State::Asked(id, vec![first.to_vec()]);
        let conversation = Some(Conversation { flow, state, used_ns: now_ns, ready: false });
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize] = conversation;
        self.by_flow.insert(flow, slot);
        self.sweep_at.get_or_insert(now_ns + IDLE_NS);
    }

    /// The conversation that waits for socket `id`.
    pub fn waiting_for(&self, id: u32) -> Option<u32> {
        let waits = |slot: &Option<Conversation>| matches!(slot, Some(Conversation { state: State::Asked(asked, _), .. }) if *asked == id);
        self.slots.iter().position(waits).map(|slot| slot as u32)
    }

    /// A conversation has its socket: what has waited is sent.
    pub fn opened(&mut self, slot: u32, socket: OwnedFd, counters: &mut Counters) {
        let Some(conversation) = &mut self.slots[slot as usize] else { return };
        let socket = UdpSocket::from(socket);
        if let State::Asked(_, first) = &conversation.state {
            for payload in first {
                send(&socket, payload, counters);
            }
        }
        conversation.state = State::Open(socket);
    }

    /// The socket of a conversation may have something.
    pub fn note_ready(&mut self, slot: u32) {
        if let Some(Some(conversation)) = self.slots.get_mut(slot as usize)
            && !std::mem::replace(&mut conversation.ready, true)
        {
            self.ready.push_back(slot);
        }
    }

    /// Sockets may have something that there was no room or time for.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Carries what the sockets have to the guest, in turn.
    pub fn receive(
        &mut self,
        now_ns: u64,
        config: &Config,
        queue: &mut FrameQueue,
        counters: &mut Counters,
    ) {
        if !self.ready.is_empty() && self.buffer.is_empty() {
            self.buffer = vec![0; SIZE_MAX];
        }
        for _ in 0..DATAGRAMS_MAX {
            if !queue.has_room() {
                return;
            }
            let Some(slot) = self.ready.pop_front() else { return };
            let Some(conversation) = &mut self.slots[slot as usize] else { continue };
            let State::Open(socket) = &conversation.state else { continue };
            match socket.recv(&mut self.buffer) {
                Ok(length) if length + DATAGRAM_HEADERS <= usize::from(config.mtu) => {
                    queue.push_datagram(&conversation.flow, config, &self.buffer[..length]);
                    counters.bytes_to_guest += length as u64;
                    conversation.used_ns = now_ns;
                }
                // It would have to be sent in pieces.
                Ok(_) => counters.datagrams_dropped += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    conversation.ready = false;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    push_unreachable(queue, Reason::Port, &conversation.flow, config);
                }
                // Other errors of the network are as good as a datagram lost.
                Err(_) => {}
            }
            self.ready.push_back(slot);
        }
    }

    /// Forgets what has rested for too long.
    pub fn sweep(&mut self, now_ns: u64) {
        if self.sweep_at.is_none_or(|at| at > now_ns) {
            return;
        }
        for slot in 0..self.slots.len() {
            if self.slots[slot].as_ref().is_some_and(|it| it.used_ns + IDLE_NS <= now_ns) {
                self.remove(slot as u32);
            }
        }
        let oldest = self.slots.iter().flatten().map(|it| it.used_ns).min();
        self.sweep_at = oldest.map(|used| used + IDLE_NS);
    }

    /// When [`Conversations::sweep`] is due.
    pub fn deadline(&self) -> Option<u64> {
        self.sweep_at
    }

    /// Forgets a conversation and gives what it was between.
    pub fn remove(&mut self, slot: u32) -> Option<Flow> {
        let conversation = self.slots[slot as usize].take()?;
        self.by_flow.remove(&conversation.flow);
        self.free.push(slot);
        if conversation.ready {
            self.ready.retain(|&ready| ready != slot);
        }
        Some(conversation.flow)
    }

    /// Forgets those that wait for a socket.
    pub fn forget_waiting(&mut self) {
        for slot in 0..self.slots.len() {
            if matches!(&self.slots[slot], Some(Conversation { state: State::Asked(..), .. })) {
                self.remove(slot as u32);
            }
        }
    }

    /// Gives memory back.
    pub fn trim(&mut self) {
        self.buffer = Vec::new();
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Taken,
    NobodyThere,
}

fn send(socket: &UdpSocket, payload: &[u8], counters: &mut Counters) -> Sent {
    let mut sent = Sent::Taken;
    // An error may be about an earlier datagram; then this one has not been tried yet.
    for _ in 0..2 {
        match socket.send(payload) {
            Ok(length) => {
                counters.bytes_to_host += length as u64;
                return sent;
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => sent = Sent::NobodyThere,
            Err(_) => break,
        }
    }
    counters.datagrams_dropped += 1;
    sent
}

/// Tells the guest that a datagram of this conversation went nowhere.
pub fn push_unreachable(queue: &mut FrameQueue, reason: Reason, flow: &Flow, config: &Config) {
    let from = match reason {
        Reason::Port => *flow.remote.ip(),
        Reason::Prohibited => config.gateway_ip,
    };
    let mut packet = [0; UNREACHABLE];
    write_unreachable(&mut packet, reason, from, flow, config.guest_ip);
    queue.push_reply_packet(&packet);
}
