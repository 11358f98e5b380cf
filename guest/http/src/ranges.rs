//! Ranges of bytes (RFC 9110, section 14).

/// What a `Range` field asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// Nothing that has to be honoured: everything is sent.
    Whole,
    /// So many bytes, at least one, from `first` on.
    Part { first: u64, len: u64 },
    /// Bytes that do not exist.
    Unsatisfiable,
}

/// What the field's value asks for of `length` bytes. Several ranges at once, other units and what is no
/// range at all are ignored, as the standard allows.
pub(crate) fn range(value: &[u8], length: u64) -> Range {
    let Some((first, last)) = parse(value) else { return Range::Whole };
    match (first, last) {
        (None, None) => Range::Whole,
        (None, Some(0)) => Range::Unsatisfiable,
        (None, Some(_)) if length == 0 => Range::Whole,
        (None, Some(suffix)) => {
            let len = suffix.min(length);
            Range::Part { first: length - len, len }
        }
        (Some(first), Some(last)) if last < first => Range::Whole,
        (Some(first), _) if first >= length => Range::Unsatisfiable,
        (Some(first), last) => {
            let last = last.unwrap_or(u64::MAX).min(length - 1);
            Range::Part { first, len: last - first + 1 }
        }
    }
}

/// The numbers before and behind the dash of one range of bytes.
fn parse(value: &[u8]) -> Option<(Option<u64>, Option<u64>)> {
    let value = str::from_utf8(value).ok()?.trim();
    let (unit, range) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    Some((position(first)?, position(last)?))
}

/// A number, or nothing; `None` for what is neither. Numbers too large to write are as good as the largest.
fn position(digits: &str) -> Option<Option<u64>> {
    match digits.trim() {
        "" => Some(None),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(Some(digits.parse().unwrap_or(u64::MAX)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::format;
    use std::string::String;

    #[test]
    fn ranges_of_ten_bytes() {
        let part = |first, len| Range::Part { first, len };
        for (value, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=0-", part(0, 10)),
            ("bytes=3-5", part(3, 3)),
            ("Bytes= 3-99999999999999999999999 ", part(3, 7)),
            ("bytes=9-", part(9, 1)),
            ("bytes=-3", part(7, 3)),
            ("bytes=-30", part(0, 10)),
            ("bytes=10-", Range::Unsatisfiable),
            ("bytes=99999999999999999999999-", Range::Unsatisfiable),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=5-3", Range::Whole),
            ("bytes=-", Range::Whole),
            ("bytes=", Range::Whole),
            ("bytes", Range::Whole),
            ("bytes=a-b", Range::Whole),
            ("bytes=+1-2", Range::Whole),
            ("bytes=0-1,3-4", Range::Whole),
            ("lines=0-1", Range::Whole),
            ("", Range::Whole),
        ] {
            assert_eq!(range(value.as_bytes(), 10), expected, "{value:?}");
        }
    }

    #[test]
    fn nothing_has_no_part() {
        for (value, expected) in [
            ("bytes=0-", Range::Unsatisfiable),
            ("bytes=0-0", Range::Unsatisfiable),
            ("bytes=-5", Range::Whole),
        ] {
            assert_eq!(range(value.as_bytes(), 0), expected, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_what_was_asked_for_and_exists(
            first in proptest::option::of(0_u64..50),
            last in proptest::option::of(0_u64..50),
            length in 0_u64..40,
        ) {
            let show = |number: Option<u64>| number.map_or(String::new(), |number| format!("{number}"));
            let value = format!("bytes={}-{}", show(first), show(last));
            let wanted = |at: &u64| match (first, last) {
                (Some(first), last) => *at >= first && *at <= last.unwrap_or(u64::MAX),
                (None, last) => length - at <= last.unwrap_or(0),
            };
            let count = (0..length).filter(wanted).count() as u64;
            match range(value.as_bytes(), length) {
                Range::Part { first, len } => {
                    prop_assert_eq!(len, count);
                    prop_assert_eq!((0..length).find(wanted), Some(first));
                }
                _ => prop_assert_eq!(count, 0),
            }
        }

        #[test]
        fn any_value_is_survived(value in proptest::collection::vec(any::<u8>(), 0..40), length: u64) {
            for value in [value.clone(), [b"bytes=", &value[..]].concat()] {
                if let Range::Part { first, len } = range(&value, length) {
                    prop_assert!(len > 0 && first < length && len <= length - first);
                }
            }
        }
    }
}
