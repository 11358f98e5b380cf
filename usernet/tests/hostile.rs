//! A guest that sends anything at all: the gateway neither panics nor hangs, and forgets nothing.

mod common;

use common::{GATEWAY_IP, GATEWAY_MAC, GUEST_IP, GUEST_MAC, config};
use denali_usernet::{Config, Gateway};
use proptest::prelude::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

/// A gateway with one client on the host, driven by hand.
struct Hostile {
    gateway: Gateway,
    client: Option<TcpStream>,
    now_ns: u64,
    /// The last TCP segment of the gateway: its port, sequence and acknowledgement numbers.
    port: u16,
    sequence: u32,
    acknowledged: u32,
    /// Frames of the last turn.
    frames: u32,
}

impl Hostile {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let gateway = Gateway::new(config(), vec![(listener, 80)]).unwrap();
        let client = TcpStream::connect(address).unwrap();
        client.set_nonblocking(true).unwrap();
        let mut hostile = Self {
            gateway,
            client: Some(client),
            now_ns: SECOND,
            port: 0,
            sequence: 0,
            acknowledged: 0,
            frames: 0,
        };
        hostile.turn(0);
        assert_ne!(hostile.port, 0, "the gateway connects");
        hostile
    }

    /// Time passes, the gateway works, and its frames are read.
    fn turn(&mut self, later_ns: u64) {
        self.now_ns += later_ns;
        self.gateway.begin(self.now_ns);
        self.gateway.poll();
        self.frames = 0;
        while let Some(frame) = self.gateway.next_frame() {
            assert!(frame[..6] == GUEST_MAC && frame[6..12] == GATEWAY_MAC);
            assert!(frame.len() <= 14 + 1500);
            if frame.len() >= 54 && frame[23] == 6 {
                let number = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
                self.port = u16::from_be_bytes([frame[34], frame[35]]);
                (self.sequence, self.acknowledged) = (number(38), number(42));
            }
            self.gateway.consume();
            self.frames += 1;
        }
        assert!(self.frames < 1500, "frames do not multiply");
        let spins = self.gateway.deadline().is_some_and(|at| at <= self.now_ns);
        assert!(!spins, "a poll does all there is to do");
    }

    fn client_writes(&mut self, length: usize) {
        if let Some(client) = &mut self.client {
            // It may be full, or reset: that is as it should be.
            let _ = client.write(&vec![9; length]);
        }
    }

    fn client_reads(&mut self) {
        if let Some(client) = &mut self.client {
            let _ = client.read(&mut [0; 70_000]);
        }
    }
}

/// An Ethernet frame of the guest with an IPv4 packet.
fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = [GATEWAY_MAC, GUEST_MAC].concat();
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend((20 + payload.len() as u16).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend(GUEST_IP.octets());
    frame.extend(GATEWAY_IP.octets());
    frame.extend(payload);
    frame
}

/// What the guest puts into a segment, relative to what would be right.
#[derive(Clone, Debug)]
struct Segment {
    sequence: i32,
    acknowledge: i32,
    flags: u8,
    window: u16,
    options: Vec<u8>,
    payload: usize,
}

