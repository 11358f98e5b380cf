//! States of whole guests: what fits, what does not, and what is said of it.

use super::*;
use crate::console::{ConsoleBackend, ConsoleDevice};
use crate::entropy::{EntropyDevice, EntropySource};
use crate::rate::RateLimiter;
use crate::testing::parking::saved;
use crate::testing::{CountedLine, Memory, Registers, Rings, memory};
use crate::virtio::VirtioDevice;
use crate::{Bus, StateError};
use denali_abi::virtio as abi;
use serde_json::{Value, json};

/// The other end of everything: takes what it gets, and has nothing but zeros.
struct Void;

impl EntropySource for Void {
    fn fill(&mut self, bytes: &mut [u8]) -> bool {
        bytes.fill(0);
        true
    }
}

impl ConsoleBackend for Void {
    fn attach(&mut self, _driver: bool) {}
    fn write(&mut self, bytes: &[u8]) -> usize {
        bytes.len()
    }
    fn read(&mut self, _room: &mut [u8]) -> usize {
        0
    }
    fn want_input(&mut self, _wanted: bool) {}
    fn busy(&mut self) -> Option<&'static str> {
        None
    }
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

fn console() -> Box<dyn VirtioDevice<Memory>> {
    Box::new(ConsoleDevice::new(Void))
}

fn entropy() -> Box<dyn VirtioDevice<Memory>> {
    Box::new(EntropyDevice::new(Void, RateLimiter::default()))
}

fn bus(devices: impl IntoIterator<Item = Box<dyn VirtioDevice<Memory>>>) -> Bus<Memory> {
    let mut bus = Bus::new();
    for device in devices {
        bus.attach(device, Box::new(CountedLine::default())).unwrap();
    }
    bus
}

/// A console at work, beside an entropy source that has no driver, and its state as JSON.
fn at_work() -> (Memory, Value) {
    let (memory, mut bus) = (memory(), bus([console(), entropy()]));
    assert_eq!(bus.negotiate(abi::FEATURE_VERSION_1), 11);
    bus.set_up(1, &Rings::standard(1, 16));
    bus.start();
    bus.service(&memory, 1);
    let state = serde_json::to_value(saved(&mut bus, &memory)).unwrap();
    (memory, state)
}

/// What is said of the state with these changes, if anything.
fn refusal(changes: &[(&str, Value)]) -> Option<String> {
    let (memory, mut state) = at_work();
    for (place, value) in changes {
        *state.pointer_mut(place).expect(place) = value.clone();
    }
    let state: BusState = serde_json::from_value(state).unwrap();
    let restored = bus([console(), entropy()]).restore(&state, &memory);
    restored.err().map(|error| error.to_string())
}

#[test]
fn a_state_is_small_and_reads_as_documented() {
    let (_, state) = at_work();
    assert_eq!(state["version"], 1);
    let ready = json!({
        "size": 16, "ready": true, "descriptors": 0x18_000, "available": 0x1c_000, "used": 0x1e_000,
        "position": 0,
    });
    assert_eq!(state["devices"][0]["queues"][1], ready);
    assert_eq!(state["devices"][0]["queues"][0]["position"], Value::Null);
    assert_eq!(state["devices"][0]["kind"], json!({ "console": { "written": 0 } }));
    assert!(state.to_string().len() < 1200, "{state}");
    assert_eq!(refusal(&[]), None);
}

#[test]
fn what_does_not_fit_is_said_in_one_line() {
    let status = |status: u32| ("/devices/0/status", json!(status));
    for (changes, expected) in [
        (
            &[("/version", json!(2))][..],
            "the state of the devices has version 2; this monitor restores version 1",
        ),
        (
            &[("/devices", json!([]))],
            "the guest had 0 devices, and now has 2; give it those it had",
        ),
        (
            &[("/devices/1/kind", json!({ "console": { "written": 0 } }))],
            "device 1: it was a console, and now is an entropy source",
        ),
        (&[("/devices/0/queues", json!([]))], "device 0: it had 0 queues, and now has 2"),
        (
            &[("/devices/1/config", json!([1, 2, 3]))],
            "device 1: its configuration space had 3 bytes, and now has 0",
        ),
        (&[status(16)], "device 0: its status is impossible: 0x10, interrupts 0x0"),
        (&[status(8)], "device 0: its status is impossible: 0x8, interrupts 0x0"),
        (&[status(64)], "device 0: its status is impossible: 0x40, interrupts 0x0"),
        (
            &[("/devices/1/interrupt_status", json!(4))],
            "device 1: its status is impossible: 0x0, interrupts 0x4",
        ),
        (
            &[("/devices/0/driver_features", json!(1_u64 << 32 | 2))],
            "device 0: its driver uses features that it does not offer now: 0x2",
        ),
        (
            &[("/devices/0/driver_features", json!(0))],
            "device 0: its driver uses features that it does not offer now: 0x0",
        ),
        (
            &[("/devices/0/queues/0/position", json!(0))],
            "device 0: queue 0 is at work, and is not in use, or the other way round",
        ),
        (
            &[("/devices/0/queues/0/ready", json!(true))],
            "device 0: queue 0 is at work, and is not in use, or the other way round",
        ),
        (&[status(11)], "device 0: queue 1 is at work, and is not in use, or the other way round"),
        (
            &[("/devices/0/queues/1/position", json!(1))],
            "device 0: queue 1 does not agree with the guest's memory: used index",
        ),
        (
            &[("/devices/0/queues/1/size", json!(12))],
            "device 0: queue 1 does not agree with the guest's memory: queue size",
        ),
        (
            &[("/devices/0/queues/1/used", json!(0x100_0000))],
            "device 0: queue 1 does not agree with the guest's memory: ring address",
        ),
    ] {
        assert_eq!(refusal(changes).as_deref(), Some(expected));
    }
}

#[test]
fn fields_that_are_unknown_or_missing_are_refused() {
    for place in ["", "/devices/0", "/devices/0/queues/1", "/devices/0/kind/console"] {
        let (_, state) = at_work();
        let reads = |state: &Value| serde_json::from_value::<BusState>(state.clone()).is_ok();
        assert!(reads(&state));
        let mut more = state.clone();
        more.pointer_mut(place).unwrap()["colour"] = json!(1);
        assert!(!reads(&more), "{place}");
        let mut less = state;
        let fields = less.pointer_mut(place).and_then(Value::as_object_mut).unwrap();
        let first = fields.keys().next().unwrap().clone();
        fields.remove(&first);
        assert!(!reads(&less), "{place}");
    }
}

/// One device that does not fit is enough: none goes on.
#[test]
fn a_guest_is_restored_whole_or_not_at_all() {
    let (memory, state) = at_work();
    let state: BusState = serde_json::from_value(state).unwrap();
    let mut wrong = bus([console(), console()]);
    assert!(matches!(wrong.restore(&state, &memory), Err(StateError::Device { device: 1, .. })));
    assert_eq!(wrong.get(abi::STATUS), 0);
    let mut right = bus([console(), entropy()]);
    right.restore(&state, &memory).unwrap();
    assert_eq!(right.get(abi::STATUS), 15);
    assert_eq!(saved(&mut right, &memory), state);
}
