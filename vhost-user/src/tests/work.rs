//! A running device: kicks, calls, resets.

use super::back_end::{CONFIG, EVENT_IDX, FLUSH, PROTOCOL, VERSION_1};
use super::driver::Guest;
use vhost::vhost_user::message::FrontendReq as Code;

#[test]
fn a_back_end_is_kicked_when_it_wants_to_be() {
    let (mut guest, back_end) = Guest::standard();
    back_end.kicks();
    guest.service();
    assert_eq!(back_end.kicks(), 0, "nothing is new");
    guest.make_available(0);
    guest.service();
    assert_eq!(back_end.kicks(), 1);
    guest.make_available(1);
    guest.service();
    assert_eq!(back_end.kicks(), 0, "it has not seen the first yet");
    guest.want_kick_at(2);
    guest.make_available(2);
    guest.make_available(3);
    guest.service();
    assert_eq!(back_end.kicks(), 1);
    assert_eq!((guest.counter("requests"), guest.counter("kicks")), (4, 2));
}

#[test]
fn without_events_a_flag_says_whether_kicks_are_wanted() {
    let (mut back_end, stream) = super::back_end::BackEnd::new(CONFIG);
    back_end.features = VERSION_1 | PROTOCOL | FLUSH;
    back_end.introduce();
    let mut guest = Guest::new(stream);
    guest.start();
    guest.service();
    back_end.process();
    assert_eq!(back_end.features & EVENT_IDX, 0);
    back_end.kicks();
    guest.make_available(0);
    guest.service();
    assert_eq!(back_end.kicks(), 1);
    guest.set_used_flags(1);
    guest.make_available(1);
    guest.service();
    assert_eq!(back_end.kicks(), 0);
}

#[test]
fn calls_wake_the_monitor_and_interrupt_the_guest() {
    let (mut guest, back_end) = Guest::standard();
    guest.service();
    assert!(!guest.is_woken());
    let before = guest.line.0.get();
    guest.make_available(5);
    guest.service();
    assert_eq!(guest.line.0.get(), before);
    guest.give_back(5);
    for calls in 1..=3 {
        back_end.call();
        assert!(guest.is_woken());
        assert!(guest.service().raised);
        assert!(!guest.is_woken(), "an idle guest is left alone");
        assert!(!guest.service().raised);
        assert_eq!(guest.counter("calls"), calls);
    }
    assert_eq!(guest.counter("completed"), 1);
}

#[test]
fn a_reset_stops_the_queues_before_the_guest_goes_on() {
    let (mut guest, mut back_end) = Guest::standard();
    // The answer lies there already; the guest's write of the status would wait for it.
    back_end.reply(Code::GET_VRING_BASE, &[0; 8]);
    guest.start();
    back_end.process();
    assert!(back_end.heard.contains(&Code::GET_VRING_BASE.into()));
    assert_eq!(guest.counter("disconnects"), 0);
}

#[test]
fn a_guest_that_breaks_its_ring_gets_needs_reset() {
    let (mut guest, back_end) = Guest::standard();
    back_end.reply(Code::GET_VRING_BASE, &[0; 8]);
    for _ in 0..9 {
        guest.make_available(0);
    }
    guest.service();
    assert_eq!(guest.status() & 64, 64);
    let (mut guest, back_end) = Guest::standard();
    back_end.reply(Code::GET_VRING_BASE, &[0; 8]);
    guest.make_available(8);
    guest.service();
    assert_eq!(guest.status() & 64, 64, "a head outside the table");
}
