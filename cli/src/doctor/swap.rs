//! Where memory could be written that nobody meant to write: the host's own swap, and core dumps.

use super::root::Root;
use super::{Finding, Verdict};
use nix::sys::resource::{Resource, getrlimit};
use std::fs::canonicalize;
use std::path::Path;

const SWAP: &str = "host's swap";

/// Looks at it.
pub(super) fn look(root: &Root) -> Vec<Finding> {
    let swaps = root.text("/proc/swaps");
    let mut findings: Vec<Finding> = entries(&swaps).map(|entry| of_entry(&entry, root)).collect();
    if findings.is_empty() {
        findings.push(Finding::new(SWAP, Verdict::Good, "there is none"));
    }
    let limit = getrlimit(Resource::RLIMIT_CORE).map_or(0, |(_, most)| most);
    findings.push(core_dumps(&root.line("/proc/sys/kernel/core_pattern"), limit));
    findings
}

/// One place to which the host swaps.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    path: String,
    is_file: bool,
}

/// What `/proc/swaps` lists. Blanks in paths are written as octal digits.
fn entries(swaps: &str) -> impl Iterator<Item = Entry> {
    swaps.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let path = fields.next()?.replace("\\040", " ");
        Some(Entry { path, is_file: fields.next()? == "file" })
    })
}

fn of_entry(entry: &Entry, root: &Root) -> Finding {
    let Entry { path, is_file } = entry;
    if *is_file {
        let text = format!(
            "{path}: a file, of which cannot be told whether its disk encrypts: memory of monitors, guests' \
             included, may be written there as it is; encrypt it, or swapoff {path}"
        );
        return Finding::new(SWAP, Verdict::Warning, text);
    }
    // The names below /dev/mapper are links.
    let device = canonicalize(path).unwrap_or_else(|_| path.into());
    let name = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let block = Path::new("/sys/class/block").join(&name);
    let (uuid, backing) = (root.line(block.join("dm/uuid")), root.line(block.join("backing_dev")));
    of_device(path, &name, &uuid, &backing)
}

/// A device called `name` by the kernel, with what that says of device-mapper and of zram devices.
fn of_device(path: &str, name: &str, uuid: &str, backing: &str) -> Finding {
    if name.starts_with("zram") {
        return match backing {
            "" | "none" => Finding::new(SWAP, Verdict::Good, format!("{path}: in memory")),
            disk => Finding::new(
                SWAP,
                Verdict::Warning,
                format!("{path}: in memory, and what does not fit goes to {disk}, maybe as it is"),
            ),
        };
    }
    if uuid.starts_with("CRYPT-") {
        return Finding::new(SWAP, Verdict::Good, format!("{path}: encrypted by dm-crypt"));
    }
    let cannot = if uuid.is_empty() { "" } else { ", as far as can be told," };
    Finding::new(
        SWAP,
        Verdict::Warning,
        format!(
            "{path}: not encrypted{cannot} unless the disk does it: memory of monitors, guests' included, may be \
             written there as it is; put it on dm-crypt, or swapoff {path}"
        ),
    )
}

/// What becomes of them where `pattern` says where they go, and a process may have at most `limit` bytes of one.
fn core_dumps(pattern: &str, limit: u64) -> Finding {
    const WHAT: &str = "core dumps";
    match (pattern.strip_prefix('|'), limit) {
        // Programs get them at any limit but one byte, which is what monitors take where they can.
        (Some(program), 0) => Finding::new(
            WHAT,
            Verdict::Warning,
            format!(
                "given to {} where the hard limit is 0: if a monitor fails, its guest's memory may be stored; \
                 start guests with one of a byte or more (LimitCORE=1 in a service)",
                program.split_whitespace().next().unwrap_or_default()
            ),
        ),
        _ => Finding::new(WHAT, Verdict::Good, "monitors leave none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_swap_are_listed() {
        let swaps = "Filename\t\t\tType\t\tSize\tUsed\tPriority\n\
                     /dev/dm-1   partition\t8388604\t0\t-2\n\
                     /swap\\040file file\t100\t0\t-3\n";
        let found: Vec<Entry> = entries(swaps).collect();
        let entry = |path: &str, is_file| Entry { path: path.into(), is_file };
        assert_eq!(found, [entry("/dev/dm-1", false), entry("/swap file", true)]);
        assert_eq!(entries("").count(), 0);
    }

    #[test]
    fn swap_that_may_be_read_by_others_is_warned_of() {
        let verdict = |name, uuid, backing| of_device("/dev/x", name, uuid, backing).verdict;
        assert_eq!(verdict("zram0", "", "none"), Verdict::Good);
        assert_eq!(verdict("zram0", "", "/dev/sdb"), Verdict::Warning);
        assert_eq!(verdict("dm-0", "CRYPT-PLAIN-swap", ""), Verdict::Good);
        assert_eq!(verdict("dm-0", "LVM-abc", ""), Verdict::Warning);
        assert_eq!(verdict("sda2", "", ""), Verdict::Warning);
        let file = of_entry(&Entry { path: "/swapfile".into(), is_file: true }, &Root::new("/"));
        assert_eq!(file.verdict, Verdict::Warning);
        assert!(file.text.contains("swapoff /swapfile") && !file.text.contains('\n'));
    }

    #[test]
    fn programs_that_get_core_dumps_are_named_where_monitors_cannot_keep_them_back() {
        const PROGRAM: &str = "|/usr/lib/systemd/systemd-coredump %P %u";
        for (pattern, limit) in [("core", 0), ("core", u64::MAX), (PROGRAM, 1), (PROGRAM, u64::MAX)]
        {
            assert_eq!(core_dumps(pattern, limit).verdict, Verdict::Good, "{pattern} {limit}");
        }
        let piped = core_dumps(PROGRAM, 0);
        assert_eq!(piped.verdict, Verdict::Warning);
        assert!(piped.text.starts_with("given to /usr/lib/systemd/systemd-coredump where "));
        assert!(piped.text.contains("LimitCORE=1") && !piped.text.contains('\n'), "{}", piped.text);
    }
}
