//! The guest's program as a file that cannot change under the guest: sealed in memory, or in a store.

use crate::error::{LaunchError, host};
use crate::hash::ImageHash;
use crate::sealed;
use crate::store::ImageStore;
use denali_arch::space::Access;
use denali_config::Image;
use nix::errno::Errno;
use nix::sys::sendfile::sendfile;
use nix::unistd::{Whence, lseek};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::OnceLock;

/// Most bytes an image file can have.
pub const IMAGE_SIZE_MAX: u64 = 256 << 20;

/// An image that cannot change, once for all guests that are started from it.
#[derive(Debug)]
pub struct SealedImage {
    file: File,
    name: String,
    hash: OnceLock<ImageHash>,
    read_only: OnceLock<u64>,
}

impl SealedImage {
    /// Copies and seals the image that a configuration names; `origin` is the configuration in messages.
    pub fn new(
        image: &Image,
        origin: &str,
        built_in: &[(&str, &[u8])],
    ) -> Result<Self, LaunchError> {
        match image {
            Image::BuiltIn(name) => Self::of_bytes(find(name, origin, built_in)?, name),
            Image::File(path) => {
                let file = open(path, origin)?;
                Ok(Self::of_file(copy(&file, path, origin)?, &path.display().to_string()))
            }
        }
    }

    /// The image that a configuration names, kept in a store and opened there.
    pub fn stored(
        image: &Image,
        origin: &str,
        built_in: &[(&str, &[u8])],
        store: &ImageStore,
    ) -> Result<Self, LaunchError> {
        let (hash, file) = store.put(&read(image, origin, built_in)?)?;
        let name = match image {
            Image::BuiltIn(name) => name.clone(),
            Image::File(path) => path.display().to_string(),
        };
        Ok(Self { hash: hash.into(), ..Self::of_file(file, &name) })
    }

    /// An image that a store has, called `name` in messages.
    pub fn from_store(
        store: &ImageStore,
        hash: ImageHash,
        name: &str,
    ) -> Result<Self, LaunchError> {
        let file = store.get(hash)?;
        Ok(Self { hash: hash.into(), ..Self::of_file(file, name) })
    }

    /// These bytes, sealed.
    pub(crate) fn of_bytes(bytes: &[u8], name: &str) -> Result<Self, LaunchError> {
        Ok(Self::of_file(sealed::from_bytes(c"denali-image", bytes)?, name))
    }

    /// A file that does not change.
    fn of_file(file: OwnedFd, name: &str) -> Self {
        let (file, name) = (file.into(), name.to_owned());
        Self { file, name, hash: OnceLock::new(), read_only: OnceLock::new() }
    }

    /// What messages call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its SHA-256, computed when it is first asked for.
    pub fn hash(&self) -> Result<ImageHash, LaunchError> {
        if let Some(hash) = self.hash.get() {
            return Ok(*hash);
        }
        let hash = ImageHash::of_file(&self.file).map_err(|error| self.unreadable(&error))?;
        Ok(*self.hash.get_or_init(|| hash))
    }

    /// Bytes of the guest's memory that it can only read, because they are the image's: whole pages.
    pub(crate) fn read_only_size(&self) -> Result<u64, LaunchError> {
        if let Some(size) = self.read_only.get() {
            return Ok(*size);
        }
        let length = self.file.metadata().map_err(|error| self.unreadable(&error))?.len();
        let mut bytes = vec![0; length.min(IMAGE_SIZE_MAX) as usize];
        self.file.read_exact_at(&mut bytes, 0).map_err(|error| self.unreadable(&error))?;
        let parsed = denali_arch::image::Image::parse(&bytes)
            .map_err(|error| LaunchError::Image(format!("image {}: {error}", self.name)))?;
        let read_only = parsed.segments.iter().filter(|part| part.access != Access::ReadWrite);
        let pages = read_only.map(|part| part.pages());
        let size = pages.map(|pages| pages.end - pages.start).sum();
        Ok(*self.read_only.get_or_init(|| size))
    }

