//! The registry: what a keeper remembers of its guests on disk, to go on after it, or the host, has
//! started anew.
//!
//! It is one file, an embedded database in which a transaction is there whole or not at all. Each waits for
//! the disk, so that a thread of its own makes them, as large as there is something to write; no guest waits.

mod record;
mod table;
mod writer;

pub(crate) use record::{Life, Record};

use denali_launcher::{LaunchError, open_own};
use denali_swap::GuestId;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use std::fs::DirBuilder;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use table::Table;
use writer::Writer;

/// Name of the file in the folder of a keeper's state.
const FILE: &str = "registry.redb";

/// A registry, of one keeper at a time.
pub(crate) struct Registry {
    path: PathBuf,
    /// Locked for as long as it is open.
    _lock: OwnedFd,
    table: Arc<Table>,
    writer: Writer,
}

impl Registry {
    /// Opens the registry in the folder `path`, which is made if it is missing.
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
        let file = path.join(FILE);
        let table = Table::open(&file)
            .map_err(|why| fail(&format_args!("cannot use {}: {why}", file.display())))?;
        let table = Arc::new(table);
        let writer = Writer::start(table.clone()).map_err(|error| fail(&error))?;
        Ok(Self { path: file, _lock: lock, table, writer })
    }

    /// Where it is, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads all records, by their guests' names; and what is wrong with those that cannot be read, one
    /// line each.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn read(&self) -> Result<(Vec<Record>, Vec<String>), LaunchError> {
        let unreadable = |why: String| {
            LaunchError::Host(format!("--state: cannot read {}: {why}", self.path.display()))
        };
        let (mut records, mut problems) = (Vec::new(), Vec::new());
        self.table
            .each(&mut |id, text| match Record::parse(text, id) {
                Ok(record) => records.push(record),
                Err(why) => {
                    problems.push(format!("{}: guest {id}: {why}", self.path.display()));
                }
            })
            .map_err(unreadable)?;
        records.sort_by(|one, other| one.name.cmp(&other.name));
        problems.sort();
        Ok((records, problems))
    }

    /// What is remembered of a guest, whether it is on the disk yet or not.
    ///
    /// # Errors
    /// When it is not there, or cannot be read.
    pub(crate) fn get(&self, id: GuestId) -> Result<Record, String> {
        if let Some(record) = self.writer.unwritten(id) {
            return Ok(record);
        }
        let text = self.table.get(id)?.ok_or("is not in the registry")?;
        Record::parse(&text, id)
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
                "what is remembered of guests cannot be written to {}: {why}; it is tried again",
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

fn lock(folder: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(folder, "lock", flags, Mode::from_bits_retain(0o600))?;
    // SAFETY: the descriptor is open; the call touches no memory.
    let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    Errno::result(locked)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::record::tests::record;
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const PARKED: Life = Life::Parked { deadline_real_ns: None, pages: 7, interrupted: false };

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
        assert_eq!(registry.get(third.id).unwrap(), third);
        assert!(registry.get(second.id).is_err());
        assert_eq!(registry.read().unwrap(), (vec![running, third], Vec::new()));
        let modes = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
        let modes: Vec<u32> = modes.map(|file| file.permissions().mode() & 0o777).collect();
        assert_eq!(modes, [0o600; 2], "the registry and the lock");
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
        let damaged = GuestId([2; 16]);
        registry.table.write([(damaged, Some(b"{}".to_vec()))]).unwrap();
        assert_eq!(registry.finish(), None);
        let registry = Registry::open(&path).unwrap();
        let (records, problems) = registry.read().unwrap();
        assert_eq!(records, [record(1, PARKED)]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(&format!("guest {damaged}: missing field")), "{problems:?}");
        assert!(registry.get(damaged).is_err());
    }

    #[test]
    fn what_is_no_registry_is_left_alone() {
        let (_root, path) = folder();
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(path.join(FILE), "somebody's text").unwrap();
        let error = Registry::open(&path).err().unwrap().to_string();
        assert!(error.starts_with("--state: cannot use /") && !error.contains('\n'), "{error}");
        assert_eq!(fs::read(path.join(FILE)).unwrap(), b"somebody's text");
    }
}
