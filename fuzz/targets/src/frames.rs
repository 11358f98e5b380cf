//! Ethernet frames of a guest, as the user-mode gateway takes them, with connections out to sockets that end here.

use crate::input::Input;
use crate::memory::bounded;
use denali_usernet::{Config, Failure, Gateway, Opener, Outcome, Protocol, Untaken};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

const GUEST: ([u8; 6], Ipv4Addr) = ([2, 0, 0, 0, 0, 15], Ipv4Addr::new(10, 0, 2, 15));
const GATEWAY: ([u8; 6], Ipv4Addr) = ([2, 0, 0, 0, 0, 2], Ipv4Addr::new(10, 0, 2, 2));

/// Most things that one input does.
const STEPS_MAX: usize = 64;
/// Most frames that one turn makes.
const FRAMES_MAX: usize = 1500;
/// Bytes that the gateway may allocate.
const ALLOCATED_MAX: usize = 8 << 20;
const SECOND: u64 = 1_000_000_000;

/// The input: steps, each a byte that says what it is, and what belongs to it.
pub fn frames(bytes: &[u8]) {
    bounded(ALLOCATED_MAX, || {
        let mut guest = Guest::new();
        let mut input = Input(bytes);
        for _ in 0..STEPS_MAX {
            if input.is_empty() {
                break;
            }
            guest.step(&mut input);
        }
        guest.end();
    });
}

/// What the gateway said last of a connection, so that the guest can answer it.
#[derive(Clone, Copy, Default)]
struct Last {
    ports: [u16; 2],
    from: [u8; 4],
    sequence: u32,
    acknowledged: u32,
}

struct Guest {
    gateway: Gateway,
    now_ns: u64,
    last: Last,
}

impl Guest {
    fn new() -> Self {
        let config = Config { resolves: true, ..Config::new(GUEST, GATEWAY, 24) };
        let mut gateway = Gateway::new(config, Vec::new()).expect("the configuration is right");
        gateway.set_opener(Box::new(Openings::new())).expect("the host has descriptors");
        Self { gateway, now_ns: SECOND, last: Last::default() }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 8 {
            0 => {
                let length = usize::from(input.u16() % 2000);
                self.gateway.transmit(input.bytes(length));
            }
            1 => {
                let (to, protocol, length) = (input.array(), input.byte(), input.byte());
                self.packet([1, 6, 17][usize::from(protocol % 3)], to, input.bytes(length.into()));
            }
            2 => self.segment(input, 0x02, 1),
            3 | 4 => {
                let flags = input.byte();
                self.segment(input, flags, 0);
            }
            5 => self.datagram(input),
            6 => drop(self.turn(u64::from(input.u16()) * (SECOND / 64))),
            _ => drop(self.turn(0)),
        }
    }

