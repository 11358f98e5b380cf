//! Where the monitor's program is.

use crate::error::LaunchError;
use std::path::{Path, PathBuf};

/// File name of the monitor.
const NAME: &str = "denali-vmm";

/// The path of `denali-vmm`.
///
/// An installed monitor lies beside the running program. In a build folder that is not so: there the
/// one that was built together with the running program, at `built`, is taken, and one that happens
/// to lie beside it may be older.
pub fn find(built: &Path) -> Result<PathBuf, LaunchError> {
    let program = std::env::current_exe().unwrap_or_default();
    choose(program.parent(), built)
}

fn choose(folder: Option<&Path>, built: &Path) -> Result<PathBuf, LaunchError> {
    let beside = folder.map(|folder| folder.join(NAME));
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
        "the monitor {NAME} is not at {}; install it beside the denali program",
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
        let (beside, below, far) = (bin.join(NAME), bin.join("build").join(NAME), other.join(NAME));

        let error = choose(Some(&bin), &far).unwrap_err().to_string();
        assert!(error.contains(NAME) && error.contains("install it"), "{error}");
        fs::write(&far, "").unwrap();
        assert_eq!(choose(Some(&bin), &far), Ok(far.clone()));
        fs::write(&beside, "").unwrap();
        assert_eq!(choose(Some(&bin), &far), Ok(beside.clone()));
        assert_eq!(choose(Some(&bin), &below), Ok(beside));
        fs::write(&below, "").unwrap();
        assert_eq!(choose(Some(&bin), &below), Ok(below));
        assert_eq!(choose(None, &far), Ok(far));
    }
}
