//! Guests that talk to each other, or may not; that are away, and come back.

mod common;

use common::bytes::{Ends, TCP, arp, datagram, packet, pseudo, segment};
use common::{GATEWAY, Rig, ends, options, port};
use denali_switch::protocol::{Ask, Port, Told};
use denali_switch::{Options, Policy};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const SYN: u8 = 2;

fn open() -> Options {
    Options { policy: Policy::Open, ..options() }
}

fn ports() -> Vec<Port> {
    vec![port(0, 0), port(1, 0), port(2, 1)]
}

#[test]
fn guests_of_a_group_talk_and_others_do_not_hear_them() {
    let group = Options { policy: Policy::Group, ..options() };
    let mut rig = Rig::new(&group, None, &ports());
    let [a, b, c] = [0, 1, 2].map(|number| rig.connect(number));
    a.send(&arp(1, a.ends, b.ends.address));
    let answer = a.receive();
    assert_eq!(answer[..14], [&a.ends.mac[..], &b.ends.mac, &[8, 6]].concat());
    assert_eq!(answer[20..32], [&[0, 2][..], &b.ends.mac, &b.ends.address].concat());
    a.say(b.ends, "hello");
    assert_eq!(b.hear(), "hello");
    b.say(a.ends, "hello yourself");
    assert_eq!(a.hear(), "hello yourself");
    a.say(c.ends, "psst");
    a.send(&arp(1, a.ends, c.ends.address));
    let counters = rig.until(|it| it.dropped.forbidden + it.dropped.arp == 2);
    assert_eq!((counters.connected, counters.received), (3, 3));
    [&a, &b, &c].into_iter().for_each(|guest| guest.hears_nothing());
}

#[test]
fn isolated_guests_hear_the_gateway_alone() {
    let mut rig = Rig::new(&options(), None, &ports());
    let [a, b] = [0, 1].map(|number| rig.connect(number));
    a.say(b.ends, "psst");
    a.say(Ends { mac: GATEWAY.mac, ..b.ends }, "through the gateway, then");
    a.send(&arp(1, a.ends, b.ends.address));
    a.send(&arp(1, a.ends, GATEWAY.address));
    assert_eq!(a.receive()[6..12], GATEWAY.mac);
    let echo = [8, 0, 0xe5, 0xfd, 0, 1, 0, 1, 9, 8, 7];
    a.send(&packet(a.ends, GATEWAY, 1, &echo));
    let answer = a.receive();
    assert_eq!((&answer[26..30], answer[34]), (&GATEWAY.address[..], 0));
    assert_eq!(answer[42..], [9, 8, 7]);
    rig.until(|it| it.dropped.forbidden == 2 && it.dropped.arp == 1);
    b.hears_nothing();
}

