//! Where the programs are that the launcher starts: the monitor and the broker.

use crate::error::LaunchError;
use std::path::{Path, PathBuf};

/// File name of the monitor.
const MONITOR: &str = "denali-vmm";

/// File name of the switch.
const SWITCH: &str = "denali-switch";

/// File name of the broker.
const BROKER: &str = "denali-broker";

/// The path of `denali-vmm`.
///
/// An installed monitor lies beside the running program. In a build folder that is not so: there the
/// one that was built together with the running program, at `built`, is taken, and one that happens
/// to lie beside it may be older.
///
/// # Errors
/// When there is none.
pub fn find_monitor(built: &Path) -> Result<PathBuf, LaunchError> {
    find(MONITOR, built)
}

/// The path of `denali-switch`, found likewise.
///
/// # Errors
/// When there is none.
pub fn find_switch(built: &Path) -> Result<PathBuf, LaunchError> {
    find(SWITCH, built)
}

/// The path of `denali-broker`, found likewise.
pub(crate) fn find_broker(built: &Path) -> Result<PathBuf, LaunchError> {
    find(BROKER, built)
}

fn find(name: &str, built: &Path) -> Result<PathBuf, LaunchError> {
    let program = std::env::current_exe().unwrap_or_default();
    choose(name, program.parent(), built)
}

fn choose(name: &str, folder: Option<&Path>, built: &Path) -> Result<PathBuf, LaunchError> {
    let beside = folder.map(|folder| folder.join(name));
    let same_build = folder.is_some_and(|folder| built.starts_with(folder));
    let (first, second) = if same_build {
        (Some(built), beside.as_deref())
    } else {
        (beside.as_deref(), Some(built))
    };
    let found = [first, second].into_iter().flatten().find(|path| path.is_file());
    if let Some(path) = found {
        return Ok(path.to_path_buf());
    }
    let places: Vec<String> = [beside.as_deref(), Some(built)]
        .iter()
        .flatten()
        .map(|p| p.display().to_string())
        .collect();
    Err(LaunchError::Host(format!(
        "{name} is not at {}; install it beside the denali program",
        places.join(" nor at ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn installed_monitors_lie_beside_and_built_ones_below() {
        let root = tempfile::tempdir().unwrap();
        let (bin, other) = (root.path().join("bin"), root.path().join("other"));
        fs::create_dir_all(bin.join("build")).unwrap();
        fs::create_dir_all(&other).unwrap();
        let (beside, below, far) =
            (bin.join(MONITOR), bin.join("build").join(MONITOR), other.join(MONITOR));

        let error = choose(MONITOR, Some(&bin), &far).unwrap_err().to_string();
        assert!(error.contains(MONITOR) && error.contains("install it"), "{error}");
        fs::write(&far, "").unwrap();
        assert_eq!(choose(MONITOR, Some(&bin), &far), Ok(far.clone()));
        fs::write(&beside, "").unwrap();
        assert_eq!(choose(MONITOR, Some(&bin), &far), Ok(beside.clone()));
        assert_eq!(choose(MONITOR, Some(&bin), &below), Ok(beside));
        fs::write(&below, "").unwrap();
        assert_eq!(choose(MONITOR, Some(&bin), &below), Ok(below));
        assert_eq!(choose(MONITOR, None, &far), Ok(far));
    }
}
