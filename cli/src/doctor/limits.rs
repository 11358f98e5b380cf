//! Locked memory, which keys are kept in.

use super::{Finding, Verdict};
use denali_swap::Key;
use nix::sys::resource::{Resource, getrlimit};

/// Locked memory that a monitor with many keys in use takes, in bytes.
const LOCKED: u64 = 256 << 10;

/// Looks at it.
pub(super) fn look() -> Vec<Finding> {
    vec![locked_memory()]
}

fn locked_memory() -> Finding {
    const WHAT: &str = "locked memory";
    if let Err(error) = Key::random() {
        let text = format!("keys cannot be kept, and nothing be swapped: {error}");
        return Finding::new(WHAT, Verdict::Severe, text);
    }
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((limit, _)) if limit < LOCKED && !nix::unistd::geteuid().is_root() => {
            Finding::new(WHAT, Verdict::Warning, format!("{} KiB is little for keys", limit >> 10))
                .fix(format!("ulimit -l {} (LimitMEMLOCK={LOCKED} in a service)", LOCKED >> 10))
        }
        _ => Finding::new(WHAT, Verdict::Good, "keys can be kept"),
    }
}
