//! What the guest has asked for outside and waits for.

use crate::flow::Flow;
use crate::opener::{Opener, Protocol, Untaken};
use crate::udp::Conversations;

/// Connections and names that may be asked for at once, of each kind.
const ASKED_MAX: usize = 64;

/// Most bytes of a packet that asks for a connection.
const OPENING_MAX: usize = 576;

/// A connection that was asked for.
pub struct Waiting {
    id: u32,
    pub flow: Flow,
    /// The guest's packet, which its answer depends on.
    pub opening: Vec<u8>,
}

/// What became of the guest's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It is asked for, or was before.
    Asked,
    /// There is too much of it: the guest will try again.
    Dropped,
    /// It is refused.
    Refused,
}

/// The way out, and who waits for it.
pub struct Outbound {
    pub opener: Box<dyn Opener>,
    last_id: u32,
    waiting: Vec<Waiting>,
    questions: Vec<(u32, Flow)>,
    pub datagrams: Conversations,
}

impl Outbound {
    pub fn new(opener: Box<dyn Opener>) -> Self {
        let (waiting, questions) = (Vec::new(), Vec::new());
        Self { opener, last_id: 0, waiting, questions, datagrams: Conversations::default() }
    }

    /// Connections that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Nothing waits, and nothing is open that is not a TCP connection.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.questions.is_empty() && self.datagrams.is_empty()
    }

    /// Asks for the TCP connection that the packet `opening` is to begin.
    pub fn connect(&mut self, flow: Flow, opening: &[u8]) -> Wish {
        if self.waiting.iter().any(|waiting| waiting.flow == flow) {
            return Wish::Asked;
        }
        if self.waiting.len() >= ASKED_MAX || opening.len() > OPENING_MAX {
            return Wish::Dropped;
        }
        let id = self.next_id();
        let asked = self.opener.connect(id, Protocol::Tcp, flow.remote);
        if asked.is_ok() {
            self.waiting.push(Waiting { id, flow, opening: opening.to_vec() });
        }
        wish(asked)
    }

    /// Asks for a socket for the datagrams of `flow`, of which `payload` is the first.
    pub fn converse(&mut self, flow: Flow, payload: &[u8], now_ns: u64) -> Wish {
        if !self.datagrams.make_room(now_ns) {
            return Wish::Dropped;
        }
        let id = self.next_id();
        let asked = self.opener.connect(id, Protocol::Udp, flow.remote);
        if asked.is_ok() {
            self.datagrams.begin(flow, id, payload, now_ns);
        }
        wish(asked)
    }

    /// Passes on the guest's question about a name; the answer goes back by `flow`.
    pub fn resolve(&mut self, flow: Flow, question: &[u8]) -> Wish {
        if self.questions.len() >= ASKED_MAX {
            return Wish::Dropped;
        }
        let id = self.next_id();
        let asked = self.opener.resolve(id, question);
        if asked.is_ok() {
            self.questions.push((id, flow));
        }
        wish(asked)
    }

    /// The connection that waits under this number waits no more.
    pub fn take_waiting(&mut self, id: u32) -> Option<Waiting> {
        let index = self.waiting.iter().position(|waiting| waiting.id == id)?;
        Some(self.waiting.swap_remove(index))
    }

    /// The question under this number is answered.
    pub fn take_question(&mut self, id: u32) -> Option<Flow> {
        let index = self.questions.iter().position(|(asked, _)| *asked == id)?;
        Some(self.questions.swap_remove(index).1)
    }

    /// Nothing will come any more: the connections that waited.
    pub fn give_up(&mut self) -> Vec<Waiting> {
        self.questions.clear();
        self.datagrams.forget_waiting();
        std::mem::take(&mut self.waiting)
    }

    fn next_id(&mut self) -> u32 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }
}

fn wish(asked: Result<(), Untaken>) -> Wish {
    match asked {
        Ok(()) => Wish::Asked,
        Err(Untaken::Later) => Wish::Dropped,
        Err(Untaken::Never) => Wish::Refused,
    }
}
