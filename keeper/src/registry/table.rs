//! The file of the registry: guests' records by their identities.

use denali_swap::GuestId;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::fmt::Display;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Records, as [`Record`](super::Record) writes them.
const GUESTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("guests");

/// Bytes of the file that are kept in memory: it is read once at the start, and then seldom.
const CACHE: usize = 4 << 20;

/// The file.
pub(super) struct Table {
    path: PathBuf,
    /// `None` after a write that failed, until it is opened again.
    open: Mutex<Option<Database>>,
}

impl Table {
    /// Opens the file, which is made if it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let database = open(path)?;
        let table = Self { path: path.to_path_buf(), open: Mutex::new(Some(database)) };
        // Makes the table, so that it can be read.
        table.write([])?;
        Ok(table)
    }

    /// Shows all records.
    pub(super) fn each(&self, visit: &mut dyn FnMut(GuestId, &[u8])) -> Result<(), String> {
        self.using(|database| {
            let transaction = database.begin_read().map_err(text)?;
            let table = transaction.open_table(GUESTS).map_err(text)?;
            for entry in table.iter().map_err(text)? {
                let (key, record) = entry.map_err(text)?;
                if let Ok(id) = <[u8; 16]>::try_from(key.value()) {
                    visit(GuestId(id), record.value());
                }
            }
            Ok(())
        })
    }

    /// A record.
    pub(super) fn get(&self, id: GuestId) -> Result<Option<Vec<u8>>, String> {
        self.using(|database| {
            let transaction = database.begin_read().map_err(text)?;
            let table = transaction.open_table(GUESTS).map_err(text)?;
            let found = table.get(&id.0[..]).map_err(text)?;
            Ok(found.map(|record| record.value().to_vec()))
        })
    }

    /// Writes records, or takes them away, all at once; returns when they are on the disk.
    pub(super) fn write(
        &self,
        changes: impl IntoIterator<Item = (GuestId, Option<Vec<u8>>)>,
    ) -> Result<(), String> {
        self.using(|database| {
            let transaction = database.begin_write().map_err(text)?;
            {
                let mut table = transaction.open_table(GUESTS).map_err(text)?;
                for (id, record) in changes {
                    match record {
                        Some(record) => table.insert(&id.0[..], &record[..]).map(drop),
                        None => table.remove(&id.0[..]).map(drop),
                    }
                    .map_err(text)?;
                }
            }
            transaction.commit().map_err(text)
        })
    }

    /// Does something with the file, which is opened anew after it has failed: a disk that was full may have
    /// room again.
    fn using<T>(&self, work: impl FnOnce(&Database) -> Result<T, String>) -> Result<T, String> {
        let mut slot = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match slot.take() {
            Some(database) => database,
            None => open(&self.path)?,
        };
        let done = work(&database);
        if done.is_ok() {
            *slot = Some(database);
        }
        done
    }
}

fn open(path: &Path) -> Result<Database, String> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    // Made here, so that it is its user's alone from the beginning; the folder is too.
    drop(options.open(path).map_err(text)?);
    Database::builder().set_cache_size(CACHE).create(path).map_err(text)
}

/// An error in one line.
fn text(error: impl Display) -> String {
    error.to_string().replace('\n', " ")
}
