//! Back ends that do not keep to the protocol while a device runs: none hangs or hurts the monitor.

use super::back_end::BackEnd;
use super::driver::Guest;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use proptest::prelude::*;
use std::io::{IoSlice, Write};
use std::os::fd::AsRawFd;
use vhost::vhost_user::message::FrontendReq as Code;

/// The device has given the connection up and asks for another.
fn assert_dropped(guest: &mut Guest, what: &str) {
    guest.service();
    assert_eq!(guest.counter("disconnects"), 1, "{what}");
    assert!(guest.bus.deadline().is_some());
    assert!(!guest.is_woken());
    assert_eq!(guest.status(), 15, "the guest only waits");
}

#[test]
fn what_was_not_asked_for_ends_the_connection() {
    let (mut guest, back_end) = Guest::standard();
    guest.service();
    back_end.reply(Code::GET_FEATURES, &[0; 8]);
    assert_dropped(&mut guest, "an unasked reply");
    let (mut guest, back_end) = Guest::standard();
    guest.service();
    (&back_end.stream).write_all(&[1]).unwrap();
    assert_dropped(&mut guest, "a stray byte");
}

#[test]
fn refusals_end_the_connection_and_are_told() {
    let (mut back_end, stream) = BackEnd::new(super::back_end::CONFIG | super::back_end::REPLY_ACK);
    back_end.introduce();
    let mut guest = Guest::new(stream);
    guest.start();
    guest.service();
    back_end.reply(Code::SET_FEATURES, &[0; 8]);
    back_end.reply(Code::SET_MEM_TABLE, &1_u64.to_ne_bytes());
    assert_dropped(&mut guest, "a refusal");
    assert!(guest.notices.borrow()[0].contains("refused the guest's memory (SET_MEM_TABLE)"));
}

#[test]
fn replies_that_come_in_pieces_hold_nobody_up() {
    let (mut back_end, stream) = BackEnd::new(super::back_end::CONFIG | super::back_end::REPLY_ACK);
    back_end.introduce();
    let mut guest = Guest::new(stream);
    guest.start();
    guest.service();
    let header = [u32::from(Code::SET_FEATURES), 5, 8].map(u32::to_ne_bytes).concat();
    for byte in [header, vec![0; 8]].concat() {
        (&back_end.stream).write_all(&[byte]).unwrap();
        guest.service();
    }
    assert_eq!(guest.counter("disconnects"), 0);
    let endless = [u32::from(Code::SET_MEM_TABLE), 5, u32::MAX].map(u32::to_ne_bytes).concat();
    (&back_end.stream).write_all(&endless).unwrap();
    assert_dropped(&mut guest, "a reply without end");
}

#[test]
fn descriptors_nobody_wants_are_closed() {
    let open = || std::fs::read_dir("/proc/self/task").map(|_| ()).is_ok();
    assert!(open());
    let (mut guest, back_end) = Guest::standard();
    guest.service();
    // A pipe whose other end tells when the last copy of a descriptor is gone.
    let (reader, writer) = std::io::pipe().unwrap();
    let files = [writer.as_raw_fd(); 200];
    let rights = [ControlMessage::ScmRights(&files)];
    let stream = back_end.stream.as_raw_fd();
    sendmsg::<()>(stream, &[IoSlice::new(&[0; 12])], &rights, MsgFlags::empty(), None).unwrap();
    assert_dropped(&mut guest, "two hundred descriptors");
    drop((writer, back_end));
    let mut polled = libc::pollfd { fd: reader.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one entry, valid during the call.
    let hung_up = unsafe { libc::poll(&raw mut polled, 1, 0) };
    assert_eq!((hung_up, polled.revents), (1, libc::POLLHUP));
}

#[test]
fn a_back_end_that_does_not_stop_is_left_after_a_while() {
    let (mut guest, back_end) = Guest::standard();
    guest.start();
    assert_eq!(guest.counter("disconnects"), 1);
    assert!(guest.notices.borrow()[0].contains("has not answered GET_VRING_BASE"));
    drop(back_end);
}

#[test]
fn a_back_end_that_does_not_negotiate_is_given_up() {
    let (mut guest, back_end) = Guest::standard();
    drop(back_end);
    guest.service();
    let (_silent, stream) = BackEnd::new(0);
    guest.ready.streams.borrow_mut().push_back(stream);
    guest.service_at_deadline();
    guest.service();
    guest.service();
    assert_eq!(guest.counter("disconnects"), 1);
    guest.service_at_deadline();
    assert_eq!(guest.counter("disconnects"), 2);
    assert!(guest.notices.borrow().last().unwrap().contains("has not answered GET_FEATURES"));
}

#[test]
fn eventfds_that_a_back_end_makes_block_hold_nobody_up() {
    let (mut guest, back_end) = Guest::standard();
    let call = back_end.last(Code::SET_VRING_CALL, 0).files[0].try_clone().unwrap();
    // SAFETY: clears a flag of a descriptor that is open.
    assert_eq!(unsafe { libc::fcntl(call.as_raw_fd(), libc::F_SETFL, 0) }, 0);
    for _ in 0..3 {
        back_end.call();
        // Read away by somebody else, it is seen nevertheless, and a read would wait for ever.
        let mut count = [0; 8];
        std::io::Read::read_exact(&mut std::fs::File::from(call.try_clone().unwrap()), &mut count)
            .unwrap();
        guest.service();
        guest.service();
    }
    assert_eq!(guest.counter("disconnects"), 0);
}

#[test]
fn returned_requests_that_were_never_made_are_nobodys() {
    let (mut guest, back_end) = Guest::standard();
    guest.make_available(0);
    guest.service();
    guest.give_back(7);
    guest.service();
    assert_eq!(guest.status(), 15);
    back_end.reply(Code::GET_VRING_BASE, &[0; 8]);
    guest.give_back(6);
    guest.service();
    assert_eq!(guest.status() & 64, 64, "more returned than made: the rings mean nothing");
}

proptest! {
    #[test]
    fn any_bytes_at_any_time_leave_the_guest_waiting_or_working(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
    ) {
        let (mut guest, back_end) = Guest::standard();
        for piece in pieces {
            let _ = (&back_end.stream).write_all(&piece);
            guest.service();
            guest.make_available(1);
            guest.give_back(1);
        }
        guest.service();
        prop_assert_eq!(guest.status(), 15);
        drop(back_end);
        guest.service();
        let mut next = guest.next_back_end(|_| {});
        for _ in 0..3 {
            guest.now = guest.bus.deadline().unwrap_or(guest.now);
            guest.service();
        }
        next.process();
        prop_assert!(next.heard.contains(&Code::SET_VRING_ENABLE.into()));
    }
}
