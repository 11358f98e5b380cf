//! Targets of requests.

/// A target with options, each `name=value`.
pub(crate) fn target(path: &str, options: &[String]) -> String {
    match options {
        [] => path.to_owned(),
        _ => format!("{path}?{}", options.join("&")),
    }
}

/// A text as it can stand in the path or the query of a request's target.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_no_characters_of_their_own_meaning() {
        assert_eq!(encoded("web-1_a.b~"), "web-1_a.b~");
        assert_eq!(encoded("a b/*?&%\n\u{e4}"), "a%20b%2F%2A%3F%26%25%0A%C3%A4");
        assert_eq!(target("/v1/guests", &[]), "/v1/guests");
        assert_eq!(target("/x", &["a=1".into(), "b=2".into()]), "/x?a=1&b=2");
    }
}
