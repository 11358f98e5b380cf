//! Devices that are saved and go on elsewhere, for tests; and states that were damaged on the way.

use super::{CountedLine, Memory};
use crate::virtio::VirtioDevice;
use crate::{Bus, BusState, StateError};
use proptest::prelude::*;
use serde_json::Value;

/// The state of a bus that is at rest, as another process reads it.
pub fn saved(bus: &mut Bus<Memory>, memory: &Memory) -> BusState {
    let state = bus.save(memory).unwrap();
    let read = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
    assert_eq!(state, read);
    read
}

/// A bus with one device that was just made, which goes on from `state`; and its line.
pub fn restored(
    device: Box<dyn VirtioDevice<Memory>>,
    state: &BusState,
    memory: &Memory,
) -> Result<(Bus<Memory>, CountedLine), StateError> {
    let (mut bus, line) = (Bus::new(), CountedLine::default());
    bus.attach(device, Box::new(line.clone())).unwrap();
    bus.restore(state, memory).map(|()| (bus, line))
}

/// Moves a bus with one device, by way of its state, to one with `device`; the new line.
pub fn park(
    bus: &mut Bus<Memory>,
    memory: &Memory,
    device: Box<dyn VirtioDevice<Memory>>,
) -> CountedLine {
    let line;
    (*bus, line) = restored(device, &saved(bus, memory), memory).unwrap();
    line
}

/// What becomes of one place of a state.
#[derive(Clone, Debug)]
pub enum Damage {
    Number(u64),
    Added(i8),
    Flipped,
    Nothing,
    Shorter,
    Longer,
}

/// One change to a state: the number of a place, counted around, and what becomes of it.
pub type Change = (u16, Damage);

/// Any change.
pub fn change() -> impl Strategy<Value = Change> {
    let damage = prop_oneof![
        2 => prop_oneof![0..20_u64, 0xff0..0x2_0000_u64, any::<u64>()].prop_map(Damage::Number),
        3 => any::<i8>().prop_map(Damage::Added),
        2 => Just(Damage::Flipped),
        1 => Just(Damage::Nothing),
        1 => Just(Damage::Shorter),
        1 => Just(Damage::Longer),
    ];
    (any::<u16>(), damage)
}

/// The state as it reads after the changes; none if it does not read as one any more.
pub fn damaged(state: &BusState, changes: &[Change]) -> Option<BusState> {
    let mut state = serde_json::to_value(state).unwrap();
    for (place, damage) in changes {
        let mut count = 0;
        visit(&mut state, &mut |_| count += 1);
        let (wanted, mut number) = (usize::from(*place) % count, 0);
        visit(&mut state, &mut |value| {
            if number == wanted {
                harm(value, damage);
            }
            number += 1;
        });
    }
    serde_json::from_value(state).ok()
}

/// Shows `each` every value that is not an object, and every list before what it contains.
fn visit(value: &mut Value, each: &mut dyn FnMut(&mut Value)) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|value| visit(value, each)),
        Value::Array(_) => {
            each(value);
            let elements = value.as_array_mut().into_iter().flatten();
            elements.for_each(|value| visit(value, each));
        }
        _ => each(value),
    }
}

fn harm(value: &mut Value, damage: &Damage) {
    match (value, damage) {
        (Value::Array(list), Damage::Shorter) => drop(list.pop()),
        (Value::Array(list), Damage::Longer) => list.extend(list.last().cloned()),
        (Value::Array(_), _) => {}
        (Value::Bool(flag), Damage::Flipped) => *flag = !*flag,
        (value @ Value::Number(_), Damage::Added(change)) => {
            let number = value.as_u64().unwrap().wrapping_add_signed(i64::from(*change));
            *value = number.into();
        }
        (value @ (Value::Number(_) | Value::Null), Damage::Number(number)) => {
            *value = (*number).into();
        }
        (value, Damage::Nothing) => *value = Value::Null,
        _ => {}
    }
}