fn tcp(segment: &Segment, to: (u16, u32, u32)) -> Vec<u8> {
    let (port, sequence, acknowledged) = to;
    let mut bytes = 80_u16.to_be_bytes().to_vec();
    bytes.extend(port.to_be_bytes());
    bytes.extend(acknowledged.wrapping_add_signed(segment.sequence).to_be_bytes());
    bytes.extend(sequence.wrapping_add_signed(segment.acknowledge).to_be_bytes());
    let mut options = segment.options.clone();
    options.resize(options.len().next_multiple_of(4), 0);
    bytes.extend([((5 + options.len() / 4) as u8) << 4, segment.flags]);
    bytes.extend(segment.window.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(options);
    bytes.resize(bytes.len() + segment.payload, 7);
    ipv4(6, &bytes)
}

#[derive(Clone, Debug)]
enum Action {
    /// A SYN|ACK as it should be, with these options and this window.
    Accept(Vec<u8>, u16),
    Send(Segment),
    /// A segment with one byte changed.
    Damaged(Segment, usize, u8),
    Anything(Vec<u8>),
    Turn(u64),
    ClientWrites(usize),
    ClientReads,
    ClientCloses,
}

fn options() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => Just(vec![2, 4, 5, 180]),
        1 => Just(vec![2, 4, 5, 180, 3, 3, 7]),
        1 => Just(vec![2, 4, 0, 0, 3, 3, 255, 4, 2]),
        1 => Just(vec![]),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

fn near() -> impl Strategy<Value = i32> {
    prop_oneof![
        6 => Just(0),
        2 => Just(1),
        2 => -2..3_i32,
        2 => -70_000..70_000_i32,
        1 => any::<i32>(),
    ]
}

fn segment() -> impl Strategy<Value = Segment> {
    let flags = prop_oneof![
        6 => Just(0x10_u8),
        2 => Just(0x18),
        3 => Just(0x11),
        1 => Just(0x12),
        1 => Just(0x02),
        1 => Just(0x14),
        1 => any::<u8>(),
    ];
    let window = prop_oneof![Just(65_535_u16), Just(0), any::<u16>()];
    let payload = prop_oneof![3 => Just(0_usize), 2 => 1..1460_usize, 2 => Just(60_000_usize)];
    let options = prop_oneof![5 => Just(vec![]), 1 => options()];
    (near(), near(), flags, window, options, payload).prop_map(
        |(sequence, acknowledge, flags, window, options, payload)| Segment {
            sequence,
            acknowledge,
            flags,
            window,
            options,
            payload,
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    let later = prop_oneof![Just(0_u64), 0..20_000_000_u64, 0..120 * SECOND];
    prop_oneof![
        3 => (options(), any::<u16>()).prop_map(|(options, window)| Action::Accept(options, window)),
        12 => segment().prop_map(Action::Send),
        3 => (segment(), 0..80_usize, any::<u8>())
            .prop_map(|(segment, at, value)| Action::Damaged(segment, at, value)),
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Action::Anything),
        8 => later.prop_map(Action::Turn),
        3 => (1..70_000_usize).prop_map(Action::ClientWrites),
        3 => Just(Action::ClientReads),
        1 => Just(Action::ClientCloses),
    ]
}

fn apply(hostile: &mut Hostile, action: &Action) {
    let at = (hostile.port, hostile.sequence, hostile.acknowledged);
    match action {
        Action::Accept(options, window) => {
            let accept = Segment {
                sequence: 0,
                acknowledge: 1,
                flags: 0x12,
                window: *window,
                options: options.clone(),
                payload: 0,
            };
            hostile.gateway.transmit(&tcp(&accept, at));
        }
        Action::Send(segment) => hostile.gateway.transmit(&tcp(segment, at)),
        Action::Damaged(segment, position, value) => {
            let mut frame = tcp(segment, at);
            let position = position % frame.len();
            frame[position] = *value;
            hostile.gateway.transmit(&frame);
        }
        Action::Anything(bytes) => hostile.gateway.transmit(bytes),
        Action::Turn(later_ns) => hostile.turn(*later_ns),
        Action::ClientWrites(length) => hostile.client_writes(*length),
        Action::ClientReads => hostile.client_reads(),
        Action::ClientCloses => hostile.client = None,
    }
}

/// How many cases to run: more when the environment asks for them.
fn cases(few: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    let cases = asked.unwrap_or(few);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn no_segment_harms_the_gateway(actions in prop::collection::vec(action(), 1..60)) {
        let mut hostile = Hostile::new();
        for action in &actions {
            apply(&mut hostile, action);
        }
        hostile.client = None;
        for _ in 0..30 {
            hostile.turn(30 * SECOND);
        }
    }

    #[test]
    fn no_frame_harms_the_gateway(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 1..50),
        whole in any::<bool>(),
    ) {
        let mut hostile = Hostile::new();
        for bytes in &frames {
            let protocol = bytes.first().map_or(6, |byte| [1, 6, 17][usize::from(byte % 3)]);
            let frame = if whole { ipv4(protocol, bytes) } else { bytes.clone() };
            hostile.gateway.transmit(&frame);
        }
        hostile.turn(1);
    }
}

/// A guest that sends more than it was promised, before the gateway has said anything else.
#[test]
fn the_window_of_the_first_packet_is_not_more_than_there_is() {
    let mut hostile = Hostile::new();
    let at = (hostile.port, hostile.sequence, hostile.acknowledged);
    let mut segment = Segment {
        sequence: 1000,
        acknowledge: 1,
        flags: 0x12,
        window: 65_535,
        options: vec![2, 4, 5, 180, 3, 3, 7],
        payload: 0,
    };
    hostile.gateway.transmit(&tcp(&segment, at));
    segment = Segment { sequence: 1001, flags: 0x10, options: vec![], payload: 60_000, ..segment };
    for _ in 0..4 {
        hostile.gateway.transmit(&tcp(&segment, at));
        segment.sequence += 60_000;
    }
    hostile.turn(1);
    assert!(hostile.gateway.counters().bytes_to_host <= 65_535);
}

/// A guest that closes its window on a connection whose client has ended.
#[test]
fn an_end_before_a_closed_window_is_not_repeated() {
    let mut hostile = Hostile::new();
    hostile.client_writes(3);
    let send = |hostile: &mut Hostile, acknowledge: i32, window: u16, flags: u8, sequence: i32| {
        let at = (hostile.port, hostile.sequence, hostile.acknowledged);
        let options = vec![];
        let payload = 0;
        let segment = Segment { sequence, acknowledge, flags, window, options, payload };
        hostile.gateway.transmit(&tcp(&segment, at));
    };
    send(&mut hostile, 1, 0, 0x12, 0);
    hostile.turn(0);
    hostile.client = None;
    send(&mut hostile, 0, 65_535, 0x10, 0);
    hostile.turn(0);
    send(&mut hostile, 0, 65_535, 0x10, -1);
    send(&mut hostile, 1, 0, 0x10, 0);
    hostile.turn(0);
    send(&mut hostile, 0, 0, 0x10, 1);
    for _ in 0..8 {
        hostile.turn(30 * SECOND);
        assert!(hostile.frames < 5, "{} frames at once", hostile.frames);
    }
}

#[test]
fn frames_under_false_addresses_are_counted_and_dropped() {
    let mut hostile = Hostile::new();
    let good = ipv4(1, &[8, 0, 0, 0, 0, 1, 0, 1]);
    let changed = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame
    };
    for (frame, spoofed, malformed, unsupported) in [
        (changed(11, 99), 1, 0, 0),
        (changed(29, 99), 2, 0, 0),
        (changed(14, 0x44), 2, 1, 0),
        (changed(17, 200), 2, 2, 0),
        (changed(20, 0x20), 2, 2, 1),
        (changed(23, 47), 2, 2, 2),
        (changed(12, 0x86), 2, 2, 3),
        (changed(5, 99), 2, 2, 4),
        (good[..13].to_vec(), 2, 3, 4),
        // A datagram that says it is shorter than its header.
        (changed(23, 17), 2, 4, 4),
    ] {
        hostile.gateway.transmit(&frame);
        let counters = hostile.gateway.counters();
        assert_eq!(
            (counters.frames_spoofed, counters.frames_malformed, counters.frames_unsupported),
            (spoofed, malformed, unsupported)
        );
        assert!(hostile.gateway.next_frame().is_none());
    }
}