#[test]
fn what_is_spoofed_for_everybody_or_not_ipv4_reaches_nobody() {
    let mut rig = Rig::new(&open(), None, &ports());
    let [a, b] = [0, 1].map(|number| rig.connect(number));
    let false_mac = Ends { mac: ends(2).mac, ..a.ends };
    let false_address = Ends { address: ends(2).address, ..a.ends };
    for from in [false_mac, false_address, ends(2)] {
        a.send(&datagram(from, b.ends, [1, 2], b"it is me"));
        a.send(&arp(1, from, b.ends.address));
    }
    let everybody = Ends { mac: [0xff; 6], address: [255; 4] };
    a.say(everybody, "to whom it may concern");
    a.send(&arp(1, a.ends, a.ends.address));
    a.send(&arp(2, a.ends, b.ends.address));
    let mut ipv6 = datagram(a.ends, b.ends, [1, 2], b"");
    ipv6[12..14].copy_from_slice(&[0x86, 0xdd]);
    a.send(&ipv6);
    a.send(b"?");
    let counters = rig.until(|it| it.sent == 11);
    let dropped = counters.dropped;
    assert_eq!((dropped.spoofed, dropped.broadcast, dropped.arp), (6, 1, 2));
    assert_eq!((dropped.ipv6, dropped.malformed), (1, 1));
    a.say(b.ends, "it is really me");
    assert_eq!(b.hear(), "it is really me");
    let activity = rig.table.get(0).unwrap();
    assert_eq!(activity.dropped.load(Ordering::Relaxed), 11);
    assert!(activity.last_ms.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_checksum_that_is_left_over_stays_so_and_can_be_completed() {
    let mut rig = Rig::new(&open(), None, &ports());
    let [a, b] = [0, 1].map(|number| rig.connect(number));
    let right = segment(a.ends, b.ends, [1000, 80], 7, SYN);
    let mut left = right.clone();
    left[50..52].copy_from_slice(&pseudo(a.ends, b.ends, TCP, 20));
    a.send_message(&[&[1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0][..], &left].concat());
    assert_eq!(b.receive(), right);
}

#[test]
fn what_comes_for_a_guest_that_is_away_wakes_it_and_waits_in_order() {
    let mut rig = Rig::new(&open(), None, &ports());
    let a = rig.connect(0);
    a.say(ends(1), "first");
    rig.until_wanted(1);
    a.say(ends(1), "second");
    a.send(&segment(a.ends, ends(1), [1000, 80], 7, SYN));
    a.send(&segment(a.ends, ends(1), [1000, 80], 7, SYN));
    a.say(ends(1), "third");
    let counters = rig.until(|it| it.sent == 5);
    assert_eq!((counters.waiting, counters.dropped.repeated, counters.wanted), (4, 1, 1));
    // It has an address while it is away.
    a.send(&arp(1, a.ends, ends(1).address));
    assert_eq!(a.receive()[6..12], ends(1).mac);
    let b = rig.connect(1);
    assert_eq!([b.hear(), b.hear()], ["first", "second"]);
    assert_eq!(b.receive()[38..42], 7_u32.to_be_bytes());
    assert_eq!(b.hear(), "third");
    a.say(ends(1), "fourth");
    assert_eq!(b.hear(), "fourth");
    let counters = rig.counters();
    assert_eq!((counters.waiting, counters.waiting_bytes), (0, 0));
    drop(b);
    rig.until_gone(1);
    a.say(ends(1), "fifth");
    rig.until_wanted(1);
    assert_eq!(rig.connect(1).hear(), "fifth");
}

#[test]
fn broadcasts_and_closed_ports_wake_nobody() {
    let waked_by_web = Port { wakes: vec![80, 443], ..port(1, 0) };
    let mut rig = Rig::new(&open(), None, &[port(0, 0), waked_by_web]);
    let a = rig.connect(0);
    for closed in (1..1024).filter(|closed| ![80, 443].contains(closed)) {
        a.send(&segment(a.ends, ends(1), [1000, closed], 7, SYN));
    }
    a.say(Ends { mac: [0xff; 6], ..ends(1) }, "to everybody");
    a.send(&packet(a.ends, ends(1), 1, &[8, 0, 0, 0, 0, 0, 0, 0]));
    let counters = rig.until(|it| it.sent == 1023);
    assert_eq!((counters.wanted, counters.waiting), (0, 0));
    assert_eq!((counters.dropped.not_waking, counters.dropped.broadcast), (1022, 1));
    a.send(&segment(a.ends, ends(1), [1000, 443], 7, SYN));
    rig.until_wanted(1);
}

#[test]
fn little_waits_for_one_guest_and_not_for_long() {
    let mut options = open();
    options.waiting.age_ms = 300;
    options.waiting.packets = 10;
    let mut rig = Rig::new(&options, None, &ports());
    let a = rig.connect(0);
    for number in 0..50 {
        a.say(ends(1), &number.to_string());
    }
    rig.until_wanted(1);
    let counters = rig.until(|it| it.sent == 50);
    assert_eq!((counters.dropped.full, counters.wanted), (40, 1));
    let counters = rig.until(|it| it.waiting == 0);
    assert_eq!((counters.dropped.aged, counters.waiting_bytes), (10, 0));
    a.say(ends(1), "again");
    rig.until_wanted(1);
}

#[test]
fn a_guest_that_does_not_read_loses_its_own_frames_alone() {
    let mut rig = Rig::new(&open(), None, &ports());
    let [a, b, c] = [0, 1, 2].map(|number| rig.connect(number));
    for number in 0..2000 {
        a.say(b.ends, &number.to_string());
        if number % 100 == 0 {
            a.say(c.ends, "you too?");
            assert_eq!(c.hear(), "you too?");
        }
    }
    let counters = rig.until(|it| it.sent == 2020);
    assert_eq!(counters.waiting, 64);
    assert!(counters.dropped.full > 0);
    let got = 2000 - counters.dropped.full;
    for number in 0..got {
        assert_eq!(b.hear(), number.to_string(), "what came first is there, in order");
    }
    a.say(b.ends, "now?");
    assert_eq!(b.hear(), "now?");
    assert_eq!(rig.counters().waiting, 0);
}

#[test]
fn what_a_guest_did_not_take_waits_for_it_when_it_is_gone() {
    let mut rig = Rig::new(&open(), None, &ports());
    let [a, b] = [0, 1].map(|number| rig.connect(number));
    for number in 0..1000 {
        a.say(b.ends, &number.to_string());
    }
    let counters = rig.until(|it| it.sent == 1000);
    let taken = 1000 - counters.dropped.full - counters.waiting;
    drop(b);
    rig.until_gone(1);
    rig.until_wanted(1);
    let b = rig.connect(1);
    for number in taken..taken + 64 {
        assert_eq!(b.hear(), number.to_string());
    }
}

#[test]
fn what_a_guest_sent_before_it_left_arrives() {
    let mut rig = Rig::new(&open(), None, &ports());
    let [a, b] = [0, 1].map(|number| rig.connect(number));
    // It leaves with something unread, of which its end is told before what it has sent.
    b.say(a.ends, "unread");
    rig.until(|it| it.received == 1);
    for number in 0..100 {
        a.say(b.ends, &number.to_string());
    }
    drop(a);
    rig.until_gone(0);
    for number in 0..100 {
        assert_eq!(b.hear(), number.to_string());
    }
}

#[test]
fn another_socket_takes_the_place_of_a_guests() {
    let mut rig = Rig::new(&open(), None, &ports());
    let [a, b] = [0, 1].map(|number| rig.connect(number));
    a.say(b.ends, "before");
    assert_eq!(b.hear(), "before");
    let another = rig.connect(1);
    rig.counters();
    assert_eq!(b.receive_within(common::PATIENCE), Some(Vec::new()), "it is closed");
    a.say(b.ends, "after");
    assert_eq!(another.hear(), "after");
    assert!(rig.gone.is_empty(), "nobody is gone");
    rig.client.ask(&Ask::Remove { ports: vec![1] }, None).unwrap();
    assert_eq!(another.receive_within(common::PATIENCE), Some(Vec::new()), "it is closed");
    a.say(b.ends, "to nobody");
    rig.until(|it| it.dropped.unknown == 1 && it.ports == 2);
}

#[test]
fn rates_hold_both_ways_and_lose_nothing_that_has_room() {
    let rate = 20_000;
    let slow = Port { rate, ..port(1, 0) };
    let mut rig = Rig::new(&open(), None, &[port(0, 0), slow]);
    let [a, b] = [0, 1].map(|number| rig.connect(number));
    for (from, to) in [(&a, &b), (&b, &a)] {
        let start = Instant::now();
        for number in 0..60 {
            from.say(to.ends, &format!("{number:0100}"));
        }
        for number in 0..60 {
            assert_eq!(to.hear(), format!("{number:0100}"));
        }
        // A tenth of a second's bytes come at once; what is read in one go counts before the next.
        let bytes = (60 - 32) * 142 - rate / 10;
        let least = Duration::from_millis(bytes * 1000 / rate);
        assert!(start.elapsed() >= least, "{:?}, not {least:?}", start.elapsed());
    }
    assert_eq!(rig.counters().dropped.full, 0);
}

#[test]
fn ports_stay_when_a_supervisor_leaves() {
    let mut rig = Rig::new(&open(), None, &ports());
    let [a, b] = [0, 1].map(|number| rig.connect(number));
    rig.counters();
    rig.replace_supervisor(3);
    a.say(b.ends, "still there?");
    assert_eq!(b.hear(), "still there?");
    // Nobody is told while nobody is there; whoever comes asks.
    drop(b);
    rig.until_gone(1);
    a.say(ends(1), "and now?");
    rig.until_wanted(1);
    rig.replace_supervisor(3);
    rig.client.ask(&Ask::Ports {}, None).unwrap();
    assert_eq!(rig.hear(), Told::Wanted { ports: vec![1] });
    assert_eq!(rig.hear(), Told::Connected { ports: vec![0] });
    assert_eq!(rig.hear(), Told::Connected { ports: vec![] });
    assert_eq!(rig.connect(1).hear(), "and now?");
}
