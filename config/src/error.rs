//! What is wrong with a configuration, in one line that says where.

use std::fmt;

/// A configuration that cannot be used.
///
/// Displayed as `source: field: message`, or `source: message` when no one field is at fault; always
/// one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    source: String,
    field: String,
    message: String,
}

impl ConfigError {
    pub(crate) fn new(source: &str, field: &str, message: impl Into<String>) -> Self {
        Self { source: source.into(), field: field.into(), message: message.into() }
    }

    /// The file, or the command-line option, that is wrong.
    #[must_use]
    pub fn source_name(&self) -> &str {
        &self.source
    }

    /// The field that is wrong, such as `net[0].mtu`; empty if it is no one field.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            write!(f, "{}: {}", self.source, self.message)
        } else {
            write!(f, "{}: {}: {}", self.source, self.field, self.message)
        }
    }
}

impl std::error::Error for ConfigError {}

/// A fault found in one field, before it is known which source the field came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldError {
    pub(crate) field: String,
    pub(crate) message: String,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// `text` in quotes and without control characters, cut if it is long: fit for a one-line message.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut cut: String = text.chars().take(LONGEST).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("{cut:?}")
}

/// A key as it can stand in a path: as it is, or quoted where that could mislead.
pub(crate) fn printable(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.len() <= 40 && key.chars().all(plain) {
        key.to_owned()
    } else {
        quoted(key)
    }
}

/// ` (did you mean "…"?)` if one of the `known` words is close to `word`, else nothing.
pub(crate) fn suggestion(word: &str, known: &[&str]) -> String {
    let close = known
        .iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3).min(3))
        .min();
    close.map(|(_, candidate)| format!(" (did you mean {candidate:?}?)")).unwrap_or_default()
}

/// Number of single-character changes between two words (Levenshtein); words of more than 32
/// characters are as far from everything as they are long.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().take(33).flat_map(char::to_lowercase).collect();
    if left.len() > 32 {
        return left.len();
    }
    let mut row: Vec<usize> = (0..=left.len()).collect();
    for (i, wanted) in right.chars().flat_map(char::to_lowercase).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &found) in left.iter().enumerate() {
            let substituted = diagonal + usize::from(found != wanted);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[left.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_changes() {
        assert_eq!(distance("memory", "memory"), 0);
        assert_eq!(distance("Memory", "memory"), 0);
        assert_eq!(distance("memroy", "memory"), 2);
        assert_eq!(distance("", "net"), 3);
        assert_eq!(distance("nets", "net"), 1);
    }

    #[test]
    fn suggestions_are_close_words_only() {
        let known = ["name", "image", "memory", "net"];
        assert_eq!(suggestion("memroy", &known), " (did you mean \"memory\"?)");
        assert_eq!(suggestion("nets", &known), " (did you mean \"net\"?)");
        assert_eq!(suggestion("kernel_parameters", &known), "");
        assert_eq!(suggestion(&"x".repeat(1000), &known), "");
    }

    #[test]
    fn quotes_are_one_short_line() {
        assert_eq!(quoted("a\nb"), "\"a\\nb\"");
        assert!(quoted(&"x".repeat(1000)).chars().count() < 90);
    }
}
