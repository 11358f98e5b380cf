//! Snapshots: what a guest that continues from one starts with.

use crate::error::LaunchError;
use crate::folder::{is_regular, is_trusted};
use crate::image::SealedImage;
use crate::opened::Opened;
use crate::spec::ResumeSpec;
use crate::store::ImageStore;
use denali_config::{ConfigError, Document};
use denali_swap::snapshot::Snapshot as Contents;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Who else than its owner can write a file.
const OTHERS_WRITE: libc::mode_t = 0o022;

/// A snapshot, open for reading, for any number of guests that continue from it.
#[derive(Debug)]
pub struct Snapshot {
    file: File,
    /// What messages call it.
    path: String,
    contents: Contents,
}

impl Snapshot {
    /// Opens and checks a snapshot; its pages are not read.
    ///
    /// # Errors
    /// When it is none, is damaged, or could be changed by others while a guest uses it.
    pub fn open(path: &Path) -> Result<Self, LaunchError> {
        let shown = path.display().to_string();
        let refuse = |why: &str| LaunchError::Image(format!("snapshot {shown}: {why}"));
        // Without O_NONBLOCK, opening a named pipe waits for its writer.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let file = open(path, flags, Mode::empty()).map_err(|error| match error {
            Errno::ENOENT => refuse("there is no such file; check the path"),
            error => refuse(&format!("cannot be opened: {}", error.desc())),
        })?;
        let status = fstat(&file).map_err(|error| refuse(error.desc()))?;
        if !is_regular(&status) {
            return Err(refuse("is not a regular file"));
        }
        if !is_trusted(&status) || status.st_mode & OTHERS_WRITE != 0 {
            return Err(refuse(
                "others could change it while a guest uses it; make a copy that is this user's alone",
            ));
        }
        let file = File::from(file);
        let contents = Contents::read(&file).map_err(|error| refuse(&error.to_string()))?;
        Ok(Self { file, path: shown, contents })
    }

    /// Whether another file is at `path`, where it was opened, by now.
    #[must_use]
    pub fn is_replaced_at(&self, path: &Path) -> bool {
        let identity = |status: std::fs::Metadata| (status.dev(), status.ino());
        match (self.file.metadata(), std::fs::metadata(path)) {
            (Ok(open), Ok(there)) => identity(open) != identity(there),
            _ => false,
        }
    }

    /// The configuration of the guest it was made of.
    ///
    /// # Errors
    /// When there is none, or it cannot be understood.
    pub fn configuration(&self) -> Result<Document, LaunchError> {
        if self.contents.configuration.is_empty() {
            let why = "has no configuration; name one";
            return Err(LaunchError::Image(format!("snapshot {}: {why}", self.path)));
        }
        // Its paths are absolute.
        Ok(Document::parse(&self.contents.configuration, &self.path, "/".into())?)
    }

    /// The image of the guest it was made of, as a file in memory or, with a store, there.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn image(&self, store: Option<&ImageStore>) -> Result<SealedImage, LaunchError> {
        let read = self.contents.read_image(&self.file);
        let bytes =
            read.map_err(|error| LaunchError::Image(format!("snapshot {}: {error}", self.path)))?;
        let name = format!("of snapshot {}", self.path);
        match store {
            Some(store) => SealedImage::from_store(store, store.add(&bytes)?, &name),
            None => SealedImage::of_bytes(&bytes, &name),
        }
    }

    /// A configuration of a guest with as much memory as the snapshot has, whatever it said before: what a region
    /// for a clone is made by, and what it is kept by.
    ///
    /// # Errors
    /// When no guest can have so much memory.
    pub fn with_memory(&self, document: &Document) -> Result<Document, ConfigError> {
        let mut document = document.clone();
        document.set_memory(self.contents.memory_size(), &format!("snapshot {}", self.path))?;
        Ok(document)
    }

    /// What a monitor is told of it, with another descriptor of the file. What was checked here is not checked
    /// by the monitors of all its clones again.
    pub(crate) fn resume(&self, opened: &mut Opened) -> Result<ResumeSpec, LaunchError> {
        let file = self.file.try_clone().map_err(|error| {
            LaunchError::Host(format!("cannot copy the descriptor of a snapshot: {error}"))
        })?;
        let Contents { state_section: state, memory, .. } = &self.contents;
        Ok(ResumeSpec::Snapshot {
            file: opened.keep(file.into()),
            state: (state.offset, state.length),
            memory: memory.offset,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::hash::ImageHash;
    use crate::image::tests::elf;
    use crate::prepare::{Launch, Resume, Settings};
    use denali_swap::PageNumber;
    use denali_swap::snapshot::{Contents as Written, SnapshotWriter};
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    /// Writes a snapshot of a guest with 8 MiB of memory.
    pub(crate) fn write(folder: &Path, configuration: &str) -> PathBuf {
        let path = folder.join("snapshot");
        let file = File::create(&path).unwrap();
        let contents = Written {
            memory_size: 8 << 20,
            state: b"{}",
            configuration: configuration.as_bytes(),
            image: &elf(),
        };
        let mut writer = SnapshotWriter::new(&file, contents).unwrap();
        writer.pages(PageNumber(0x200), &[7; 4096]).unwrap();
        writer.finish().unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn refusal<T>(result: Result<T, LaunchError>) -> String {
        let Err(error) = result else { panic!("it should be refused") };
        assert_eq!(error.status(), denali_abi::status::BAD_IMAGE);
        let message = error.to_string();
        assert!(message.starts_with("snapshot /") && !message.contains('\n'), "{message}");
        message
    }

    #[test]
    fn a_guest_continues_with_the_image_and_memory_of_its_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"image": "/gone.elf", "memory": "16MiB", "hypervisor": "process"}"#;
        let snapshot = Snapshot::open(&write(folder.path(), text)).unwrap();
        let mut document = snapshot.configuration().unwrap();
        document.set("name=clone").unwrap();
        let settings = Settings {
            resume: Some(Resume::Snapshot(&snapshot)),
            ..Settings::new(&[], Path::new("broker"))
        };
        let launch = Launch::prepare(&document, &settings).unwrap();
        let spec = launch.spec();
        assert_eq!((spec.name.as_str(), spec.memory_size), ("clone", 8 << 20));
        assert_eq!(spec.image.hash, ImageHash::of(&elf()).to_string());
        assert!(matches!(spec.resume, Some(ResumeSpec::Snapshot { .. })), "{:?}", spec.resume);

        document.set("swap.limit=15MiB").unwrap();
        document.set("swap.stripes.0=/tmp").unwrap();
        let error = Launch::prepare(&document, &settings).unwrap_err().to_string();
        assert!(error.contains("a guest with 8MiB of memory"), "{error}");
    }

    #[test]
    fn an_image_of_a_snapshot_can_be_kept() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = Snapshot::open(&write(folder.path(), "")).unwrap();
        let store = ImageStore::open(&folder.path().join("images")).unwrap();
        let kept = snapshot.image(Some(&store)).unwrap();
        assert_eq!(kept.hash(), Ok(ImageHash::of(&elf())));
        assert!(store.get(ImageHash::of(&elf())).is_ok());
        let message = refusal(snapshot.configuration());
        assert!(message.ends_with("has no configuration; name one"), "{message}");
    }

    #[test]
    fn what_is_no_snapshot_or_not_its_users_alone_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "{}");
        fs::set_permissions(&path, Permissions::from_mode(0o660)).unwrap();
        assert!(refusal(Snapshot::open(&path)).contains("others could change it"));
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        Snapshot::open(&path).unwrap();

        fs::write(&path, "no snapshot").unwrap();
        assert!(refusal(Snapshot::open(&path)).contains("is no snapshot"));
        fs::remove_file(&path).unwrap();
        assert!(refusal(Snapshot::open(&path)).ends_with("there is no such file; check the path"));
        assert!(refusal(Snapshot::open(folder.path())).ends_with("is not a regular file"));
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        assert!(refusal(Snapshot::open(&path)).ends_with("is not a regular file"));
    }
}
