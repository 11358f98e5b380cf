//! Guests that leave memory, and guests that are saved.

use super::*;
use denali_scheduler::ParkPolicy;

#[test]
fn memory_that_is_out_is_left_alone_until_something_comes() {
    let mut guest = Guest::new();
    guest.idle.out_after_ns = Some(1);
    let line = guest.batcher.device_line(2);
    guest.run(vec![then(IDLE), then(TERMINATE)], vec![None, None, line]);
    let expected = "run 0x200000, service, wait true, service, swap out, wait false, wait false, \
                    run 0x200000";
    assert_eq!(guest.log(), expected);
}

#[test]
fn a_guest_that_sleeps_on_is_parked() {
    let mut guest = Guest::new();
    guest.idle.park = Some(ParkPolicy { after_ns: 1, horizon_ns: 0 });
    let end = guest.run(vec![then(IDLE)], vec![None]);
    assert!(matches!(end, End::Parked));
    let saves = guest.saves.borrow();
    let [saved] = &saves.saved[..] else { panic!("saved once") };
    assert!(saved.idle && saved.clock.boot_id == "this one");
}

#[test]
fn whoever_asks_has_a_computing_guest_saved_between_two_exits() {
    let guest = Guest::new();
    let (saves, line) = (guest.saves.clone(), guest.batcher.device_line(9).unwrap());
    let ask = move |_: &GuestRam| {
        saves.borrow_mut().asked = true;
        line.raise();
    };
    let end = guest.run(vec![doing(ask, Exit::Interrupted)], Vec::new());
    assert!(matches!(end, End::Parked));
    assert!(!guest.saves.borrow().saved[0].idle);
    assert_eq!(guest.pending(), 1 << 9, "what was raised is in its memory");
}

#[test]
fn a_guest_that_is_copied_goes_on_where_it_was() {
    let guest = Guest::new();
    guest.saves.borrow_mut().goes_on = true;
    let saves = guest.saves.clone();
    let ask = move |_: &GuestRam| saves.borrow_mut().asked = true;
    let line = guest.batcher.device_line(1);
    guest.run(vec![doing(ask, IDLE), then(TERMINATE)], vec![None, line]);
    let expected =
        "run 0x200000, service, wait false, save, service, wait false, service, run 0x200000";
    assert_eq!(guest.log(), expected);
    assert!(guest.saves.borrow().saved[0].idle);
}

#[test]
fn a_held_guest_is_saved_and_stays_held() {
    let guest = Guest::new();
    guest.saves.borrow_mut().goes_on = true;
    let (hold, saves) = (guest.hold.clone(), guest.saves.clone());
    let be_held = move |_: &GuestRam| {
        *hold.borrow_mut() = true;
        saves.borrow_mut().asked = true;
    };
    guest.run(vec![doing(be_held, Exit::Interrupted), then(TERMINATE)], Vec::new());
    assert_eq!(guest.log(), "run 0x200000, service, save, held, service, run 0x200000");
}

#[test]
fn a_saved_guest_goes_on_with_what_has_come_meanwhile() {
    for idle in [false, true] {
        let guest = Guest::new();
        guest.ram.registers().idle_deadline_ns.store(1, Ordering::Relaxed);
        let clock = GuestClock::new(ClockStart::now(), None, 0).save("");
        let saved = SavedLoop { vcpu: VcpuState::default(), idle, run_deadline_met: 5, clock };
        guest.create(vec![then(TERMINATE)], Vec::new()).resumed(&saved).run().unwrap();
        assert_eq!(guest.log(), if idle { "service, run 0x200000" } else { "run 0x200000" });
        assert_eq!(guest.pending(), if idle { 1 << PENDING_TIMER } else { 0 });
    }
}
