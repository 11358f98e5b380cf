//! An opener for tests: destinations as the guest knows them lead to sockets of this machine.

use denali_usernet::{Failure, Opener, Outcome, Protocol, Untaken};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

/// What the test and the gateway's opener share.
#[derive(Default)]
pub struct Script {
    /// Where destinations lead; others are denied.
    pub leads: HashMap<SocketAddrV4, SocketAddr>,
    /// Requests are taken, and nothing comes of them yet.
    pub holding: bool,
    /// What is answered instead of taking a request.
    pub untaken: Option<Untaken>,
    /// Why a destination that leads somewhere fails all the same.
    pub failure: Option<Failure>,
    /// Requests that were taken.
    pub asked: usize,
    outcomes: VecDeque<Ready>,
    signal: Option<UnixStream>,
    gone: bool,
}

enum Ready {
    Connected(u32, OwnedFd),
    Failed(u32, Failure),
    Resolved(u32, Vec<u8>),
}

pub type Shared = Rc<RefCell<Script>>;

/// The gateway's side.
pub struct TestOpener {
    shared: Shared,
    readable: UnixStream,
    message: Vec<u8>,
}

impl TestOpener {
    pub fn new() -> (Self, Shared) {
        let (readable, signal) = UnixStream::pair().unwrap();
        readable.set_nonblocking(true).unwrap();
        let shared = Shared::default();
        shared.borrow_mut().signal = Some(signal);
        (Self { shared: shared.clone(), readable, message: Vec::new() }, shared)
    }
}

impl Script {
    /// Lets come what was held.
    pub fn release(&mut self) {
        self.holding = false;
        self.wake();
    }

    /// Lets come what was held, if the opener is still there.
    pub fn try_release(&mut self) {
        if !self.gone {
            self.release();
        }
    }

    /// The opener is gone.
    pub fn disappear(&mut self) {
        self.gone = true;
        self.signal = None;
    }

    fn push(&mut self, ready: Ready) {
        self.asked += 1;
        self.outcomes.push_back(ready);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(signal) = &mut self.signal {
            signal.write_all(&[1]).unwrap();
        }
    }
}

impl Opener for TestOpener {
    fn connect(&mut self, id: u32, protocol: Protocol, to: SocketAddrV4) -> Result<(), Untaken> {
        let mut script = self.shared.borrow_mut();
        if let Some(untaken) = script.untaken.or(script.gone.then_some(Untaken::Never)) {
            return Err(untaken);
        }
        let failed = script.failure;
        let ready = match (script.leads.get(&to), failed) {
            (None, _) => Ready::Failed(id, Failure::Denied),
            (Some(_), Some(why)) => Ready::Failed(id, why),
            (Some(real), None) => match open(protocol, *real) {
                Ok(socket) => Ready::Connected(id, socket),
                Err(_) => Ready::Failed(id, Failure::Unreachable),
            },
        };
        script.push(ready);
        Ok(())
    }

    /// Answers with the question and a byte more; to a question that begins with 0, that it is refused.
    fn resolve(&mut self, id: u32, question: &[u8]) -> Result<(), Untaken> {
        let mut script = self.shared.borrow_mut();
        if let Some(untaken) = script.untaken {
            return Err(untaken);
        }
        let mut answer = question.to_vec();
        if question.first() == Some(&0) && question.len() > 3 {
            answer[3] = 5;
        }
        answer.push(b'!');
        script.push(Ready::Resolved(id, answer));
        Ok(())
    }

    fn next(&mut self) -> Option<Outcome<'_>> {
        let mut script = self.shared.borrow_mut();
        if script.gone {
            return Some(Outcome::Gone);
        }
        if script.holding || script.outcomes.is_empty() {
            let _ = (&self.readable).read(&mut [0; 4096]);
            return None;
        }
        Some(match script.outcomes.pop_front()? {
            Ready::Connected(id, socket) => Outcome::Connected { id, socket },
            Ready::Failed(id, why) => Outcome::Failed { id, why },
            Ready::Resolved(id, message) => {
                self.message = message;
                Outcome::Resolved { id, message: &self.message }
            }
        })
    }

    fn as_raw_fd(&self) -> RawFd {
        self.readable.as_raw_fd()
    }
}

fn open(protocol: Protocol, real: SocketAddr) -> std::io::Result<OwnedFd> {
    match protocol {
        Protocol::Tcp => {
            let stream = TcpStream::connect(real)?;
            stream.set_nonblocking(true)?;
            Ok(stream.into())
        }
        Protocol::Udp => {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(real)?;
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        }
    }
}
