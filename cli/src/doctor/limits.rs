//! What this user may have: locked memory for keys, descriptors for guests that are kept.

use super::{Finding, Verdict};
use denali_swap::Key;
use nix::sys::resource::{Resource, getrlimit};

/// Locked memory that a monitor with many keys in use takes, in bytes.
const LOCKED: u64 = 256 << 10;

/// Descriptors with which a keeper has few guests.
const DESCRIPTORS: u64 = 4096;

/// Looks at it.
pub(super) fn look() -> Vec<Finding> {
    vec![locked_memory(), descriptors()]
}

fn locked_memory() -> Finding {
    const WHAT: &str = "locked memory";
    if let Err(error) = Key::random() {
        let text = format!("keys cannot be kept, and nothing be swapped: {error}");
        return Finding::new(WHAT, Verdict::Severe, text);
    }
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((limit, _)) if limit < LOCKED && !nix::unistd::geteuid().is_root() => Finding::new(
            WHAT,
            Verdict::Warning,
            format!("{} KiB is little for keys; raise it (ulimit -l)", limit >> 10),
        ),
        _ => Finding::new(WHAT, Verdict::Good, "keys can be kept"),
    }
}

fn descriptors() -> Finding {
    const WHAT: &str = "descriptors";
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, most)) if most < DESCRIPTORS => Finding::new(
            WHAT,
            Verdict::Warning,
            format!(
                "{most} at most: a keeper takes one or two for each guest; raise it (ulimit -Hn)"
            ),
        ),
        Ok((_, most)) => Finding::new(
            WHAT,
            Verdict::Good,
            format!("{most} at most, one or two for each kept guest"),
        ),
        Err(error) => Finding::new(WHAT, Verdict::Warning, error.desc()),
    }
}
