//! Figures by name, as programs read them, and what could not be measured.

use serde_json::{Map, Number, Value};
use std::collections::BTreeSet;

/// Everything a benchmark found.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Name (with its unit as suffix) and value; `None` = could not be measured here.
    values: Vec<(String, Option<f64>)>,
    /// What could not be measured, and why.
    skipped: BTreeSet<String>,
}

impl Figures {
    /// Adds a figure; the name ends with its unit, and with the back end's suffix.
    pub(crate) fn set(&mut self, name: impl Into<String>, value: Option<f64>) {
        let name = name.into();
        match self.values.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => self.values.push((name, value)),
        }
    }

    /// The value of a figure that was measured.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(known, _)| known == name).and_then(|(_, value)| *value)
    }

    /// Says that something could not be measured, and why.
    pub(crate) fn skip(&mut self, what: &str, why: &str) {
        let line = format!("{what}: {why}");
        if self.skipped.insert(line.clone()) {
            eprintln!("skipped: {line}");
        }
    }

    /// What could not be measured and why, one line each.
    pub(crate) fn skipped(&self) -> impl Iterator<Item = &str> {
        self.skipped.iter().map(String::as_str)
    }

    /// One flat object; what could not be measured is null.
    pub(crate) fn json(&self) -> Value {
        let value = |value: Option<f64>| {
            value
                .and_then(|value| Number::from_f64(rounded(value)))
                .map_or(Value::Null, Value::Number)
        };
        let members = self.values.iter().map(|(name, number)| (name.clone(), value(*number)));
        Value::Object(members.collect::<Map<_, _>>())
    }
}

/// To three places after the point: more is noise.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_flat_json_and_what_is_missing_is_null() {
        let mut figures = Figures::default();
        figures.set("first_byte_ms", Some(1.23456));
        figures.set("exit_ms", Some(1.0));
        figures.set("exit_ms", None);
        figures.skip("exit", "no guest ended");
        assert_eq!(figures.json().to_string(), r#"{"exit_ms":null,"first_byte_ms":1.235}"#);
        assert_eq!(figures.get("first_byte_ms"), Some(1.23456));
        assert_eq!(figures.get("exit_ms"), None);
        assert_eq!(figures.skipped().collect::<Vec<_>>(), ["exit: no guest ended"]);
    }
}
