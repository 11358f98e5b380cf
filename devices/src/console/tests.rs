//! Tests of the console, from the driver's side of its rings.

use super::*;
use crate::Bus;
use crate::testing::driver::{BUFFERS, Driver};
use crate::testing::wild::{Wild, action, cases, features};
use crate::testing::*;
use denali_abi::virtio as abi;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use vm_memory::{Bytes, GuestAddress};

mod state;

const FEATURES: u64 = abi::FEATURE_VERSION_1 | abi::FEATURE_EVENT_IDX | abi::FEATURE_INDIRECT_DESC;
const RECEIVE: usize = abi::CONSOLE_RECEIVE_QUEUE as usize;
const TRANSMIT: usize = abi::CONSOLE_TRANSMIT_QUEUE as usize;

/// A back end that has as much room and input as it is told.
#[derive(Clone, Default)]
struct Line(Rc<LineState>);

#[derive(Default)]
struct LineState {
    room: Cell<usize>,
    output: RefCell<Vec<u8>>,
    input: RefCell<VecDeque<u8>>,
    attached: Cell<bool>,
    wants_input: Cell<bool>,
    busy: Cell<Option<&'static str>>,
}

impl ConsoleBackend for Line {
    fn attach(&mut self, driver: bool) {
        self.0.attached.set(driver);
    }
    fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.0.room.get());
        self.0.room.set(self.0.room.get() - taken);
        self.0.output.borrow_mut().extend_from_slice(&bytes[..taken]);
        taken
    }
    fn read(&mut self, room: &mut [u8]) -> usize {
        let mut input = self.0.input.borrow_mut();
        let count = room.len().min(input.len());
        input.drain(..count).zip(room).for_each(|(byte, place)| *place = byte);
        count
    }
    fn want_input(&mut self, wanted: bool) {
        self.0.wants_input.set(wanted);
    }
    fn busy(&mut self) -> Option<&'static str> {
        self.0.busy.get()
    }
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

fn console(features: u64) -> (Driver, Line, CountedLine) {
    let (line, interrupts) = (Line::default(), CountedLine::default());
    let mut bus = Bus::new();
    let device = Box::new(ConsoleDevice::new(line.clone()));
    assert_eq!(bus.attach(device, Box::new(interrupts.clone())), Ok(0));
    (Driver::start(bus, features, 2, 16), line, interrupts)
}

#[test]
fn output_is_written_in_order_and_told_of_once() {
    let (mut driver, line, interrupts) = console(FEATURES);
    line.0.room.set(usize::MAX);
    for (head, text) in [(3, "hello "), (1, ""), (0, "world")] {
        let at = driver.offer(TRANSMIT, head, text.len() as u32, false);
        driver.memory.write_slice(text.as_bytes(), GuestAddress(at)).unwrap();
    }
    assert!(!driver.service().more);
    assert_eq!(*line.0.output.borrow(), b"hello world");
    assert_eq!(driver.used(TRANSMIT), [(3, 0), (1, 0), (0, 0)]);
    assert_eq!(interrupts.0.get(), 1);
}

#[test]
fn input_comes_one_buffer_at_a_time_when_batching_is_off() {
    let (mut driver, line, interrupts) = console(FEATURES);
    driver.bus.deliver_singly(true);
    line.0.room.set(usize::MAX);
    line.0.input.borrow_mut().extend(b"abcdefgh");
    for head in 0..3 {
        driver.offer(RECEIVE, head, 4, true);
        driver.offer(TRANSMIT, head, 1, false);
    }
    assert!(driver.service().more);
    assert_eq!((driver.used(RECEIVE), driver.used(TRANSMIT).len()), (vec![(0, 4)], 3));
    assert!(driver.service().more);
    assert_eq!((driver.used(RECEIVE), interrupts.0.get()), (vec![(1, 4)], 1));
    assert!(!driver.service().more);
    assert_eq!(driver.used(RECEIVE), []);
}

#[test]
fn a_slow_reader_keeps_output_in_the_guest_and_loses_none() {
    let (mut driver, line, _) = console(FEATURES);
    line.0.room.set(3);
    let at = driver.offer(TRANSMIT, 0, 8, false);
    driver.memory.write_slice(b"abcdefgh", GuestAddress(at)).unwrap();
    assert!(!driver.service().more, "nothing is tried again before there is room");
    assert!(driver.used(TRANSMIT).is_empty());
    line.0.room.set(4);
    driver.service();
    assert_eq!(*line.0.output.borrow(), b"abcdefg");
    line.0.room.set(9);
    driver.service();
    assert_eq!(*line.0.output.borrow(), b"abcdefgh");
    assert_eq!(driver.used(TRANSMIT), [(0, 0)]);
    let counters = driver.bus.counters(0);
    assert!(counters.contains(&("output_bytes", 8)) && counters.contains(&("output_waits", 2)));
}

