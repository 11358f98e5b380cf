//! Images kept by what they contain: a guest that is parked finds its own again.

use crate::error::LaunchError;
use crate::folder::{is_regular, is_trusted, open_own};
use crate::hash::ImageHash;
use crate::image::IMAGE_SIZE_MAX;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{UnlinkatFlags, fsync, geteuid, unlinkat};
use std::env;
use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where images are kept for all users' guests.
const FOLDER_OF_ROOT: &str = "/var/lib/denali/images";

/// Who can write a file.
const WRITABLE: libc::mode_t = 0o222;

/// A folder of images, each in a read-only file that is named by its SHA-256.
///
/// What is read from it is checked against its name. A file is exchanged whole and never changed, so what
/// is open, or mapped by a guest, stays as it is.
#[derive(Debug)]
pub struct ImageStore {
    path: PathBuf,
    folder: OwnedFd,
}

impl ImageStore {
    /// Where this user's images are, unless somebody says otherwise: `$XDG_STATE_HOME/denali/images`, or
    /// `~/.local/state/denali/images`, or `/var/lib/denali/images` for root. `None` for a user without a
    /// home.
    #[must_use]
    pub fn default_folder() -> Option<PathBuf> {
        default_folder(geteuid().is_root(), |name: &str| {
            env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
        })
    }

    /// Opens the store in `folder`, which is made if it is missing.
    ///
    /// # Errors
    /// When it cannot be made or opened, or others may exchange what is in it.
    pub fn open(folder: &Path) -> Result<Self, LaunchError> {
        let fail = |why: &dyn std::fmt::Display| {
            LaunchError::Host(format!("cannot open the store of images: {why}"))
        };
        let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
        made.map_err(|error| fail(&format_args!("{}: {error}", folder.display())))?;
        let opened = open_own(folder).map_err(|why| fail(&why))?;
        Ok(Self { path: folder.to_path_buf(), folder: opened })
    }

    /// Keeps an image for good; one that is there already is not written again.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&self, bytes: &[u8]) -> Result<ImageHash, LaunchError> {
        self.put(bytes).map(|(hash, _)| hash)
    }

    /// Keeps an image, and opens it for reading.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<(ImageHash, OwnedFd), LaunchError> {
        let hash = ImageHash::of(bytes);
        // One that is damaged is exchanged.
        if let Ok(file) = self.get(hash) {
            return Ok((hash, file));
        }
        self.write(bytes, &hash.to_string()).map_err(|error| {
            let path = self.path.display();
            LaunchError::Host(format!(
                "cannot keep an image in {path}: {error}; make room, or give this user access"
            ))
        })?;
        self.get(hash).map(|file| (hash, file))
    }

    /// Opens an image for reading; it is read once, to see that it is the one it shall be. Who starts many
    /// guests of one image keeps the descriptor.
    ///
    /// # Errors
    /// When there is none, somebody could change it, or it is another one than its name says.
    pub fn get(&self, hash: ImageHash) -> Result<OwnedFd, LaunchError> {
        let shown = self.path.join(hash.to_string());
        let refuse = |why: &str| LaunchError::Image(format!("image {}: {why}", shown.display()));
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(&self.folder, hash.to_string().as_str(), flags, Mode::empty()).map_err(
            |error| match error {
                Errno::ENOENT => refuse("is not in the store; start its guest anew"),
                error => refuse(&format!("cannot be opened: {}", error.desc())),
            },
        )?;
        let status = fstat(&file).map_err(|error| refuse(error.desc()))?;
        if !is_regular(&status) {
            return Err(refuse("is not a regular file; remove it"));
        }
        if !is_trusted(&status) || status.st_mode & WRITABLE != 0 {
            return Err(refuse("could be changed by others or by accident; remove it"));
        }
        if status.st_size > IMAGE_SIZE_MAX as i64 {
            return Err(refuse("is larger than 256 MiB, the most an image can have; remove it"));
        }
        let file = File::from(file);
        let found = ImageHash::of_file(&file).map_err(|error| refuse(&error.to_string()))?;
        if found != hash {
            return Err(refuse("does not contain what its name says, but was changed; remove it"));
        }
        Ok(file.into())
    }

    /// Writes a file under another name first, so that nobody sees a part of it.
    fn write(&self, bytes: &[u8], name: &str) -> Result<(), std::io::Error> {
        let (file, temporary) = self.temporary()?;
        let written = fill(file, bytes).and_then(|()| {
            renameat(&self.folder, temporary.as_str(), &self.folder, name)?;
            Ok(fsync(&self.folder)?)
        });
        if written.is_err() {
            let _ = unlinkat(&self.folder, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        written
    }

    /// A new file under a name that nobody else has.
    fn temporary(&self) -> Result<(OwnedFd, String), Errno> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!(".new-{}-{number}", std::process::id());
            match openat(&self.folder, name.as_str(), flags, Mode::from_bits_retain(0o600)) {
                // Left behind by a process that had the same number.
                Err(Errno::EEXIST) => {}
                other => return other.map(|file| (file, name)),
            }
        }
    }
}

