//! Guests as they are saved: what the monitor reads, and vCPU, clock and devices that go on from it.

use crate::edit::edit;
use crate::input::Input;
use crate::machine::{Memory, bus, memory, start_all};
use crate::memory::bounded;
use denali_abi::virtio::STATUS;
use denali_devices::BusState;
use denali_hypervisor::VcpuState;
use denali_vcpu::{ClockStart, GuestClock, SavedClock, SavedLoop};
use denali_vmm::fuzzing::{read, write};
use serde_json::{Value, from_slice, to_vec};

/// Bytes that reading a state of `length` bytes and restoring it may take.
fn restoring(length: usize) -> usize {
    64 * length + (512 << 10)
}

/// How this boot of the host is called.
const BOOT: &str = "this boot";

/// The input: 0, and a state as it is; or another byte, and changes to one that is as it should be.
pub fn saved(bytes: &[u8]) {
    let mut input = Input(bytes);
    let text = match input.byte() {
        0 => input.0.to_vec(),
        _ => {
            let mut value: Value = from_slice(&genuine()).expect("states are JSON");
            edit(&mut value, &mut input);
            to_vec(&value).expect("values can be written")
        }
    };
    let most = restoring(text.len());
    let Some(saved) = bounded(most, || read(&text)) else { return };
    let again = read(&saved.text).expect("what is written is read");
    assert_eq!((&again.vcpu, &again.devices), (&saved.vcpu, &saved.devices));
    let _ = denali_hypervisor::fuzzing::loads(&saved.vcpu.vcpu);
    goes_on(&saved.vcpu.clock);
    bounded(most, || restore(&saved.devices));
}

/// A clock that goes on never goes back.
fn goes_on(saved: &SavedClock) {
    let clock = GuestClock::new(ClockStart::now(), Some(2_000_000), 0).resumed(saved, BOOT);
    let (now, later) = (clock.now_ns(), clock.now_ns());
    assert!(saved.monotonic_ns <= now && now <= later, "{saved:?}: {now}, {later}");
    let again = clock.save(BOOT);
    let next = GuestClock::new(ClockStart::now(), Some(2_000_000), 0).resumed(&again, BOOT);
    assert!(again.monotonic_ns <= next.now_ns(), "{saved:?}, {again:?}");
}

/// Devices go on from a state or are as after a reset; what goes on can be saved, and goes on again.
fn restore(state: &BusState) {
    let (mut bus, memory) = (bus(), memory_at_work());
    if bus.restore(state, &memory).is_err() {
        (0..4).for_each(|device| assert_eq!(bus.read(device, STATUS, 4), 0));
        return;
    }
    for now_ns in [1, 1_000_000, u64::MAX] {
        bus.service(&memory, now_ns);
    }
    let again = bus.save(&memory).expect("nothing is under way");
    crate::machine::bus().restore(&again, &memory).expect("what was saved is restored");
}

/// Memory in which all queues are set up.
fn memory_at_work() -> Memory {
    let (mut bus, memory) = (bus(), memory());
    start_all(&mut bus, &memory);
    bus.service(&memory, 1);
    memory
}

/// A guest as it is saved, with all devices at work.
fn genuine() -> Vec<u8> {
    let (mut bus, memory) = (bus(), memory());
    start_all(&mut bus, &memory);
    bus.service(&memory, 1);
    let devices = bus.save(&memory).expect("nothing is under way");
    let clock = SavedClock {
        monotonic_ns: 5_000_000_000,
        ahead_ns: 0,
        real_ns: 1 << 60,
        boot_id: "another boot".into(),
        seq: 4,
    };
    let vcpu = SavedLoop { vcpu: VcpuState::default(), idle: true, run_deadline_met: 0, clock };
    write(1, vcpu, devices)
}

/// A state as it is, the same changed nowhere, and changed in some places.
#[must_use]
pub fn saved_seeds() -> Vec<Vec<u8>> {
    let change = |place: u16, kind: u8, number: u64| {
        let mut bytes = place.to_le_bytes().to_vec();
        bytes.push(kind);
        bytes.extend(number.to_le_bytes());
        bytes
    };
    let whole = [vec![0], genuine()].concat();
    let mut seeds = vec![whole, vec![1]];
    for (place, kind, number) in [(4, 4, u64::MAX), (20, 0, 1), (40, 3, 0), (60, 4, 1 << 63)] {
        seeds.push([vec![1], change(place, kind, number)].concat());
    }
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_states() {
        let saved = read(&genuine()).unwrap();
        assert!(denali_hypervisor::fuzzing::loads(&saved.vcpu.vcpu));
        let (mut bus, memory) = (bus(), memory_at_work());
        bus.restore(&saved.devices, &memory).unwrap();
        assert_eq!(bus.read(3, STATUS, 4), 15);
    }
}
