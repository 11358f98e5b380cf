//! A control group in which disks are as slow as one likes.

use crate::cgroup::{make, move_to};
use crate::undo::Undo;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// The controller of block I/O, version 1.
const ROOT: &str = "/sys/fs/cgroup/blkio";

/// What limits reads and writes, each by a line `MAJOR:MINOR BYTES_PER_S`.
const LIMITS: [&str; 2] = ["blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device"];

/// The group; this process is in it, and so is everything started meanwhile. Left and removed when dropped,
/// which should be after everything in it has ended.
#[derive(Debug)]
pub(super) struct Throttle {
    _undo: Undo,
}

impl Throttle {
    /// Why there can be none here, if so.
    pub(super) fn problem() -> Option<String> {
        let there = Path::new(ROOT).join(LIMITS[0]).exists();
        (!there).then(|| format!("there is no {ROOT} (control groups, version 1)"))
    }

    /// Enters a group in which each of these devices, `MAJOR:MINOR`, reads and writes so many bytes a second.
    pub(super) fn enter(devices: &[&str], bytes_per_s: u64) -> Result<Self> {
        let (folder, undo) = make(Path::new(ROOT), ":blkio:")?;
        for device in devices {
            for limit in LIMITS {
                let written = fs::write(folder.join(limit), format!("{device} {bytes_per_s}"));
                written.with_context(|| format!("cannot limit {device}"))?;
            }
        }
        move_to(&folder)?;
        Ok(Self { _undo: undo })
    }
}
