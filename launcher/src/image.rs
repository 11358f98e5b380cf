//! The guest's program as a sealed file in memory, so that it cannot change under the guest.

use crate::error::{LaunchError, host};
use crate::sealed;
use denali_config::Image;
use nix::errno::Errno;
use nix::sys::sendfile::sendfile;
use nix::unistd::{Whence, lseek};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Most bytes an image file can have.
pub const IMAGE_SIZE_MAX: u64 = 256 << 20;

/// An image in memory, once for all guests that are started from it.
#[derive(Debug)]
pub struct SealedImage {
    file: OwnedFd,
    name: String,
}

impl SealedImage {
    /// Copies and seals the image that a configuration names; `origin` is the configuration in messages.
    pub fn new(
        image: &Image,
        origin: &str,
        built_in: &[(&str, &[u8])],
    ) -> Result<Self, LaunchError> {
        let (file, name) = seal(image, origin, built_in)?;
        Ok(Self { file, name })
    }

    /// Another descriptor of the same file for one more guest, and what messages call the image.
    pub(crate) fn share(&self) -> Result<(OwnedFd, String), LaunchError> {
        let file = self.file.try_clone().map_err(|error| {
            LaunchError::Host(format!("cannot copy the image's descriptor: {error}"))
        })?;
        Ok((file, self.name.clone()))
    }
}

/// The image as a sealed file in memory, and what messages call it.
pub(crate) fn seal(
    image: &Image,
    origin: &str,
    built_in: &[(&str, &[u8])],
) -> Result<(OwnedFd, String), LaunchError> {
    match image {
        Image::BuiltIn(name) => {
            let bytes = find(name, origin, built_in)?;
            Ok((sealed::from_bytes(c"denali-image", bytes)?, name.clone()))
        }
        Image::File(path) => {
            let file = open(path, origin)?;
            Ok((copy(&file, path, origin)?, path.display().to_string()))
        }
    }
}

/// The bytes of an image, for looking at.
pub fn read(
    image: &Image,
    origin: &str,
    built_in: &[(&str, &[u8])],
) -> Result<Vec<u8>, LaunchError> {
    match image {
        Image::BuiltIn(name) => find(name, origin, built_in).map(<[u8]>::to_vec),
        Image::File(path) => {
            let mut bytes = Vec::new();
            open(path, origin)?
                .take(IMAGE_SIZE_MAX)
                .read_to_end(&mut bytes)
                .map_err(|error| unusable(origin, path, &format!("cannot be read: {error}")))?;
            Ok(bytes)
        }
    }
}

fn find<'a>(
    name: &str,
    origin: &str,
    built_in: &[(&str, &'a [u8])],
) -> Result<&'a [u8], LaunchError> {
    if let Some((_, bytes)) = built_in.iter().find(|(known, _)| *known == name) {
        return Ok(bytes);
    }
    let known: Vec<&str> = built_in.iter().map(|(name, _)| *name).collect();
    Err(LaunchError::Image(format!(
        "{origin}: image: {name:?} is no built-in image; there are {}; a file needs a \"/\" in its \
         path or \".elf\" at its end, e.g. \"./{name}\"",
        known.join(", ")
    )))
}

/// Opens an image file; anything that is not a regular file of a possible size is refused.
fn open(path: &Path, origin: &str) -> Result<File, LaunchError> {
    let refuse = |why: &str| Err(unusable(origin, path, why));
    // Without O_NONBLOCK, opening a named pipe waits for its writer.
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound => refuse("there is no such file; check the path"),
                io::ErrorKind::PermissionDenied => {
                    refuse("may not be read by this user; check its permissions")
                }
                _ => refuse(&format!("cannot be opened: {error}")),
            };
        }
    };
    match file.metadata() {
        Err(error) => refuse(&format!("cannot be examined: {error}")),
        Ok(metadata) if metadata.is_dir() => refuse("is a folder, not an image file"),
        Ok(metadata) if !metadata.is_file() => refuse("is not a regular file"),
        Ok(metadata) if metadata.len() == 0 => refuse("is empty"),
        Ok(metadata) if metadata.len() > IMAGE_SIZE_MAX => {
            refuse("is larger than 256 MiB, the most an image can have")
        }
        Ok(_) => Ok(file),
    }
}

/// Copies what the file has now, inside the kernel.
fn copy(file: &File, path: &Path, origin: &str) -> Result<OwnedFd, LaunchError> {
    let copy = sealed::create(c"denali-image")?;
    let mut total = 0;
    loop {
        let room = (IMAGE_SIZE_MAX - total) as usize;
        match sendfile(&copy, file, None, room) {
            Ok(0) => break,
            Ok(count) => total += count as u64,
            Err(Errno::EINTR) => {}
            Err(error) => {
                return Err(unusable(origin, path, &format!("cannot be read: {}", error.desc())));
            }
        }
    }
    sealed::seal(&copy)?;
    lseek(&copy, 0, Whence::SeekSet).map_err(|error| host("cannot rewind the image", error))?;
    Ok(copy)
}

fn unusable(origin: &str, path: &Path, why: &str) -> LaunchError {
    let path = path.display().to_string();
    // An image named on the command line is its own origin.
    let place = if origin == path { String::new() } else { format!("{origin}: image: ") };
    LaunchError::Image(format!("{place}{}: {why}", one_line(&path)))
}

/// `text` without control characters.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn seal_file(path: &Path) -> Result<(OwnedFd, String), LaunchError> {
        seal(&Image::File(path.to_path_buf()), "vm.json", &[])
    }

    #[test]
    fn a_file_is_copied_whole_and_later_changes_do_not_show() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.elf");
        let content: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let (copy, name) = seal_file(&path).unwrap();
        std::fs::write(&path, b"changed").unwrap();
        let mut read = Vec::new();
        File::from(copy).read_to_end(&mut read).unwrap();
        assert_eq!(read, content);
        assert_eq!(name, path.display().to_string());
    }

    #[test]
    fn what_is_no_image_file_is_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.elf");
        let large = folder.path().join("large.elf");
        File::create(&empty).unwrap();
        File::create(&large).unwrap().set_len(IMAGE_SIZE_MAX + 1).unwrap();
        for (path, why) in [
            (folder.path().join("missing.elf"), "there is no such file"),
            (folder.path().to_path_buf(), "is a folder"),
            (PathBuf::from("/dev/null"), "is not a regular file"),
            (empty, "is empty"),
            (large, "is larger than 256 MiB"),
        ] {
            let error = seal_file(&path).unwrap_err();
            let message = error.to_string();
            assert!(message.starts_with("vm.json: image: /"), "{message}");
            assert!(message.contains(why) && !message.contains('\n'), "{message}");
            assert_eq!(error.status(), denali_abi::status::BAD_IMAGE);
        }
    }

    #[test]
    fn a_named_pipe_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe.elf");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(seal_file(&path).unwrap_err().to_string().contains("is not a regular file"));
    }

    #[test]
    fn built_in_images_are_found_by_name() {
        let table: &[(&str, &[u8])] = &[("hello", b"elf")];
        let hello = Image::BuiltIn("hello".into());
        assert_eq!(read(&hello, "vm.json", table).unwrap(), b"elf");
        let error = read(&Image::BuiltIn("helo".into()), "vm.json", table).unwrap_err();
        assert!(error.to_string().contains("\"helo\" is no built-in image; there are hello"));
    }
}
