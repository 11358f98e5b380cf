//! Figures by name, as programs read them, and what could not be measured.

use crate::backend::Backend;
use crate::table::number;
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
    /// Sets figures of these back ends to nothing, so that they are there whatever happens; names are without
    /// the back end's suffix.
    pub(crate) fn declare(
        &mut self,
        backends: &[Backend],
        names: impl IntoIterator<Item = String>,
    ) {
        for name in names {
            for backend in backends {
                self.set(format!("{name}{}", backend.suffix()), None);
            }
        }
    }

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

    /// Figures of every back end, as people read them: names are without the suffix.
    pub(crate) fn of_backends(&self, names: &[impl AsRef<str>]) -> Vec<String> {
        let of = |backend: Backend| {
            let value = move |name: &str| self.get(&format!("{name}{}", backend.suffix()));
            names.iter().map(move |name| number(value(name.as_ref())))
        };
        Backend::ALL.into_iter().flat_map(of).collect()
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
        let members = self.values.iter().map(|(name, value)| (name.clone(), json_number(*value)));
        Value::Object(members.collect::<Map<_, _>>())
    }
}

/// A figure as programs read it; null if it could not be measured.
pub(crate) fn json_number(value: Option<f64>) -> Value {
    value.and_then(|value| Number::from_f64(rounded(value))).map_or(Value::Null, Value::Number)
}

/// To three places after the point, and of what is small to four digits: more is noise.
fn rounded(value: f64) -> f64 {
    let places = (3.0 - value.abs().log10().floor()).clamp(3.0, 9.0);
    let scale = 10_f64.powf(places);
    (value * scale).round() / scale
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

    #[test]
    fn what_is_small_keeps_its_digits() {
        let shown = |value| json_number(Some(value)).to_string();
        assert_eq!(shown(0.0415678), "0.04157");
        assert_eq!(shown(-0.5), "-0.5");
        assert_eq!(shown(0.0), "0.0");
        assert_eq!(shown(1234.56789), "1234.568");
        assert_eq!(json_number(Some(f64::NAN)), Value::Null);
    }
}
