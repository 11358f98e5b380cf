//! As much JSON as iperf3's parameters need: members of one flat object.

/// The value of member `name`, as it is written; `None` if there is none.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = text;
    loop {
        let start = rest.find('"')? + 1;
        let end = start + rest[start..].find('"')?;
        let found = &rest[start..end] == name;
        rest = &rest[end + 1..];
        if let (true, Some(value)) = (found, rest.trim_start().strip_prefix(':')) {
            let end = value.find([',', '}']).unwrap_or(value.len());
            return Some(value[..end].trim());
        }
    }
}

/// Whether member `name` is there and true.
pub(crate) fn is_true(text: &str, name: &str) -> bool {
    value(text, name) == Some("true")
}

/// Member `name`, if it is a whole number.
pub(crate) fn number(text: &str, name: &str) -> Option<u64> {
    value(text, name)?.parse().ok()
}
