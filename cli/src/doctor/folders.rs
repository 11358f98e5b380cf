//! Folders that guests are parked in: whether they can be, and how many have room.

use super::fleet::Fleet;
use super::{Finding, Verdict};
use crate::fleet::text::{bytes, count};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{AccessFlags, access, geteuid};
use std::fs::metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a parked guest takes on a disk, in bytes: that of a small one which served.
const REGION: u64 = 2 << 20;

/// Looks at the folders, which share the guests' memory among them.
pub(super) fn look(folders: &[PathBuf], fleet: Fleet) -> Vec<Finding> {
    let share = fleet.guests / (folders.len().max(1) as u64);
    folders.iter().map(|folder| of_folder(folder, Fleet { guests: share, ..fleet })).collect()
}

fn of_folder(folder: &Path, fleet: Fleet) -> Finding {
    let what = folder.display().to_string();
    let severe = |text: String, fix: String| {
        Finding::new(
            what.clone(),
            Verdict::Severe,
            format!("{text}: guests cannot be parked there"),
        )
        .fix(fix)
    };
    let found = match metadata(folder) {
        Ok(found) if found.is_dir() => found,
        Ok(_) => return severe("is no folder".into(), format!("name a folder instead of {what}")),
        Err(error) => return severe(error.to_string(), format!("install -d -m 0700 {what}")),
    };
    if found.uid() != geteuid().as_raw() || found.mode() & 0o022 != 0 {
        let text = "belongs to others, or can be written by them".to_owned();
        return severe(text, format!("sudo chown $USER {what} && chmod 0700 {what}"));
    }
    if access(folder, AccessFlags::W_OK).is_err() {
        return severe("cannot be written".into(), format!("mount {what} read-write"));
    }
    of_file_system(folder, what, fleet)
}

fn of_file_system(folder: &Path, what: String, fleet: Fleet) -> Finding {
    let system = match statfs(folder) {
        Ok(system) => system,
        Err(errno) => return Finding::new(what, Verdict::Warning, errno.desc()),
    };
    if system.filesystem_type() == TMPFS_MAGIC {
        let text = "is in memory: what is parked there takes as much as it gives back";
        return Finding::new(what, Verdict::Warning, text).fix("name a folder on a disk");
    }
    let block = u64::try_from(system.block_size()).unwrap_or(0);
    let free = system.blocks_available().saturating_mul(block);
    let fit = free / REGION;
    let room = format!("{} free: room for about {} guests", bytes(free), count(fit));
    if fit >= fleet.guests {
        return Finding::new(what, Verdict::Good, room);
    }
    let text = format!("{room}, where {} are to be", count(fleet.guests));
    Finding::new(what, Verdict::Warning, text).fix("add a folder on another disk, or make room")
}

#[cfg(test)]
mod tests {
    use super::super::tests::Host;
    use super::*;
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn folders_are_looked_at() {
        let host = Host::new("folders");
        host.file("/swap/file", "");
        let fleet = |guests| Fleet { guests, asked: true, kept_free: 0 };
        let (folder, file) = (host.root.path("/swap"), host.root.path("/swap/file"));
        let missing = host.root.path("/missing");
        let told = |folder: &Path, guests, verdict, text: &str, fix: &str| {
            let found = of_folder(folder, fleet(guests));
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.text.contains(text), "{found:?}");
            assert!(found.fix.as_deref().unwrap_or_default().contains(fix), "{found:?}");
        };
        let mode = |mode| set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
        mode(0o700);
        told(&folder, 0, Verdict::Good, "room for about ", "");
        told(&folder, u64::MAX, Verdict::Warning, " are to be", "another disk");
        told(&missing, 0, Verdict::Severe, "No such file", "install -d -m 0700 ");
        told(&file, 0, Verdict::Severe, "is no folder", "name a folder");
        mode(0o777);
        told(&folder, 0, Verdict::Severe, "belongs to others", "chmod 0700");
        mode(0o700);
        let both = look(&[folder, missing], fleet(2));
        assert_eq!(both.len(), 2);
    }
}