    /// A packet in a frame to the gateway, with the lengths that belong to it.
    fn packet(&mut self, protocol: u8, to: [u8; 4], payload: &[u8]) {
        let mut frame = [GATEWAY.0, GUEST.0].concat();
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend((20 + payload.len() as u16).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
        frame.extend(GUEST.1.octets());
        frame.extend(to);
        frame.extend(payload);
        self.gateway.transmit(&frame);
    }

    /// A segment: one that connects, or one of the connection that was heard of last, near where it should be.
    fn segment(&mut self, input: &mut Input<'_>, flags: u8, connects: u32) {
        let [skip, shift, options, payload] = input.array();
        let near = |byte: u8| if byte & 0x80 == 0 { 0 } else { i32::from(byte as i8) + 64 };
        let Last { mut ports, mut from, sequence, acknowledged } = self.last;
        if connects > 0 {
            (ports, from) = ([1000 + u16::from(skip), 80], [9, 9, 9, shift % 4]);
        }
        let mut bytes = [ports[0].to_be_bytes(), ports[1].to_be_bytes()].concat();
        bytes.extend(acknowledged.wrapping_add_signed(near(skip)).to_be_bytes());
        bytes.extend(sequence.wrapping_add_signed(near(shift)).to_be_bytes());
        let options = input.bytes(usize::from(options % 40));
        let padded = options.len().next_multiple_of(4);
        bytes.extend([((5 + padded / 4) as u8) << 4, flags]);
        bytes.extend(input.u16().to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(options);
        bytes.resize(20 + padded + 4 * usize::from(payload), 7);
        self.packet(6, from, &bytes);
    }

    fn datagram(&mut self, input: &mut Input<'_>) {
        let [to, port, from, length] = input.array();
        let ports = [1000 + u16::from(from), [53, 443, 9][usize::from(port % 3)]];
        let payload = input.bytes(usize::from(length % 64));
        let mut bytes = [ports[0].to_be_bytes(), ports[1].to_be_bytes()].concat();
        bytes.extend((8 + payload.len() as u16).to_be_bytes());
        bytes.extend([0; 2]);
        bytes.extend(payload);
        let to = if to % 4 == 0 { GATEWAY.1.octets() } else { [9, 9, 9, to % 4] };
        self.packet(17, to, &bytes);
    }

    /// Time passes, the gateway works, and its frames are well-formed and not too many.
    fn turn(&mut self, later_ns: u64) -> usize {
        self.now_ns += later_ns;
        self.gateway.begin(self.now_ns);
        self.gateway.poll();
        let mut frames = 0;
        while let Some(frame) = self.gateway.next_frame() {
            assert!(frame[..6] == GUEST.0 && frame[6..12] == GATEWAY.0 && frame.len() <= 14 + 1500);
            if frame.len() >= 54 && frame[12..14] == [8, 0] && frame[23] == 6 {
                self.last = heard(frame);
            }
            self.gateway.consume();
            frames += 1;
            assert!(frames < FRAMES_MAX, "frames do not multiply");
        }
        let spins = self.gateway.deadline().is_some_and(|at| at <= self.now_ns);
        assert!(!spins, "a poll does all there is to do");
        frames
    }

    /// The guest says nothing any more: the gateway does not talk to it for ever.
    fn end(&mut self) {
        for _ in 0..60 {
            self.turn(60 * SECOND);
        }
        assert_eq!(self.turn(3600 * SECOND), 0, "it is silent as well");
    }
}

/// Where the guest's side of a connection is after a segment of the gateway.
fn heard(frame: &[u8]) -> Last {
    let mut header = Input(&frame[34..]);
    let [theirs, ours] = [0, 1].map(|_| u16::from_be_bytes(header.array()));
    let [sequence, acknowledged] = [0, 1].map(|_| u32::from_be_bytes(header.array()));
    let flags = frame[47];
    // SYN and FIN take a place each.
    let taken = u32::from(flags & 1) + u32::from(flags >> 1 & 1);
    let data = frame.len() - 34 - usize::from(frame[46] >> 4) * 4;
    let mut from = [0; 4];
    from.copy_from_slice(&frame[26..30]);
    let sequence = sequence.wrapping_add(data as u32).wrapping_add(taken);
    Last { ports: [ours, theirs], from, sequence, acknowledged }
}

/// Opens connections to nobody: what is written to them is lost, and there are a few bytes to be read.
struct Openings {
    readable: UnixStream,
    signal: UnixStream,
    outcomes: VecDeque<(u32, Option<OwnedFd>)>,
    answer: Vec<u8>,
    /// The number of a question, if one waits.
    question: Option<u32>,
}

impl Openings {
    fn new() -> Self {
        let (readable, signal) = UnixStream::pair().expect("the host has descriptors");
        readable.set_nonblocking(true).expect("the socket is open");
        Self { readable, signal, outcomes: VecDeque::new(), answer: Vec::new(), question: None }
    }

    fn wake(&mut self) {
        self.signal.write_all(&[1]).expect("a few bytes fit");
    }
}

/// One end of a connection whose other end has said something and is gone.
fn socket(protocol: Protocol) -> std::io::Result<OwnedFd> {
    match protocol {
        Protocol::Tcp => {
            let (mut far, near) = UnixStream::pair()?;
            far.write_all(&[5; 100])?;
            near.set_nonblocking(true)?;
            Ok(near.into())
        }
        Protocol::Udp => {
            let (far, near) = UnixDatagram::pair()?;
            far.send(&[5; 100])?;
            near.set_nonblocking(true)?;
            Ok(near.into())
        }
    }
}

impl Opener for Openings {
    fn connect(&mut self, id: u32, protocol: Protocol, to: SocketAddrV4) -> Result<(), Untaken> {
        match to.ip().octets()[3] {
            0 => return Err(Untaken::Later),
            1 => self.outcomes.push_back((id, None)),
            _ => self.outcomes.push_back((id, socket(protocol).ok())),
        }
        self.wake();
        Ok(())
    }

    fn resolve(&mut self, id: u32, question: &[u8]) -> Result<(), Untaken> {
        if self.question.is_some() {
            return Err(Untaken::Later);
        }
        self.answer = question.to_vec();
        self.question = Some(id);
        self.wake();
        Ok(())
    }

    fn next(&mut self) -> Option<Outcome<'_>> {
        if let Some(id) = self.question.take() {
            return Some(Outcome::Resolved { id, message: &self.answer });
        }
        match self.outcomes.pop_front() {
            Some((id, Some(socket))) => Some(Outcome::Connected { id, socket }),
            Some((id, None)) => Some(Outcome::Failed { id, why: Failure::Unreachable }),
            None => {
                let _ = self.readable.read(&mut [0; 256]);
                None
            }
        }
    }

    fn as_raw_fd(&self) -> RawFd {
        self.readable.as_raw_fd()
    }
}

/// A connection that is made and used, datagrams and questions, and what the gateway answers itself.
#[must_use]
pub fn frames_seeds() -> Vec<Vec<u8>> {
    let connect = [2, 1, 2, 0, 0, 255, 255];
    let send = |flags: u8, payload: u8| [3, flags, 0, 0, 0, payload, 255, 255, 7];
    let mut connection = [&connect[..], &[7, 7]].concat();
    connection.extend([send(0x10, 0), send(0x18, 20), send(0x11, 0)].concat());
    let question = [5, 0, 0, 1, 12, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 7].to_vec();
    let datagrams = [[5, 2, 1, 1, 2, 8, 8], [5, 1, 2, 1, 2, 8, 8]].concat();
    let echo = [1, 10, 0, 2, 2, 0, 8, 8, 0, 0, 0, 0, 1, 0, 1, 7].to_vec();
    vec![connection, question, [datagrams, vec![7, 6, 0, 1]].concat(), echo]
}
