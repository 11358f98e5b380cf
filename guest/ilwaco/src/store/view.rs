//! Names and inodes, as the crate `ext4-view` reads them from the cache.

use super::cache::{Cache, Lacking, ROUNDS};
use super::{Device, Entry, Error, Kind, Metadata};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::fmt;
use ext4_view::{Ext4, Ext4Error, Ext4Read, FileType, Path};

/// The file system.
pub(super) struct View {
    files: Ext4,
}

/// Reads from the cache, or fails.
struct CacheReader(Rc<Cache>);

impl Ext4Read for CacheReader {
    fn read(
        &mut self,
        start_byte: u64,
        dst: &mut [u8],
    ) -> Result<(), Box<dyn core::error::Error + Send + Sync + 'static>> {
        self.0.copy(start_byte, dst).map_err(|lacking| Box::new(NotRead(lacking)).into())
    }
}

#[derive(Debug)]
struct NotRead(Lacking);

impl fmt::Display for NotRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl core::error::Error for NotRead {}

impl View {
    /// Opens the file system, whose layout has been checked.
    pub(super) async fn load(cache: &Rc<Cache>, device: &impl Device) -> Result<Self, Error> {
        let load = || Ext4::load(Box::new(CacheReader(Rc::clone(cache))));
        repeat(cache, device, load).await.map(|files| Self { files })
    }

    /// The result of `operation`, which is done again whenever something had to be read for it.
    pub(super) async fn run<T>(
        &self,
        cache: &Cache,
        device: &impl Device,
        operation: impl Fn(&Ext4) -> Result<T, Ext4Error>,
    ) -> Result<T, Error> {
        repeat(cache, device, || operation(&self.files)).await
    }
}

async fn repeat<T>(
    cache: &Cache,
    device: &impl Device,
    operation: impl Fn() -> Result<T, Ext4Error>,
) -> Result<T, Error> {
    for _ in 0..ROUNDS {
        match operation() {
            Ok(value) => return Ok(value),
            Err(Ext4Error::Io(_)) if cache.lacks() => cache.fetch_missing(device).await?,
            Err(error) => return Err(meaning(&error)),
        }
    }
    Err(Error::TooLarge)
}

fn meaning(error: &Ext4Error) -> Error {
    match error {
        Ext4Error::NotFound | Ext4Error::NotADirectory | Ext4Error::MalformedPath => {
            Error::NotFound
        }
        Ext4Error::IsADirectory | Ext4Error::IsASpecialFile => Error::NotAFile,
        Ext4Error::PathTooLong | Ext4Error::TooManySymlinks | Ext4Error::FileTooLarge => {
            Error::TooLarge
        }
        Ext4Error::Encrypted | Ext4Error::Incompatible(_) => Error::Unsupported,
        _ => Error::Corrupt,
    }
}

fn kind(file_type: FileType) -> Kind {
    match file_type {
        FileType::Regular => Kind::File,
        FileType::Directory => Kind::Folder,
        FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    }
}

/// What `path` itself is; the folders above must be no symbolic links.
pub(super) fn metadata(files: &Ext4, path: &[u8]) -> Result<Metadata, Ext4Error> {
    let found = files.symlink_metadata(path_of(path)?)?;
    Ok(Metadata {
        kind: kind(found.file_type()),
        bytes: found.len(),
        modified: found.modified().seconds().try_into().unwrap_or(0),
    })
}

/// Where a symbolic link leads.
pub(super) fn link(files: &Ext4, path: &[u8]) -> Result<Vec<u8>, Ext4Error> {
    files.read_link(path_of(path)?).map(|target| target.as_ref().to_vec())
}

/// The names in a folder.
pub(super) fn list(files: &Ext4, path: &[u8]) -> Result<Vec<Entry>, Ext4Error> {
    let mut entries = Vec::new();
    for entry in files.read_dir(path_of(path)?)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != "." && name != ".." {
            let kind = kind(entry.file_type()?);
            entries.push(Entry { name: name.as_ref().to_vec(), kind });
        }
    }
    Ok(entries)
}

/// The number of a file's inode. The crate tells it only in the text that it shows of a file for
/// debugging; its version is therefore fixed, and a test would notice if the text were different.
pub(super) fn inode_number(files: &Ext4, path: &[u8]) -> Result<u32, Ext4Error> {
    let file = files.open(path_of(path)?)?;
    let shown = format!("{file:?}");
    let digits = shown.split_once("inode: ").map_or("", |(_, rest)| rest);
    let end = digits.find(|character: char| !character.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().map_err(|_| Ext4Error::NotFound)
}

fn path_of(path: &[u8]) -> Result<Path<'_>, Ext4Error> {
    Path::try_from(path).map_err(|_| Ext4Error::MalformedPath)
}
