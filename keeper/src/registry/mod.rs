//! The registry: what a keeper remembers of its guests on disk, to go on after it, or the host, has
//! started anew.
//!
//! Each guest has a file, which is written anew and exchanged whole each time something changes. That
//! waits for the disk twice, so that a thread of its own does it, in order; no guest waits.

mod record;
mod writer;

pub(crate) use record::{Life, Record};

use denali_launcher::{LaunchError, open_own};
use denali_swap::GuestId;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use std::fs::{DirBuilder, File, read_dir};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use writer::Writer;

/// How names of records end; before that is the guest's identity.
const ENDING: &str = ".json";

/// Most bytes of a record.
const SIZE_MAX: u64 = 4 << 20;

/// A folder of records, of one keeper at a time.
pub(crate) struct Registry {
    path: PathBuf,
    /// Locked for as long as it is open.
    _lock: OwnedFd,
    writer: Writer,
}

impl Registry {
    /// Opens the registry in `path`, which is made if it is missing.
    ///
    /// # Errors
    /// When it cannot be made or opened, others may exchange what is in it, or another keeper has it.
    pub(crate) fn open(path: &Path) -> Result<Self, LaunchError> {
        let fail = |why: &dyn std::fmt::Display| LaunchError::Host(format!("--state: {why}"));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| fail(&format_args!("cannot make {}: {error}", path.display())))?;
        let folder = open_own(path).map_err(|why| fail(&why))?;
        let lock = lock(&folder).map_err(|error| match error {
            Errno::EAGAIN => fail(&format_args!(
                "another keeper uses {}; stop it, or name another folder",
                path.display()
            )),
            error => fail(&format_args!("cannot lock {}: {}", path.display(), error.desc())),
        })?;
        let writer = Writer::start(folder).map_err(|error| fail(&error))?;
        Ok(Self { path: path.to_path_buf(), _lock: lock, writer })
    }

    /// Where the record of a guest is, for messages.
    pub(crate) fn path_of(&self, id: GuestId) -> PathBuf {
        self.path.join(name_of(id))
    }

    /// Reads all records, by their guests' names; and what is wrong with those that cannot be read, one
    /// line each.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn read(&self) -> Result<(Vec<Record>, Vec<String>), LaunchError> {
        let unreadable = |error: std::io::Error| {
            LaunchError::Host(format!("--state: cannot read {}: {error}", self.path.display()))
        };
        let (mut records, mut problems) = (Vec::new(), Vec::new());
        for entry in read_dir(&self.path).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(id) = name.strip_suffix(ENDING).and_then(|id| id.parse().ok()) else {
                continue;
            };
            match read(&path).and_then(|text| Record::parse(&text, id)) {
                Ok(record) => records.push(record),
                Err(why) => problems.push(format!("{}: {why}", path.display())),
            }
        }
        records.sort_by(|one, other| one.name.cmp(&other.name));
        problems.sort();
        Ok((records, problems))
    }

    /// Remembers this of a guest from now on; soon it is on the disk.
    pub(crate) fn put(&self, record: Record) {
        self.writer.put(record);
    }

    /// Forgets a guest, likewise.
    pub(crate) fn remove(&self, id: GuestId) {
        self.writer.remove(id);
    }

    /// Whether what is remembered of a guest is on the disk, as far as it can be written.
    pub(crate) fn has_written(&self, id: GuestId) -> bool {
        self.writer.is_done_with(id)
    }

    /// What could not be written since this was last asked, in one line.
    pub(crate) fn take_problem(&self) -> Option<String> {
        self.writer.take_problem().map(|why| {
            format!(
                "what is remembered of guests cannot be written to {}: {why}",
                self.path.display()
            )
        })
    }

    /// Waits until everything is on the disk; says what could not be written.
    pub(crate) fn finish(mut self) -> Option<String> {
        self.writer.finish();
        self.take_problem()
    }
}

fn name_of(id: GuestId) -> String {
    format!("{id}{ENDING}")
}

fn lock(folder: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(folder, "lock", flags, Mode::from_bits_retain(0o600))?;
    // SAFETY: the descriptor is open; the call touches no memory.
    let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    Errno::result(locked)?;
    Ok(file)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    let mut text = Vec::new();
    let size = file.take(SIZE_MAX + 1).read_to_end(&mut text);
    match size.map_err(|error| format!("cannot be read: {error}"))? as u64 {
        0..=SIZE_MAX => Ok(text),
        _ => Err("is larger than any record".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::record::tests::record;
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const PARKED: Life = Life::Parked { deadline_real_ns: None, pages: 7 };

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        (root, path)
    }

    #[test]
    fn what_is_remembered_is_there_the_next_time() {
        let (_root, path) = folder();
        let registry = Registry::open(&path).unwrap();
        assert_eq!(registry.read().unwrap(), (Vec::new(), Vec::new()));
        let [first, second, third] = [1, 2, 3].map(|number| record(number, PARKED));
        for record in [&third, &second, &first] {
            registry.put(record.clone());
        }
        let running = Record { life: Life::Running {}, ..first.clone() };
        registry.put(running.clone());
        registry.remove(second.id);
        registry.remove(GuestId([9; 16]));
        assert_eq!(registry.finish(), None);
        let registry = Registry::open(&path).unwrap();
        assert_eq!(registry.read().unwrap(), (vec![running, third], Vec::new()));
        let modes = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
        let modes: Vec<u32> = modes.map(|file| file.permissions().mode() & 0o777).collect();
        assert_eq!(modes, [0o600; 3], "two records and the lock");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_registry_is_one_keepers_alone() {
        let (_root, path) = folder();
        let registry = Registry::open(&path).unwrap();
        let error = Registry::open(&path).err().unwrap();
        assert!(error.to_string().starts_with("--state: another keeper uses /"), "{error}");
        assert_eq!(registry.finish(), None);
        Registry::open(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let error = Registry::open(&path).err().unwrap();
        assert!(error.to_string().starts_with("--state: others may exchange"), "{error}");
    }

    #[test]
    fn a_record_that_is_damaged_is_named_and_left() {
        let (_root, path) = folder();
        let registry = Registry::open(&path).unwrap();
        registry.put(record(1, PARKED));
        assert_eq!(registry.finish(), None);
        let (damaged, large) = (GuestId([2; 16]), GuestId([3; 16]));
        fs::write(path.join(name_of(damaged)), "{}").unwrap();
        fs::File::create(path.join(name_of(large))).unwrap().set_len(SIZE_MAX + 1).unwrap();
        fs::write(path.join("other.json"), "{}").unwrap();
        let registry = Registry::open(&path).unwrap();
        let (records, problems) = registry.read().unwrap();
        assert_eq!(records, [record(1, PARKED)]);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with(&registry.path_of(damaged).display().to_string()));
        assert!(problems[1].ends_with("is larger than any record"), "{problems:?}");
    }

    #[test]
    fn what_cannot_be_written_is_told_once() {
        let (_root, path) = folder();
        let registry = Registry::open(&path).unwrap();
        // A folder is where the file should go.
        fs::create_dir(registry.path_of(GuestId([1; 16]))).unwrap();
        registry.put(record(1, PARKED));
        let problem = registry.finish().unwrap();
        assert!(
            problem.starts_with("what is remembered of guests cannot be written to /"),
            "{problem}"
        );
        assert_eq!(fs::read_dir(&path).unwrap().count(), 2, "nothing is left of the attempt");
    }
}