#[test]
fn the_gateway_answers_for_itself() {
    let mut hostile = Hostile::new();
    let mut request = [[0xff; 6], GUEST_MAC].concat();
    request.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    request.extend(GUEST_MAC);
    request.extend(GUEST_IP.octets());
    request.extend([0; 6]);
    request.extend(GATEWAY_IP.octets());
    hostile.gateway.transmit(&request);
    let reply = hostile.gateway.next_frame().unwrap();
    assert_eq!((&reply[20..22], &reply[22..28]), (&[0, 2][..], &GATEWAY_MAC[..]));
    hostile.gateway.consume();

    let mut echo = vec![8, 0, 0, 0, 0, 1, 0, 1, 42];
    let sum = [0x0800_u32, 1, 1, 42 << 8].iter().sum::<u32>();
    echo[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    hostile.gateway.transmit(&ipv4(1, &echo));
    let reply = hostile.gateway.next_frame().unwrap();
    assert_eq!((reply[23], reply[34], reply[42]), (1, 0, 42), "an echo reply with the same byte");
}

/// Replies to a guest that takes no frames are dropped, not collected.
#[test]
fn replies_do_not_pile_up() {
    let mut hostile = Hostile::new();
    let echo = ipv4(1, &[&[8, 0, 0xf7, 0xff, 0, 0, 0, 0][..], &[0; 1400]].concat());
    for _ in 0..2000 {
        hostile.gateway.transmit(&echo);
    }
    assert!(hostile.gateway.counters().replies_dropped > 1000);
    let mut waiting = 0;
    while let Some(frame) = hostile.gateway.next_frame() {
        waiting += frame.len();
        hostile.gateway.consume();
    }
    assert!(waiting <= 576 << 10);
}

/// Connections whose frames find no room go on when the guest takes frames again.
#[test]
fn a_guest_that_takes_no_frames_for_a_while_loses_nothing() {
    let mut rig = common::Rig::new(Config { mtu: 65_535, ..config() });
    rig.guest.listen(32);
    let address = rig.address;
    let clients: Vec<_> = (0..32)
        .map(|_| {
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let mut back = vec![0; 50_000];
                stream.write_all(&[3; 50_000]).unwrap();
                stream.read_exact(&mut back).unwrap();
                stream.write_all(&[4; 50_000]).unwrap();
                stream.read_exact(&mut back).unwrap();
                assert_eq!(back, [4; 50_000]);
            })
        })
        .collect();
    let mut count = 0;
    rig.until("clients", |rig| {
        common::echo(&mut rig.guest);
        count += 1;
        rig.alive = count % 50 > 25;
        clients.iter().all(std::thread::JoinHandle::is_finished)
    });
    clients.into_iter().for_each(|client| client.join().unwrap());
}
