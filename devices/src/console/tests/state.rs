//! A console that is saved and goes on elsewhere.

use super::*;
use crate::testing::parking::{change, damaged, park, restored, saved};

fn made(line: &Line) -> Box<ConsoleDevice<Line>> {
    Box::new(ConsoleDevice::new(line.clone()))
}

/// Offers `text` for output, in a buffer of its own.
fn say(driver: &mut Driver, head: u16, text: &[u8]) {
    let at = driver.offer(TRANSMIT, head, text.len() as u32, false);
    driver.memory.write_slice(text, GuestAddress(at)).unwrap();
}

#[test]
fn output_goes_on_where_it_was_written_to() {
    let (mut driver, line, _) = console(FEATURES);
    line.0.room.set(3);
    say(&mut driver, 0, b"abcdefgh");
    say(&mut driver, 1, b"ij");
    driver.service();
    let elsewhere = Line::default();
    elsewhere.0.room.set(2);
    park(&mut driver.bus, &driver.memory, made(&elsewhere));
    assert!(elsewhere.0.attached.get());
    driver.service();
    assert_eq!(driver.used(TRANSMIT), []);
    // Moved again before anything is done, and then to the end.
    park(&mut driver.bus, &driver.memory, made(&elsewhere));
    park(&mut driver.bus, &driver.memory, made(&elsewhere));
    elsewhere.0.room.set(100);
    driver.service();
    let whole = [&line.0.output.borrow()[..], &elsewhere.0.output.borrow()[..]].concat();
    assert_eq!(whole, b"abcdefghij");
    assert_eq!(driver.used(TRANSMIT), [(0, 0), (1, 0)]);
}

#[test]
fn a_console_that_was_saved_goes_on_itself_too() {
    let (mut driver, line, _) = console(FEATURES);
    line.0.room.set(3);
    say(&mut driver, 0, b"abcdef");
    driver.service();
    let first = saved(&mut driver.bus, &driver.memory);
    assert_eq!(saved(&mut driver.bus, &driver.memory), first);
    line.0.room.set(1);
    driver.service();
    assert_ne!(saved(&mut driver.bus, &driver.memory), first);
    line.0.room.set(100);
    driver.service();
    assert_eq!(*line.0.output.borrow(), b"abcdef");
    assert_eq!(driver.used(TRANSMIT), [(0, 0)]);
}

#[test]
fn somebody_at_the_other_end_is_not_left_alone() {
    let (mut driver, line, _) = console(FEATURES);
    line.0.room.set(3);
    say(&mut driver, 0, b"abcdef");
    driver.service();
    line.0.busy.set(Some("is connected to somebody"));
    let refused = driver.bus.save(&driver.memory).unwrap_err();
    assert_eq!(refused.to_string(), "device 0 is connected to somebody");
    line.0.room.set(100);
    driver.service();
    assert_eq!(*line.0.output.borrow(), b"abcdef");
    line.0.busy.set(None);
    saved(&mut driver.bus, &driver.memory);
}

/// A driver that wants to hear of input only when two buffers have come hears of it then, however often
/// the console was moved in between, and from the new one.
#[test]
fn interrupts_come_when_the_driver_wants_them() {
    let (mut driver, line, first) = console(FEATURES);
    let used_event = GuestAddress(driver.queues[RECEIVE].rings.available + 4 + 2 * 16);
    driver.memory.write_obj(1_u16, used_event).unwrap();
    for head in 0..3 {
        driver.offer(RECEIVE, head, 8, true);
    }
    line.0.input.borrow_mut().extend(b"one");
    assert!(!driver.service().raised && line.0.wants_input.get());
    let second = park(&mut driver.bus, &driver.memory, made(&line));
    assert_eq!((first.0.get(), second.0.get()), (0, 0), "the driver does not want to hear of it");
    assert!(!driver.service().raised && line.0.wants_input.get(), "a buffer is left");
    line.0.input.borrow_mut().extend(b"two");
    assert!(driver.service().raised);
    assert_eq!(second.0.get(), 1);
    let third = park(&mut driver.bus, &driver.memory, made(&line));
    assert_eq!(third.0.get(), 1, "nobody has said that the interrupt was seen");
    driver.bus.put(abi::INTERRUPT_ACK, 1);
    let fourth = park(&mut driver.bus, &driver.memory, made(&line));
    assert_eq!(fourth.0.get(), 0);
    assert_eq!(driver.used(RECEIVE), [(0, 3), (1, 3)]);
}

