//! Back ends that go, and others that take over.

use super::back_end::{CONFIG, INFLIGHT, MQ, REPLY_ACK};
use super::driver::Guest;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::IoSlice;
use std::os::fd::AsRawFd;
use vhost::vhost_user::message::FrontendReq as Code;

#[test]
fn another_back_end_finds_exactly_the_requests_that_are_out() {
    let (mut guest, back_end) = Guest::standard();
    for head in [0, 1, 2, 3] {
        guest.make_available(head);
    }
    guest.service();
    // Returned in another order; then more are made, over the place of one that is still out.
    guest.give_back(2);
    guest.give_back(0);
    for head in [2, 0, 4, 5, 6] {
        guest.service();
        guest.make_available(head);
    }
    guest.give_back(5);
    drop(back_end);
    assert!(guest.is_woken());
    let before = guest.line.0.get();
    guest.service();
    assert_eq!(guest.line.0.get(), before + 1, "the last calls may be lost");
    let mut next = guest.next_back_end(|_| {});
    guest.service_at_deadline();
    guest.service();
    guest.service();
    next.process();
    assert_eq!(next.last(Code::SET_VRING_BASE, 0).number(4), 3, "from the used index");
    assert_eq!(guest.available_from(3), [1, 3, 2, 0, 4, 6], "the oldest first");
    assert_eq!(next.kicks(), 1);
    assert_eq!((guest.counter("reconnects"), guest.counter("resubmitted")), (1, 6));
    assert_eq!(guest.status(), 15);
    let notices = guest.notices.borrow();
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert!(notices[0].starts_with("has closed the connection; requests wait"));
    assert_eq!(notices[1], "is back");
}

#[test]
fn requests_wait_while_there_is_no_back_end() {
    let (mut guest, back_end) = Guest::standard();
    drop(back_end);
    guest.service();
    for head in 0..8 {
        guest.make_available(head);
        guest.service();
    }
    for _ in 0..5 {
        guest.service_at_deadline();
        guest.service();
        assert!(!guest.is_woken());
    }
    assert_eq!(guest.notices.borrow().len(), 1, "that it is still away is said once");
    assert!(guest.ready.asked.get() >= 3);
    let mut next = guest.next_back_end(|_| {});
    guest.service_at_deadline();
    guest.service();
    guest.service();
    guest.service();
    next.process();
    assert_eq!(next.last(Code::SET_VRING_BASE, 0).number(4), 0);
    assert_eq!(guest.counter("resubmitted"), 8);
}

#[test]
fn a_back_end_that_is_not_the_same_is_refused() {
    let (mut guest, back_end) = Guest::standard();
    drop(back_end);
    guest.service();
    let other = guest.next_back_end(|b| b.config[0] = 99);
    guest.service_at_deadline();
    guest.settle();
    let weaker = guest.next_back_end(|b| b.features &= !super::back_end::FLUSH);
    guest.service_at_deadline();
    guest.settle();
    drop((other, weaker));
    let mut good = guest.next_back_end(|_| {});
    guest.service_at_deadline();
    guest.settle();
    good.process();
    assert!(good.heard.contains(&Code::SET_VRING_ENABLE.into()));
    let notices = guest.notices.borrow();
    assert!(notices[1].contains("configuration") && notices[2].contains("features"), "{notices:?}");
}

#[test]
fn a_driver_may_start_while_there_is_no_back_end() {
    let (mut guest, back_end) = Guest::standard();
    drop(back_end);
    guest.service();
    guest.start();
    guest.make_available(3);
    guest.service();
    let mut next = guest.next_back_end(|_| {});
    guest.service_at_deadline();
    guest.service();
    guest.service();
    next.process();
    assert_eq!(next.last(Code::SET_VRING_BASE, 0).number(4), 0);
    assert_eq!(guest.counter("resubmitted"), 0, "they are nobody's yet");
    assert_eq!(next.kicks(), 1);
}

#[test]
fn requests_that_are_not_known_are_not_guessed() {
    let (mut guest, back_end) = Guest::standard();
    guest.make_available(0);
    guest.make_available(1);
    guest.service();
    // More come and go than the rings have entries, unseen; one is out all the time.
    for round in 0..10 {
        let head = 1 + round % 2;
        guest.give_back(head);
        guest.make_available(3 - head);
    }
    drop(back_end);
    guest.service();
    let _next = guest.next_back_end(|_| {});
    guest.service_at_deadline();
    guest.service();
    guest.service();
    assert_eq!(guest.status() & 64, 64);
    assert!(guest.notices.borrow().last().unwrap().contains("must reset"));
}

#[test]
fn a_record_of_requests_in_flight_is_passed_on_untouched() {
    let (mut guest, mut back_end) = Guest::running(MQ | CONFIG | REPLY_ACK | INFLIGHT);
    assert_eq!(back_end.heard.last(), Some(&Code::GET_INFLIGHT_FD.into()));
    let record = memfd_create("inflight", MFdFlags::empty()).unwrap();
    let body = [&4096_u64.to_ne_bytes()[..], &[0; 8], &[1, 0], &256_u16.to_ne_bytes(), &[0; 4]];
    let body = body.concat();
    let header = [u32::from(Code::GET_INFLIGHT_FD), 5, 24].map(u32::to_ne_bytes).concat();
    let bytes = [header, body.clone()].concat();
    let files = [record.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&files)];
    let stream = back_end.stream.as_raw_fd();
    sendmsg::<()>(stream, &[IoSlice::new(&bytes)], &rights, MsgFlags::empty(), None).unwrap();
    guest.service();
    guest.service();
    back_end.process();
    assert_eq!(back_end.said(Code::SET_INFLIGHT_FD).body, body);
    guest.make_available(0);
    guest.make_available(1);
    guest.service();
    guest.give_back(1);
    drop(back_end);
    guest.service();
    let mut next = guest.next_back_end(|b| b.protocol |= INFLIGHT);
    guest.service_at_deadline();
    guest.service();
    guest.service();
    next.process();
    assert_eq!(next.said(Code::SET_INFLIGHT_FD).body, body);
    assert!(!next.heard.contains(&Code::GET_INFLIGHT_FD.into()), "it goes on with the old one");
    assert_eq!(guest.available_from(1), [1], "the ring is left as it is");
}
