//! Conditional requests: whether a client already has what it asks for, and which part it wants
//! (RFC 9110, sections 13 and 14).

use crate::date::HttpDate;
use crate::ranges::{Range, range};
use crate::request::{Method, Request};
use alloc::vec::Vec;

/// What could be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Representation<'a> {
    /// Bytes of it.
    pub length: u64,
    /// Its entity tag, in quotes: a strong one, without `W/`.
    pub etag: &'a str,
    /// When it was changed last, in seconds after 1970-01-01 UTC.
    pub modified: u64,
}

/// What is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All of it: 200.
    Whole,
    /// So many bytes, at least one, from `first` on: 206.
    Part {
        /// The first byte's position.
        first: u64,
        /// Bytes to send.
        len: u64,
    },
    /// The client has it: 304.
    NotModified,
    /// It is not what the client thinks it is: 412.
    PreconditionFailed,
    /// The client wants bytes that do not exist: 416.
    Unsatisfiable,
}

/// What a GET or HEAD request says about what the client has and wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    if_match: Option<Vec<u8>>,
    if_none_match: Option<Vec<u8>>,
    if_modified_since: Option<Vec<u8>>,
    if_unmodified_since: Option<Vec<u8>>,
    if_range: Option<Vec<u8>>,
    range: Option<Vec<u8>>,
}

impl Conditions {
    /// The conditions of a request. Only a GET asks for ranges.
    #[must_use]
    pub fn of(request: &Request<'_>) -> Self {
        let single = |name| request.header(name).map(<[u8]>::to_vec);
        let get = request.method == Method::Get;
        // Several fields are one list, for tags. Ranges in several fields are several ranges.
        let list = |name| {
            let mut values = request.headers(name).peekable();
            values.peek()?;
            Some(values.collect::<Vec<_>>().join(&b","[..]))
        };
        Self {
            if_match: list("if-match"),
            if_none_match: list("if-none-match"),
            if_modified_since: single("if-modified-since"),
            if_unmodified_since: single("if-unmodified-since"),
            if_range: single("if-range").filter(|_| get),
            range: list("range").filter(|_| get),
        }
    }

    /// What is to be sent of `of`.
    #[must_use]
    pub fn answer(&self, of: &Representation<'_>) -> Answer {
        let date = |value: &Option<Vec<u8>>| value.as_deref().and_then(HttpDate::parse);
        let kept = match &self.if_match {
            Some(tags) => lists(tags, of.etag, false),
            None => date(&self.if_unmodified_since).is_none_or(|date| of.modified <= date),
        };
        if !kept {
            return Answer::PreconditionFailed;
        }
        let known = match &self.if_none_match {
            Some(tags) => lists(tags, of.etag, true),
            None => date(&self.if_modified_since).is_some_and(|date| of.modified <= date),
        };
        if known {
            return Answer::NotModified;
        }
        match &self.range {
            Some(wanted) if self.is_in_range(of) => match range(wanted, of.length) {
                Range::Whole => Answer::Whole,
                Range::Part { first, len } => Answer::Part { first, len },
                Range::Unsatisfiable => Answer::Unsatisfiable,
            },
            _ => Answer::Whole,
        }
    }

    /// Whether the part that the client has is of this representation, as far as it says so.
    fn is_in_range(&self, of: &Representation<'_>) -> bool {
        match self.if_range.as_deref().map(<[u8]>::trim_ascii) {
            None => true,
            // A weak tag says too little to put parts together.
            Some(tag) if tag.starts_with(b"\"") => tag == of.etag.as_bytes(),
            Some(tag) if tag.starts_with(b"W/") => false,
            Some(date) => HttpDate::parse(date) == Some(of.modified),
        }
    }
}

/// Whether a list of entity tags has `etag`, or is `*`. Weak tags count only if `weak`.
fn lists(tags: &[u8], etag: &str, weak: bool) -> bool {
    let mut rest = tags.trim_ascii();
    if rest == b"*" {
        return true;
    }
    while !rest.is_empty() {
        let is_weak = rest.starts_with(b"W/");
        let tag = if is_weak { &rest[2..] } else { rest };
        let Some(end) = tag_end(tag) else {
            // No entity tag: on with what is behind the next comma.
            let comma = rest.iter().position(|&byte| byte == b',');
            rest = comma.map_or(&b""[..], |at| &rest[at + 1..]).trim_ascii_start();
            continue;
        };
        if (weak || !is_weak) && &tag[..end] == etag.as_bytes() {
            return true;
        }
        let behind = tag[end..].trim_ascii_start();
        rest = behind.strip_prefix(b",").unwrap_or(behind).trim_ascii_start();
    }
    false
}

