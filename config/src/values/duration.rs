//! Spans of time, written as text with a unit.

use crate::error::quoted;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// Units of time in ns, largest first.
const UNITS: [(&str, u64); 4] = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];

/// A span of time in nanoseconds: a number with a unit (`"200us"`), or 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub u64);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{} {why}; write e.g. \"200us\"", quoted(text));
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let Some((_, unit)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(wrong("has no unit of ns, us, ms or s"));
        };
        if number.is_empty() {
            return Err(wrong("is not a whole number and a unit"));
        }
        let number: Option<u64> = number.parse().ok();
        match number.and_then(|number| number.checked_mul(*unit)) {
            Some(ns) => Ok(Self(ns)),
            None => Err(wrong("is longer than anything lasts")),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, ns)| self.0 >= *ns && self.0.is_multiple_of(*ns)) {
            Some((unit, ns)) => write!(f, "{}{unit}", self.0 / ns),
            None => f.write_str("0"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 0 { serializer.serialize_u64(0) } else { serializer.collect_str(self) }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpanVisitor)
    }
}

struct SpanVisitor;

impl de::Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time such as \"200us\", or 0")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Span, E> {
        match number {
            0 => Ok(Span(0)),
            _ => Err(E::custom(format!(
                "{number} has no unit of ns, us, ms or s; write e.g. \"200us\""
            ))),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
        text.parse().map_err(E::custom)
    }
}

/// How long interrupts are gathered for a guest that computes: `"adaptive"`, or a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Window {
    /// Short while it is quiet, longer under load.
    #[default]
    Adaptive,
    /// This long; 0 = not at all.
    Fixed(Span),
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Adaptive => serializer.serialize_str("adaptive"),
            Self::Fixed(span) => span.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Window;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"adaptive\", a time such as \"200us\", or 0")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Window, E> {
                SpanVisitor.visit_u64(number).map(Window::Fixed)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Window, E> {
                match text {
                    "adaptive" => Ok(Window::Adaptive),
                    _ => SpanVisitor.visit_str(text).map(Window::Fixed),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units() {
        for (text, ns) in
            [("7ns", 7), ("200us", 200_000), ("2ms", 2_000_000), ("3s", 3_000_000_000)]
        {
            assert_eq!(text.parse(), Ok(Span(ns)));
            assert_eq!(Span(ns).to_string(), text);
        }
        assert_eq!(Span(1_500_000).to_string(), "1500us");
        for wrong in ["", "5", "us", "5m", "-1s", "1.5s", "5 us", "99999999999999s"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_window_is_adaptive_or_a_span() {
        let read = |text: &str| serde_json::from_str::<Window>(text);
        assert_eq!(read("\"adaptive\"").unwrap(), Window::Adaptive);
        assert_eq!(read("0").unwrap(), Window::Fixed(Span(0)));
        assert_eq!(read("\"50us\"").unwrap(), Window::Fixed(Span(50_000)));
        for wrong in ["5", "\"fast\"", "true", "-1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        for text in ["\"adaptive\"", "0", "\"50us\""] {
            assert_eq!(serde_json::to_string(&read(text).unwrap()).unwrap(), text);
        }
    }
}
