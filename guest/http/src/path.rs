//! Paths of files in requests.

use alloc::string::String;
use alloc::vec::Vec;

/// The path of a file that a request's path names: percent-decoded, each name after one `/`, with a `/` at
/// the end exactly if the request's path has one. `None` for what names no file: a wrong escape, a byte 0,
/// an escaped `/`, and names `..`, so that no path leads out of where files are.
#[must_use]
pub fn decode_path(path: &str) -> Option<Vec<u8>> {
    let path = path.strip_prefix('/')?;
    let mut decoded = Vec::with_capacity(path.len() + 1);
    for name in path.split('/') {
        let start = decoded.len();
        decoded.push(b'/');
        decode_name(name, &mut decoded)?;
        match &decoded[start + 1..] {
            b".." => return None,
            b"" | b"." => decoded.truncate(start),
            name if name.contains(&b'/') || name.contains(&0) => return None,
            _ => {}
        }
    }
    if decoded.is_empty() || path.ends_with('/') || path.ends_with("/.") {
        decoded.push(b'/');
    }
    Some(decoded)
}

/// Appends a name, percent-decoded; `None` for a wrong escape.
fn decode_name(name: &str, decoded: &mut Vec<u8>) -> Option<()> {
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            (digit()? * 16 + digit()?) as u8
        } else {
            byte
        });
    }
    Some(())
}

/// A path as a `Location` field has it: everything but letters, digits and `-._~/` is percent-encoded.
#[must_use]
pub fn encode_path(path: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(path.len());
    for &byte in path {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(DIGITS[usize::from(byte >> 4)]));
            encoded.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_decoded_and_none_leads_out() {
        for (path, expected) in [
            ("/", Some("/")),
            ("//", Some("/")),
            ("/a", Some("/a")),
            ("/a/", Some("/a/")),
            ("//a//b/./c", Some("/a/b/c")),
            ("/a/.", Some("/a/")),
            ("/.", Some("/")),
            ("/%61%20b", Some("/a b")),
            ("/...", Some("/...")),
            ("/a..b", Some("/a..b")),
            ("/%e2%82%AC", Some("/€")),
            ("/..", None),
            ("/a/../b", None),
            ("/a/..", None),
            ("/%2e%2E/b", None),
            ("/.%2e", None),
            ("/a%2fb", None),
            ("/..%2f..%2fetc", None),
            ("/a%00b", None),
            ("/a%", None),
            ("/a%4", None),
            ("/a%+4", None),
            ("/a%zz", None),
            ("a", None),
            ("", None),
            ("*", None),
        ] {
            let expected = expected.map(|path| path.as_bytes().to_vec());
            assert_eq!(decode_path(path), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn what_is_decoded_has_whole_names_only(path in "/([./a%]|%2[eEfF]|%00|%c3){0,24}") {
            let Some(decoded) = decode_path(&path) else { return Ok(()) };
            prop_assert!(decoded.starts_with(b"/") && !decoded.contains(&0));
            let names: Vec<&[u8]> = decoded[1..].split(|&byte| byte == b'/').collect();
            for (index, name) in names.iter().enumerate() {
                prop_assert!(!matches!(name, &b"." | &b".."));
                prop_assert!(!name.is_empty() || index + 1 == names.len());
            }
            prop_assert_eq!(decode_path(&encode_path(&decoded)), Some(decoded));
        }
    }
}