/// Writes the bytes to the disk, for reading only from then on.
fn fill(file: OwnedFd, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::from(file);
    file.write_all(bytes)?;
    fchmod(&file, Mode::from_bits_retain(0o444))?;
    file.sync_all()
}

/// `folder` gives the absolute path in a variable of the environment.
fn default_folder(root: bool, folder: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    if root {
        return Some(FOLDER_OF_ROOT.into());
    }
    let home = || folder("HOME").map(|home| home.join(".local/state"));
    let state = folder("XDG_STATE_HOME").or_else(home);
    state.map(|state| state.join("denali/images"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    fn store() -> (tempfile::TempDir, ImageStore) {
        let root = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&root.path().join("state/images")).unwrap();
        (root, store)
    }

    fn read(file: OwnedFd) -> Vec<u8> {
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn an_image_is_found_by_what_it_contains() {
        let (_root, store) = store();
        let (one, other) = (store.add(b"one").unwrap(), store.add(b"other").unwrap());
        assert_eq!(store.add(b"one").unwrap(), one);
        assert_eq!(read(store.get(one).unwrap()), b"one");
        assert_eq!(read(store.get(other).unwrap()), b"other");
        let names: Vec<_> = fs::read_dir(&store.path).unwrap().map(|e| e.unwrap()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        for name in names {
            assert_eq!(name.metadata().unwrap().permissions().mode() & 0o7777, 0o444);
        }
    }

    #[test]
    fn a_file_that_is_not_what_its_name_says_is_refused_and_exchanged() {
        let (_root, store) = store();
        let hash = store.add(b"image").unwrap();
        let path = store.path.join(hash.to_string());
        let open_before = store.get(hash).unwrap();
        fs::remove_file(&path).unwrap();
        let missing = store.get(hash).unwrap_err();
        assert!(missing.to_string().contains("is not in the store"), "{missing}");
        assert_eq!(missing.status(), denali_abi::status::BAD_IMAGE);

        fs::write(&path, "imagE").unwrap();
        let error = store.get(hash).unwrap_err().to_string();
        assert!(error.contains("could be changed by others"), "{error}");
        fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
        let error = store.get(hash).unwrap_err().to_string();
        assert!(error.contains("does not contain what its name says"), "{error}");
        assert!(!error.contains('\n'));

        store.add(b"image").unwrap();
        assert_eq!(read(store.get(hash).unwrap()), b"image");
        assert_eq!(read(open_before), b"image");
    }

    #[test]
    fn links_and_folders_are_no_images() {
        let (root, store) = store();
        let hash = ImageHash::of(b"image");
        let path = store.path.join(hash.to_string());
        let target = root.path().join("target");
        fs::write(&target, "image").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(store.get(hash).unwrap_err().to_string().contains("cannot be opened"));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(store.get(hash).unwrap_err().to_string().contains("is not a regular file"));
        let error = store.add(b"image").unwrap_err().to_string();
        assert!(error.contains("cannot keep an image in"), "{error}");
        assert_eq!(fs::read_dir(&store.path).unwrap().count(), 1, "nothing is left of the attempt");
    }

    #[test]
    fn a_folder_that_others_may_write_is_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o777)).unwrap();
        let error = ImageStore::open(root.path()).unwrap_err();
        assert_eq!(error.status(), denali_abi::status::HOST_LACKS);
        assert!(error.to_string().starts_with("cannot open the store of images: others may"));
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(ImageStore::open(&file).is_err());
    }

    #[test]
    fn a_users_images_are_in_the_users_state() {
        let with = |set: &'static [(&str, &str)]| {
            move |name: &str| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value))
            }
        };
        let both = with(&[("HOME", "/home/u"), ("XDG_STATE_HOME", "/state")]);
        let folder = default_folder(false, both);
        assert_eq!(folder, Some("/state/denali/images".into()));
        let folder = default_folder(false, with(&[("HOME", "/home/u")]));
        assert_eq!(folder, Some("/home/u/.local/state/denali/images".into()));
        assert_eq!(default_folder(false, with(&[])), None);
        assert_eq!(default_folder(true, with(&[])), Some("/var/lib/denali/images".into()));
    }
}
