//! Tests of regions and keys, in folders that stand for disks.

mod keys;
mod machine;
mod making;
mod opening;

use super::*;
use crate::image::tests::elf;
use std::fs;
use std::path::PathBuf;

const ID: GuestId = GuestId([0xab; 16]);

/// Two folders, and a configuration that stripes over them.
struct Disks {
    root: tempfile::TempDir,
}

impl Disks {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        Self { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A configuration with these further fields of `swap`.
    fn document(&self, fields: &str) -> Document {
        self.striped(r#""a", "b""#, fields)
    }

    fn striped(&self, stripes: &str, fields: &str) -> Document {
        let text = format!(
            r#"{{"image": "elf", "hypervisor": "process", "memory": "4MiB",
                "swap": {{"stripes": [{stripes}]{fields}}}}}"#
        );
        Document::parse(text.as_bytes(), "vm.json", self.root.path().into()).unwrap()
    }

    /// Names and sizes of the files in both folders.
    fn files(&self) -> Vec<(String, u64)> {
        let mut files = Vec::new();
        for name in ["a", "b"] {
            for entry in fs::read_dir(self.path(name)).unwrap() {
                let entry = entry.unwrap();
                let name = format!("{name}/{}", entry.file_name().display());
                files.push((name, entry.metadata().unwrap().len()));
            }
        }
        files
    }
}

fn image() -> SealedImage {
    SealedImage::of_bytes(&elf(), "elf").unwrap()
}

fn create(document: &Document, host: Option<&Key>) -> Result<SwapSpace, LaunchError> {
    SwapSpace::create(document, &document.guest().unwrap(), &image(), ID, host)
}

fn open(document: &Document, host: Option<&Key>) -> Result<SwapSpace, LaunchError> {
    SwapSpace::open(document, &document.guest().unwrap(), ID, host)
}

/// What a refusal says, without the place of the folders.
fn refusal<T>(disks: &Disks, result: Result<T, LaunchError>) -> String {
    let Err(error) = result else { panic!("it should be refused") };
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    message.replace(&format!("{}/", disks.root.path().display()), "")
}

fn host() -> Key {
    Key::from_bytes(&[7; 32]).unwrap()
}