#[test]
fn much_output_is_written_within_a_budget() {
    let (mut driver, line, _) = console(FEATURES);
    line.0.room.set(usize::MAX);
    let large = 3 << 20;
    driver.queues[TRANSMIT].descriptor(&driver.memory, 0, (0x10_0000, large, 0, 0));
    driver.queues[TRANSMIT].offer(&driver.memory, 0);
    let mut services = 1;
    while driver.service().more {
        services += 1;
    }
    assert_eq!(line.0.output.borrow().len(), large as usize);
    assert!((3..10).contains(&services), "{services}");
}

#[test]
fn input_waits_for_buffers_and_wakes_nobody_meanwhile() {
    let (mut driver, line, interrupts) = console(FEATURES);
    line.0.input.borrow_mut().extend(b"some input");
    driver.service();
    assert!(line.0.attached.get() && !line.0.wants_input.get());
    let first = driver.offer(RECEIVE, 0, 4, true);
    let second = driver.offer(RECEIVE, 1, 100, true);
    driver.offer(RECEIVE, 2, 100, true);
    driver.service();
    assert_eq!(driver.used(RECEIVE), [(0, 4), (1, 6)]);
    assert_eq!([driver.bytes(first, 4), driver.bytes(second, 6)], [&b"some"[..], b" input"]);
    assert!(line.0.wants_input.get(), "a buffer is left for more");
    assert_eq!(interrupts.0.get(), 1);
}

#[test]
fn a_reset_forgets_what_was_half_written() {
    let (mut driver, line, _) = console(FEATURES);
    line.0.room.set(1);
    driver.offer(TRANSMIT, 0, 8, false);
    driver.service();
    driver.bus.put(abi::STATUS, 0);
    assert!(!line.0.attached.get());
    line.0.room.set(100);
    driver.service();
    assert_eq!(line.0.output.borrow().len(), 1);
}

#[test]
fn a_buffer_for_the_wrong_direction_breaks_the_device_alone() {
    for (queue, writable) in [(RECEIVE, false), (TRANSMIT, true)] {
        let (mut driver, line, _) = console(FEATURES);
        line.0.input.borrow_mut().push_back(1);
        driver.offer(queue, 0, 8, writable);
        driver.service();
        assert!(driver.broken());
    }
}

fn wild(features: u64) -> (Wild, Line) {
    let line = Line::default();
    (Wild::new(Box::new(ConsoleDevice::new(line.clone())), features, 16), line)
}

/// What the outside does: there is room, or input.
fn event(line: &Line, number: u32) {
    line.0.output.borrow_mut().clear();
    match number % 2 {
        0 => line.0.room.set(number as usize % 5000),
        _ => *line.0.input.borrow_mut() = vec![7; number as usize % 5000].into(),
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn no_driver_harms_the_monitor(
        actions in prop::collection::vec(action(2), 1..120),
        features in features(FEATURES),
    ) {
        let (mut wild, line) = wild(features);
        for action in &actions {
            wild.apply(action, &mut |number| event(&line, number));
        }
    }

    #[test]
    fn rings_that_change_meanwhile_harm_nobody(seed in any::<u64>()) {
        let (mut wild, line) = wild(FEATURES);
        wild.torn(seed, &mut |number| event(&line, number));
    }

    /// However buffers and room come, bytes arrive in order, each once, and so do buffers.
    #[test]
    fn streams_stay_whole(
        lengths in prop::collection::vec((0_u32..3000, 0_usize..5000, 0_u32..3000), 1..60),
    ) {
        let (mut driver, line, _) = console(FEATURES);
        let (mut sent, mut given, mut got) = (Vec::new(), Vec::new(), Vec::new());
        for (number, (output, room, input)) in (0_u16..).zip(lengths) {
            let head = number % 16;
            // Each buffer is used again only once it has come back.
            line.0.room.set(usize::MAX);
            driver.service();
            let at = driver.offer(TRANSMIT, head, output, false);
            let bytes: Vec<u8> = (0..output).map(|n| (n * 7 + u32::from(number)) as u8).collect();
            driver.memory.write_slice(&bytes, GuestAddress(at)).unwrap();
            sent.extend(bytes);
            let bytes: Vec<u8> = (0..room).map(|n| (n * 3 + usize::from(number)) as u8).collect();
            line.0.input.borrow_mut().extend(&bytes);
            given.extend(bytes);
            driver.offer(RECEIVE, head, input, true);
            line.0.room.set(room);
            driver.service();
            for (head, written) in driver.used(RECEIVE) {
                let at = BUFFERS + 0x1000 * u64::from(head);
                got.extend(driver.bytes(at, written));
            }
            prop_assert!(!driver.broken());
        }
        line.0.room.set(usize::MAX);
        while driver.service().more {}
        prop_assert_eq!(&*line.0.output.borrow(), &sent);
        prop_assert!(given.starts_with(&got));
        prop_assert_eq!(got.len() + line.0.input.borrow().len(), given.len());
    }
}
