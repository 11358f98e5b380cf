//! Where an image is written: to a file beside it, which takes its name when it is complete.

use super::{failure, host};
use crate::output::Failure;
use denali_abi::status;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// An image that is being made. Dropped before it is finished, it leaves nothing behind.
#[derive(Debug)]
pub(super) struct Target {
    image: PathBuf,
    unfinished: PathBuf,
    force: bool,
}

impl Target {
    /// A file for `image`, which holds `folder`. An image that exists is replaced with `force` only.
    pub(super) fn new(image: &Path, folder: &Path, force: bool) -> Result<Self, Failure> {
        let bad = |what: &str| failure(status::BAD_ARGUMENTS, image, what);
        let name = image.file_name().ok_or_else(|| bad("this is no name of a file"))?;
        match image.symlink_metadata() {
            Ok(found) if !found.is_file() => return Err(bad("exists, and is no file")),
            Ok(_) if !force => return Err(bad(EXISTS)),
            _ => {}
        }
        let parent = match image.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let place = parent.canonicalize().map_err(host(parent))?;
        if place.starts_with(folder.canonicalize().map_err(host(folder))?) {
            return Err(bad("lies in the folder that it is to hold"));
        }
        let mut unfinished = std::ffi::OsString::from(".");
        unfinished.push(name);
        unfinished.push(format!(".{}.unfinished", std::process::id()));
        Ok(Self { image: image.to_owned(), unfinished: parent.join(unfinished), force })
    }

    /// Where it is until it is finished.
    pub(super) fn path(&self) -> &Path {
        &self.unfinished
    }

    /// Begins anew with a file of so many bytes, all zero.
    pub(super) fn begin(&self, bytes: u64) -> Result<(), Failure> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).open(&self.unfinished);
        file.and_then(|file| file.set_len(bytes)).map_err(host(&self.unfinished))
    }

    /// Gives it its name, once its bytes are on the disk.
    pub(super) fn finish(self) -> Result<(), Failure> {
        File::open(&self.unfinished)
            .and_then(|file| file.sync_all())
            .map_err(host(&self.unfinished))?;
        if !self.force {
            // A link, unlike a new name, never replaces what another process has made meanwhile.
            match fs::hard_link(&self.unfinished, &self.image) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(failure(status::BAD_ARGUMENTS, &self.image, EXISTS));
                }
                // A file system without links.
                Err(_) => {}
            }
        }
        fs::rename(&self.unfinished, &self.image).map_err(host(&self.image))
    }
}

const EXISTS: &str = "exists; --force replaces it";

impl Drop for Target {
    fn drop(&mut self) {
        // It is not there once it has its name.
        let _ = fs::remove_file(&self.unfinished);
    }
}