    /// The descriptor of its file.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Another descriptor of the same file for one more guest.
    pub(crate) fn share(&self) -> Result<OwnedFd, LaunchError> {
        let file = self.file.try_clone().map_err(|error| {
            LaunchError::Host(format!("cannot copy the image's descriptor: {error}"))
        })?;
        Ok(file.into())
    }

    fn unreadable(&self, error: &io::Error) -> LaunchError {
        LaunchError::Image(format!("image {}: cannot be read: {error}", self.name))
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
pub(crate) mod tests {
    use super::*;
    use std::path::PathBuf;

    /// An ELF image with three pages of text and one of data.
    pub(crate) fn elf() -> Vec<u8> {
        let mut bytes = vec![0xcc; 5 << 12];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &[0; 4096]);
        put(0, b"\x7fELF\x02\x01\x01");
        for (at, value) in [(16, 2_u16), (18, 62), (54, 56), (56, 3)] {
            put(at, &value.to_le_bytes());
        }
        put(24, &0x20_0000_u64.to_le_bytes());
        put(32, &64_u64.to_le_bytes());
        // Kind, flags, offset, address and size of text, data and note.
        let parts: [(u32, u32, u64, u64, u64); 3] = [
            (1, 5, 0x1000, 0x20_0000, 0x2800),
            (1, 6, 0x4000, 0x20_3000, 0x1000),
            (4, 4, 0x800, 0, 340),
        ];
        for (at, (kind, flags, offset, address, size)) in (64..).step_by(56).zip(parts) {
            put(at, &kind.to_le_bytes());
            put(at + 4, &flags.to_le_bytes());
            for (at, value) in
                [(8, offset), (16, address), (32, size), (40, size)].map(|(o, v)| (at + o, v))
            {
                put(at, &value.to_le_bytes());
            }
        }
        for (at, value) in [(0x800, 7), (0x804, 320), (0x808, 1), (0x814, denali_abi::ABI_VERSION)]
        {
            put(at, &value.to_le_bytes());
        }
        put(0x80c, b"Denali\0\0");
        bytes
    }

    fn seal_file(path: &Path) -> Result<SealedImage, LaunchError> {
        SealedImage::new(&Image::File(path.to_path_buf()), "vm.json", &[])
    }

    #[test]
    fn a_file_is_copied_whole_and_later_changes_do_not_show() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.elf");
        let content: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let copy = seal_file(&path).unwrap();
        std::fs::write(&path, b"changed").unwrap();
        let mut read = Vec::new();
        File::from(copy.share().unwrap()).read_to_end(&mut read).unwrap();
        assert_eq!(read, content);
        assert_eq!(copy.name(), path.display().to_string());
        assert_eq!(copy.hash().unwrap(), ImageHash::of(&content));
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
    fn what_a_guest_can_only_read_is_told_from_its_image() {
        let image = SealedImage::of_bytes(&elf(), "elf").unwrap();
        assert_eq!(image.read_only_size(), Ok(3 << 12));
        assert_eq!(image.read_only_size(), Ok(3 << 12));
        let broken = SealedImage::of_bytes(b"no elf", "broken").unwrap();
        let error = broken.read_only_size().unwrap_err();
        assert!(error.to_string().starts_with("image broken: "), "{error}");
        assert_eq!(error.status(), denali_abi::status::BAD_IMAGE);
    }

    #[test]
    fn images_of_a_store_are_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(folder.path()).unwrap();
        let hello = Image::BuiltIn("hello".into());
        let stored =
            || SealedImage::stored(&hello, "vm.json", &[("hello", b"elf")], &store).unwrap();
        let (one, other) = (stored(), stored());
        assert_eq!(one.hash().unwrap(), ImageHash::of(b"elf"));
        let again = SealedImage::from_store(&store, one.hash().unwrap(), "hello").unwrap();
        let inode = |image: &SealedImage| {
            std::os::unix::fs::MetadataExt::ino(&image.file.metadata().unwrap())
        };
        assert_eq!(inode(&one), inode(&other));
        assert_eq!(inode(&one), inode(&again));
        assert!(SealedImage::from_store(&store, ImageHash::of(b"other"), "other").is_err());
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