/// Bytes of the quoted tag that `text` begins with.
fn tag_end(text: &[u8]) -> Option<usize> {
    let inside = text.strip_prefix(b"\"")?;
    inside.iter().position(|&byte| byte == b'"').map(|end| end + 2)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::string::String;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const FILE: Representation<'static> =
        Representation { length: 100, etag: "\"a,b\"", modified: 784_111_777 };

    fn answer_as(method: Method, fields: &[(&str, &str)]) -> Answer {
        let headers: Vec<_> = fields
            .iter()
            .map(|(name, value)| httparse::Header { name, value: value.as_bytes() })
            .collect();
        let request = Request { method, path: "/", query: None, body: &[], headers: &headers };
        Conditions::of(&request).answer(&FILE)
    }

    fn answer(fields: &[(&str, &str)]) -> Answer {
        answer_as(Method::Get, fields)
    }

    #[test]
    fn tags_are_compared() {
        for (tags, known, kept) in [
            ("\"a,b\"", true, true),
            ("W/\"a,b\"", true, false),
            ("\"x\", W/\"y\",\"a,b\"", true, true),
            ("*", true, true),
            ("\"a\"", false, false),
            ("a,b", false, false),
            ("\"a,b", false, false),
            ("\"x\" \"a,b\"", true, true),
            ("", false, false),
        ] {
            let expected = if known { Answer::NotModified } else { Answer::Whole };
            assert_eq!(answer(&[("If-None-Match", tags)]), expected, "{tags}");
            assert_eq!(answer_as(Method::Head, &[("If-None-Match", tags)]), expected, "{tags}");
            let expected = if kept { Answer::Whole } else { Answer::PreconditionFailed };
            assert_eq!(answer(&[("If-Match", tags)]), expected, "{tags}");
        }
        let several = [("If-None-Match", "\"x\""), ("if-none-match", "\"a,b\"")];
        assert_eq!(answer(&several), Answer::NotModified);
    }

    #[test]
    fn dates_are_compared_where_there_is_no_tag() {
        assert_eq!(answer(&[("If-Modified-Since", DATE)]), Answer::NotModified);
        assert_eq!(answer(&[("If-Modified-Since", LATER)]), Answer::NotModified);
        assert_eq!(answer(&[("If-Modified-Since", EARLIER)]), Answer::Whole);
        assert_eq!(answer(&[("If-Modified-Since", "never")]), Answer::Whole);
        assert_eq!(answer(&[("If-Unmodified-Since", DATE)]), Answer::Whole);
        assert_eq!(answer(&[("If-Unmodified-Since", EARLIER)]), Answer::PreconditionFailed);
        let both = [("If-Modified-Since", LATER), ("If-None-Match", "\"x\"")];
        assert_eq!(answer(&both), Answer::Whole);
    }

    #[test]
    fn a_range_is_of_what_the_client_has() {
        let part = Answer::Part { first: 90, len: 10 };
        let range = ("Range", "bytes=90-");
        assert_eq!(answer(&[range]), part);
        assert_eq!(answer(&[range, ("If-Range", "\"a,b\"")]), part);
        assert_eq!(answer(&[range, ("If-Range", DATE)]), part);
        for other in ["\"x\"", "W/\"a,b\"", LATER, EARLIER, "nonsense"] {
            assert_eq!(answer(&[range, ("If-Range", other)]), Answer::Whole, "{other}");
        }
        assert_eq!(answer(&[range, ("If-None-Match", "*")]), Answer::NotModified);
        assert_eq!(answer(&[("Range", "bytes=100-")]), Answer::Unsatisfiable);
        assert_eq!(answer(&[range, range]), Answer::Whole, "several ranges are sent whole");
        assert_eq!(answer_as(Method::Head, &[range]), Answer::Whole);
    }

    proptest! {
        #[test]
        fn any_list_of_tags_is_survived(tags in "[W/\"a,b* x]{0,40}") {
            let strong = lists(tags.as_bytes(), FILE.etag, false);
            let weak = lists(tags.as_bytes(), FILE.etag, true);
            prop_assert!(weak || !strong);
        }

        #[test]
        fn a_tag_is_found_among_others(before in 0_usize..4, after in 0_usize..4, weak: bool) {
            let mut list: Vec<String> = (0..before + after + 1).map(|n| std::format!("\"{n}\"")).collect();
            list[before] = std::format!("{}{}", if weak { "W/" } else { "" }, FILE.etag);
            let list = list.join(", ");
            prop_assert!(lists(list.as_bytes(), FILE.etag, true));
            prop_assert_eq!(lists(list.as_bytes(), FILE.etag, false), !weak);
        }
    }
}
