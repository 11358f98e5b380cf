//! A memory control group of the benchmark's own: the kernel's other account of what guests cost.

use crate::undo::{Undo, until};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

const V1: &str = "/sys/fs/cgroup/memory";
const V2: &str = "/sys/fs/cgroup";

/// How long those that were killed may be in a group still.
const PATIENCE: Duration = Duration::from_secs(4);

/// The group; the benchmark is in it, and so is everything started meanwhile. Removed when dropped,
/// which should be after everything in it has ended.
#[derive(Debug)]
pub(crate) struct MemoryGroup {
    folder: PathBuf,
    version_1: bool,
    _left: Undo,
}

/// What the kernel has charged a group with, in KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Charged {
    /// Everything but the page cache of files; memory files count.
    pub(crate) total: f64,
    /// The kernel's own memory therein.
    pub(crate) kernel: f64,
}

impl MemoryGroup {
    /// Makes the group and enters it, which takes root.
    pub(crate) fn enter() -> Result<Self> {
        let version_1 = Path::new(V1).join("memory.usage_in_bytes").exists();
        let controllers = Path::new(V2).join("cgroup.controllers");
        let version_2 = fs::read_to_string(controllers).is_ok_and(|list| list.contains("memory"));
        let root = match (version_1, version_2) {
            (true, _) => Path::new(V1),
            (false, true) => Path::new(V2),
            (false, false) => bail!("there is no memory control group here"),
        };
        let wanted = if version_1 { ":memory:" } else { "0::" };
        let (folder, left) = make(root, wanted)?;
        let group = Self { folder, version_1, _left: left };
        move_to(&group.folder)?;
        group.charged()?;
        Ok(group)
    }

    /// What the group is charged with now.
    pub(crate) fn charged(&self) -> Result<Charged> {
        let names = if self.version_1 {
            ["memory.usage_in_bytes", "total_cache", "total_shmem"]
        } else {
            ["memory.current", "file", "shmem"]
        };
        let usage = self.number(names[0])?;
        let statistics = self.read("memory.stat")?;
        let [cache, memory_files] = [names[1], names[2]].map(|name| field(&statistics, name));
        let kernel = if self.version_1 {
            self.number("memory.kmem.usage_in_bytes")?
        } else {
            field(&statistics, "kernel")?
        };
        let total = usage - (cache? - memory_files?);
        Ok(Charged { total: total / 1024.0, kernel: kernel / 1024.0 })
    }

    /// Takes from everything in the group what memory it can do without: what is on a disk too, and where there is
    /// swap, the rest.
    pub(crate) fn reclaim(&self) -> Result<()> {
        let (name, value) = match self.version_1 {
            true => ("memory.force_empty", "0".to_owned()),
            false => ("memory.reclaim", self.read("memory.current")?),
        };
        let written = fs::write(self.folder.join(name), value.trim());
        match written {
            // The second version says so when there was less to take than it was told.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(()),
            other => other.with_context(|| format!("cannot write {name}")),
        }
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn number(&self, name: &str) -> Result<f64> {
        self.read(name)?.trim().parse().with_context(|| format!("{name} is no number"))
    }
}

/// Makes a group of this process's below `root`, which it has not entered yet; undone, it is left and removed, once
/// all in it have ended. `wanted` is how the line ends that tells of the group in which this process is.
pub(crate) fn make(root: &Path, wanted: &str) -> Result<(PathBuf, Undo)> {
    let before = root.join(own_group(wanted)?.trim_start_matches('/'));
    let before = if before.is_dir() { before } else { root.to_path_buf() };
    let folder = root.join(format!("denali-bench-{}", process::id()));
    let made = || {
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder.clone())
    };
    Undo::of(made, move |folder| leave(&before, &folder))
}

fn leave(before: &Path, folder: &Path) {
    // A group that cannot be left cannot be removed either, which is told.
    let _ = move_to(before);
    let is_gone = until(PATIENCE, || fs::remove_dir(folder).is_ok());
    if !is_gone {
        eprintln!("bench: please remove {}", folder.display());
    }
}

/// Moves this process into a group.
pub(crate) fn move_to(folder: &Path) -> Result<()> {
    let path = folder.join("cgroup.procs");
    fs::write(&path, "0").with_context(|| format!("cannot write {}", path.display()))
}

/// The group in which this process is, by how the line ends that tells of it.
fn own_group(wanted: &str) -> Result<String> {
    let groups =
        fs::read_to_string("/proc/self/cgroup").context("cannot read /proc/self/cgroup")?;
    let of_line = |line: &str| line.split_once(wanted).map(|(_, group)| group.to_owned());
    groups.lines().find_map(of_line).context("/proc/self/cgroup does not name this process's group")
}

fn field(statistics: &str, name: &str) -> Result<f64> {
    let of_line = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    statistics.lines().find_map(of_line).with_context(|| format!("memory.stat has no {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_statistics_are_found_by_their_whole_name() {
        let statistics = "cache 1\ntotal_cache 4096\ntotal_shmem 12\n";
        assert_eq!(field(statistics, "total_cache").unwrap(), 4096.0);
        assert_eq!(field(statistics, "cache").unwrap(), 1.0);
        assert!(field(statistics, "total").is_err());
    }
}
