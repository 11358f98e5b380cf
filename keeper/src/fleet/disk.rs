//! Room in memory and on the disks of the host.

use denali_client::SwapView;
use nix::sys::statvfs::statvfs;
use std::path::Path;

/// Memory that programs can have without anything being swapped, and all there is, in bytes.
pub(crate) fn memory() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
    };
    Some((kib("MemAvailable")? * 1024, kib("MemTotal")? * 1024))
}

/// A folder that guests are parked in.
pub(crate) fn swap(folder: &str) -> SwapView {
    let view = |total, free, problem| SwapView { folder: folder.into(), total, free, problem };
    match statvfs(Path::new(folder)) {
        Err(error) => view(0, 0, Some(format!("cannot be looked at: {}", error.desc()))),
        Ok(status) => {
            let size = status.fragment_size();
            let (total, free) = (status.blocks() * size, status.blocks_available() * size);
            let problem = (free < total / 50).then(|| "is nearly full; make room".to_owned());
            view(total, free, problem)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_disks_have_sizes() {
        let (available, total) = memory().unwrap();
        assert!(0 < available && available < total);
        let root = swap("/");
        assert!(root.total > 0 && root.free <= root.total, "{root:?}");
        assert!(swap("/no-such-folder").problem.unwrap().contains("No such file"));
    }
}
