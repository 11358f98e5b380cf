//! Changes to single places of a JSON text, so that the rest of it stays what it was.

use crate::input::Input;
use serde_json::Value;

/// Most changes of one input.
const CHANGES_MAX: usize = 16;

/// Changes places of `value` as the input says: for each, its number (counted around), what becomes of it, and a
/// number.
pub(crate) fn edit(value: &mut Value, input: &mut Input<'_>) {
    for _ in 0..CHANGES_MAX {
        if input.is_empty() {
            return;
        }
        let (place, kind, number) = (input.u16(), input.byte(), input.u64());
        let mut count = 0;
        visit(value, &mut |_| count += 1);
        let (wanted, mut at) = (usize::from(place) % count.max(1), 0);
        visit(value, &mut |place| {
            if at == wanted {
                change(place, kind, number);
            }
            at += 1;
        });
    }
}

/// Shows `each` every value, those that contain others before these.
fn visit(value: &mut Value, each: &mut dyn FnMut(&mut Value)) {
    each(value);
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|value| visit(value, each)),
        Value::Array(list) => list.iter_mut().for_each(|value| visit(value, each)),
        _ => {}
    }
}

fn change(value: &mut Value, kind: u8, number: u64) {
    match (value, kind % 8) {
        (Value::Array(list), 0) => drop(list.pop()),
        (Value::Array(list), 1) => list.extend(list.last().cloned()),
        (Value::Array(list), 2 | 3) => list.reverse(),
        (Value::Object(fields), 0) => {
            let name = fields.keys().nth(number as usize % fields.len().max(1)).cloned();
            name.map(|name| fields.remove(&name));
        }
        (Value::Object(fields), 1) => drop(fields.insert("more".into(), number.into())),
        (Value::Bool(flag), 0..4) => *flag = !*flag,
        (Value::String(text), 0) => drop(text.pop()),
        (Value::String(text), 1) => text.push((number as u8).into()),
        (Value::String(text), 2 | 3) => {
            let at = number as usize % text.len().max(1);
            if text.is_ascii() && !text.is_empty() {
                text.replace_range(
                    at..=at,
                    char::from(b' ' + (number >> 32) as u8 % 95).to_string().as_str(),
                );
            }
        }
        (value @ Value::Number(_), 0 | 1) => {
            let now = value.as_u64().unwrap_or_default();
            *value = now.wrapping_add(number as u8 as i8 as u64).into();
        }
        (value, 0..6) => *value = number.into(),
        (value, 6) => *value = Value::Null,
        (value, _) => *value = Value::String(number.to_string()),
    }
}