#[test]
fn a_console_that_is_being_set_up_is_set_up_to_the_end() {
    let line = Line::default();
    let (memory, mut bus) = (memory(), Bus::new());
    bus.attach(made(&line), Box::new(CountedLine::default())).unwrap();
    park(&mut bus, &memory, made(&line));
    assert_eq!(bus.negotiate(FEATURES), 11);
    let rings = [Rings::standard(0, 16), Rings::standard(1, 16)];
    bus.set_up(0, &rings[0]);
    bus.put(abi::QUEUE_SEL, 1);
    bus.put(abi::QUEUE_SIZE, 16);
    park(&mut bus, &memory, made(&line));
    assert!(!line.0.attached.get());
    assert_eq!((bus.get(abi::STATUS), bus.get(abi::QUEUE_READY)), (11, 0));
    bus.set_up(1, &rings[1]);
    bus.start();
    // Not serviced yet.
    park(&mut bus, &memory, made(&line));
    assert!(line.0.attached.get());
    line.0.room.set(100);
    let mut driver = Driver { memory, bus, queues: rings.map(DriverQueue::new).into(), now_ns: 1 };
    say(&mut driver, 0, b"hello");
    assert!(driver.service().raised);
    assert_eq!(*line.0.output.borrow(), b"hello");
}

#[test]
fn a_broken_console_stays_broken_until_a_reset() {
    let (mut driver, line, _) = console(FEATURES);
    line.0.room.set(1);
    say(&mut driver, 0, b"ab");
    driver.service();
    driver.offer(RECEIVE, 0, 8, false);
    line.0.input.borrow_mut().push_back(1);
    driver.service();
    assert!(driver.broken());
    let moved = park(&mut driver.bus, &driver.memory, made(&line));
    assert!(driver.broken());
    assert_eq!((moved.0.get(), driver.bus.get(abi::INTERRUPT_STATUS)), (1, 2));
    assert_eq!(driver.bus.negotiate(FEATURES), 11);
}

/// Who writes over what the device has written is stopped before he is moved: so what was saved fits.
#[test]
fn a_driver_that_breaks_its_rings_is_stopped_when_it_is_saved() {
    for (queue, at, index) in [(TRANSMIT, 2, 7_u16), (RECEIVE, 2, 1)] {
        let (mut driver, line, interrupts) = console(FEATURES);
        driver.service();
        let ring = driver.queues[queue].rings.used;
        driver.memory.write_obj(index, GuestAddress(ring + at)).unwrap();
        park(&mut driver.bus, &driver.memory, made(&line));
        assert!(driver.broken());
        assert_eq!(interrupts.0.get(), 1);
    }
    let (mut driver, line, _) = console(FEATURES);
    driver.service();
    let ring = driver.queues[TRANSMIT].rings.available;
    driver.memory.write_obj(17_u16, GuestAddress(ring + 2)).unwrap();
    park(&mut driver.bus, &driver.memory, made(&line));
    assert!(driver.broken());
}

