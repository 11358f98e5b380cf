//! Configurations of guests as JSON.

use crate::memory::bounded;
use denali_config::Document;
use std::path::PathBuf;

/// A configuration, and changes to it as `--set` makes them: lines behind the first zero byte.
pub fn config(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |&byte| byte == 0);
    let text = parts.next().unwrap_or_default();
    let changes = parts.next().and_then(|changes| std::str::from_utf8(changes).ok());
    bounded(64 * bytes.len() + (256 << 10), || {
        let parsed = Document::parse(text, "fuzzed", PathBuf::from("/guests"));
        let Ok(mut document) = parsed.inspect_err(|error| says_one_line(&error.to_string())) else {
            return;
        };
        for change in changes.unwrap_or_default().lines().take(8) {
            let _ = document.set(change).inspect_err(|error| says_one_line(&error.to_string()));
        }
        check(&document);
    });
}

/// What can be resolved means the same when it is written down to go elsewhere.
fn check(document: &Document) {
    let guest = document.guest().inspect_err(|error| says_one_line(&error.to_string()));
    let Ok(portable) = document.portable() else {
        assert!(guest.is_err(), "a guest that cannot be written down");
        return;
    };
    let elsewhere = PathBuf::from("/elsewhere");
    let again = Document::parse(portable.as_bytes(), "again", elsewhere);
    let again = again.expect("what is written is read");
    assert_eq!(again.portable().ok().as_ref(), Some(&portable));
    if let Ok(guest) = guest {
        assert_eq!(again.guest().ok(), Some(guest), "{portable}");
    }
}

fn says_one_line(message: &str) {
    assert!(!message.is_empty() && !message.contains(['\n', '\r']), "{message:?}");
    assert!(message.len() < 4096, "a message of {} bytes", message.len());
}

/// The smallest configuration, one of everything, and changes.
#[must_use]
pub fn config_seeds() -> Vec<Vec<u8>> {
    let all = r#"{"name":"g","image":"web","args":"a b","memory":"64MiB","hypervisor":"kvm",
"net":[{"name":"lan","mac":"02:00:00:00:00:07","mtu":1400,"address":"10.9.0.5/24","backend":{"user":{"publish":
["127.0.0.1:8080:80","53:53/udp"]}}},{"backend":{"tap":"tap0"}}],
"block":[{"backend":{"file":{"path":"disk.img"}},"read_only":true}],
"console":[{"backend":"terminal"}],"entropy":[{}],"idle":{},"interrupts":{},"cpu":{"weight":100},
"swap":{"stripes":["a","/b"],"unit":"64KiB","after":"1s","limit":"16MiB","key":{"file":"host.key"}},
"control":"g.sock"}"#;
    let mut changed = br#"{"image":"web"}"#.to_vec();
    changed.extend(b"\0memory=32MiB\nnet.0.backend.user.publish.0=8080:80\nname=\"x\"");
    vec![br#"{"image":"web"}"#.to_vec(), all.as_bytes().to_vec(), changed]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_configurations() {
        for seed in config_seeds() {
            let text = seed.split(|&byte| byte == 0).next().unwrap();
            Document::parse(text, "seed", PathBuf::new()).unwrap().guest().unwrap();
        }
    }
}
