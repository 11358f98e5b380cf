//! Folders whose files a guest depends on: nobody but this user and root may exchange what is in them.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::{Uid, geteuid};
use std::fs::{DirBuilder, remove_dir};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Who else than a file's owner may do what.
const OTHERS: libc::mode_t = 0o077;
const OTHERS_WRITE: libc::mode_t = 0o022;
const STICKY: libc::mode_t = libc::S_ISVTX;

/// A folder that is empty for good: it has no name any more, so that nobody can put anything in it. `None` where the
/// host has no room for one.
pub(crate) fn empty_folder() -> Option<OwnedFd> {
    /// Makes names differ within a process.
    static MADE: AtomicU32 = AtomicU32::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let name = format!("denali-empty-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    DirBuilder::new().mode(0o500).create(&path).ok()?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let opened = open(&path, flags, Mode::empty());
    let removed = remove_dir(&path);
    opened.ok().filter(|_| removed.is_ok())
}

/// Opens a folder, to make or open files in it.
///
/// # Errors
/// What is wrong with it and what to do, in one line, when it cannot be opened or others may exchange what
/// is in it.
pub fn open_own(folder: &Path) -> Result<OwnedFd, String> {
    let shown = folder.display();
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = open(folder, flags, Mode::empty()).map_err(|error| match error {
        Errno::ENOENT => format!("there is no folder {shown}; make it (mkdir -m 700 {shown})"),
        Errno::ENOTDIR => format!("{shown} is not a folder; name one"),
        Errno::EACCES | Errno::EPERM => {
            format!("{shown} may not be opened by this user; give this user access, or name another folder")
        }
        error => format!("cannot open {shown}: {}; name another folder", error.desc()),
    })?;
    let status =
        fstat(&opened).map_err(|error| format!("cannot examine {shown}: {}", error.desc()))?;
    if !is_trusted(&status) {
        return Err(format!(
            "{shown} belongs to user {}, who could exchange what is in it; name a folder of this user or root",
            status.st_uid
        ));
    }
    if status.st_mode & OTHERS_WRITE != 0 && status.st_mode & STICKY == 0 {
        return Err(format!(
            "others may exchange what is in {shown}; take that right from them (chmod go-w {shown})"
        ));
    }
    Ok(opened)
}

/// Checks that an open file is a regular one, belongs to this user or root, and cannot be read or written by
/// others.
///
/// # Errors
/// What is wrong with the file, called `shown`, and what to do.
pub(crate) fn check_private(file: &OwnedFd, shown: &str) -> Result<FileStat, String> {
    let status =
        fstat(file).map_err(|error| format!("cannot examine {shown}: {}", error.desc()))?;
    if !is_regular(&status) {
        return Err(format!("{shown} is not a regular file"));
    }
    if !is_trusted(&status) {
        return Err(format!(
            "{shown} belongs to user {}; it must belong to this user or root (chown)",
            status.st_uid
        ));
    }
    if status.st_mode & OTHERS != 0 {
        return Err(format!("others have rights to {shown}; take them away (chmod 600 {shown})"));
    }
    Ok(status)
}

pub(crate) fn is_regular(status: &FileStat) -> bool {
    SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFREG
}

/// Whether it belongs to this user or root.
pub(crate) fn is_trusted(status: &FileStat) -> bool {
    let owner = Uid::from_raw(status.st_uid);
    owner.is_root() || owner == geteuid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown};

    #[test]
    fn what_is_no_folder_is_named() {
        let root = tempfile::tempdir().unwrap();
        let (missing, file) = (root.path().join("missing"), root.path().join("file"));
        fs::write(&file, "").unwrap();
        let error = open_own(&missing).unwrap_err();
        assert!(error.starts_with("there is no folder /") && error.contains("mkdir"), "{error}");
        assert!(open_own(&file).unwrap_err().ends_with("is not a folder; name one"));
        open_own(root.path()).unwrap();
    }

    #[test]
    fn what_others_may_exchange_is_refused_unless_it_is_sticky() {
        let root = tempfile::tempdir().unwrap();
        let set = |mode| fs::set_permissions(root.path(), Permissions::from_mode(mode)).unwrap();
        for mode in [0o770, 0o707, 0o722] {
            set(mode);
            let error = open_own(root.path()).unwrap_err();
            assert!(
                error.starts_with("others may exchange") && error.contains("chmod go-w"),
                "{error}"
            );
            set(mode | 0o1000);
            open_own(root.path()).unwrap();
        }
        set(0o755);
        open_own(root.path()).unwrap();
    }

    #[test]
    fn what_belongs_to_others_is_refused() {
        if !geteuid().is_root() {
            println!("skipped: only root can give files away");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        chown(&file, Some(12345), None).unwrap();
        let opened = OwnedFd::from(fs::File::open(&file).unwrap());
        let error = check_private(&opened, "file").unwrap_err();
        assert!(error.starts_with("file belongs to user 12345; it must belong to"), "{error}");
        chown(root.path(), Some(12345), None).unwrap();
        let error = open_own(root.path()).unwrap_err();
        assert!(error.contains("belongs to user 12345, who could exchange"), "{error}");
    }

    #[test]
    fn private_files_are_regular_and_closed_to_others() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let opened = OwnedFd::from(fs::File::open(&file).unwrap());
        for mode in [0o640, 0o604, 0o610] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let error = check_private(&opened, "file").unwrap_err();
            assert_eq!(error, "others have rights to file; take them away (chmod 600 file)");
        }
        fs::set_permissions(&file, Permissions::from_mode(0o400)).unwrap();
        check_private(&opened, "file").unwrap();
        let null = OwnedFd::from(fs::File::open("/dev/null").unwrap());
        assert_eq!(check_private(&null, "null").unwrap_err(), "null is not a regular file");
    }
}