#[test]
fn a_state_of_other_memory_is_refused() {
    let (mut driver, line, _) = console(FEATURES);
    line.0.room.set(100);
    say(&mut driver, 0, b"early");
    driver.service();
    let early = saved(&mut driver.bus, &driver.memory);
    say(&mut driver, 0, b"late");
    driver.service();
    let error = restored(made(&line), &early, &driver.memory).err().unwrap();
    let expected = "device 0: queue 1 does not agree with the guest's memory: used index";
    assert_eq!(error.to_string(), expected);
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn whatever_a_driver_has_done_can_be_moved(
        actions in prop::collection::vec(action(2), 1..60),
        features in features(FEATURES),
    ) {
        let (mut wild, line) = wild(features);
        for action in &actions {
            wild.apply(action, &mut |number| event(&line, number));
            wild.park(made(&line), &[]);
        }
    }

    #[test]
    fn no_state_harms_the_monitor(
        before in prop::collection::vec(action(2), 1..40),
        changes in prop::collection::vec(change(), 1..4),
        after in prop::collection::vec(action(2), 1..40),
        features in features(FEATURES),
    ) {
        let (mut wild, line) = wild(features);
        before.iter().for_each(|action| wild.apply(action, &mut |n| event(&line, n)));
        wild.park(made(&line), &changes);
        after.iter().for_each(|action| wild.apply(action, &mut |n| event(&line, n)));
    }

    /// A state that was refused has left the device as after a reset.
    #[test]
    fn who_is_refused_starts_anew(changes in prop::collection::vec(change(), 1..4)) {
        let (mut driver, line, _) = console(FEATURES);
        driver.service();
        let state = damaged(&saved(&mut driver.bus, &driver.memory), &changes);
        let mut bus = Bus::new();
        bus.attach(made(&line), Box::new(CountedLine::default())).unwrap();
        if state.is_none_or(|state| bus.restore(&state, &driver.memory).is_err()) {
            prop_assert_eq!(bus.get(abi::STATUS), 0);
            prop_assert_eq!(bus.negotiate(FEATURES), 11);
        }
    }

    /// However buffers, room and moves come, bytes arrive in order, each once.
    #[test]
    fn streams_stay_whole_across_moves(
        steps in prop::collection::vec((0..3000_u32, 0..4000_usize, 1..3000_u32, 0..3_u8), 1..60),
        features in features(FEATURES),
    ) {
        let (mut driver, line, _) = console(features);
        let (mut sent, mut given, mut got) = (Vec::new(), Vec::new(), Vec::new());
        let mut offered = [0_u16; 2];
        let mut returned = [0_u16; 2];
        for (number, &(output, room, input, moves)) in (0_usize..).zip(&steps) {
            if offered[TRANSMIT] - returned[TRANSMIT] < 16 {
                let bytes: Vec<u8> = (0..output as usize).map(|n| (n * 7 + number) as u8).collect();
                say(&mut driver, offered[TRANSMIT] % 16, &bytes);
                sent.extend(bytes);
                offered[TRANSMIT] += 1;
            }
            if offered[RECEIVE] - returned[RECEIVE] < 16 {
                driver.offer(RECEIVE, offered[RECEIVE] % 16, input, true);
                offered[RECEIVE] += 1;
            }
            let bytes: Vec<u8> = (0..room).map(|n| (n * 3 + number) as u8).collect();
            line.0.input.borrow_mut().extend(&bytes);
            given.extend(bytes);
            line.0.room.set(room);
            driver.service();
            for _ in 0..moves {
                park(&mut driver.bus, &driver.memory, made(&line));
            }
            for (head, written) in driver.used(RECEIVE) {
                prop_assert_eq!(head, u32::from(returned[RECEIVE] % 16));
                returned[RECEIVE] += 1;
                got.extend(driver.bytes(BUFFERS + 0x1000 * u64::from(head), written));
            }
            for (head, _) in driver.used(TRANSMIT) {
                prop_assert_eq!(head, u32::from(returned[TRANSMIT] % 16));
                returned[TRANSMIT] += 1;
            }
            prop_assert!(!driver.broken());
        }
        line.0.room.set(usize::MAX);
        while driver.service().more {}
        returned[TRANSMIT] += driver.used(TRANSMIT).len() as u16;
        prop_assert_eq!(returned[TRANSMIT], offered[TRANSMIT]);
        prop_assert_eq!(&*line.0.output.borrow(), &sent);
        for (head, written) in driver.used(RECEIVE) {
            got.extend(driver.bytes(BUFFERS + 0x1000 * u64::from(head), written));
        }
        prop_assert!(given.starts_with(&got));
        prop_assert_eq!(got.len() + line.0.input.borrow().len(), given.len());
    }
}
