//! Disks of their own: file systems on loop devices.

use crate::place::{Folder, Place};
use crate::undo::{Undo, until};
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long it may be in use still: rings of processes that have ended hold their files for a moment.
const PATIENCE: Duration = Duration::from_secs(10);

/// A small disk with a file system, gone when dropped.
#[derive(Debug)]
pub(super) struct Loop {
    device: String,
    mounted: PathBuf,
    // In this order they are undone.
    _mount: Undo,
    _device: Undo,
    _folder: Folder,
}

impl Loop {
    /// Why there can be none here, if so.
    pub(super) fn problem() -> Option<String> {
        // SAFETY: reads this process's user id, nothing else.
        if unsafe { libc::geteuid() } != 0 {
            return Some("not root".into());
        }
        if !Path::new("/dev/loop-control").exists() {
            return Some("there are no loop devices".into());
        }
        ["losetup", "mkfs.ext4", "mount", "umount"].into_iter().find_map(|program| {
            let mut command = Command::new(program);
            let found = command.arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
            found.err().map(|error| format!("{program}: {error}"))
        })
    }

    /// A disk of so many MiB, called `name`.
    pub(super) fn new(name: &str, mib: u32, place: &Place) -> Result<Self> {
        let folder = place.on_disk(name)?;
        let image = folder.path().join("image");
        let made = File::create(&image).and_then(|file| file.set_len(u64::from(mib) << 20));
        made.context("cannot make the image of a disk")?;
        let attach = || run("losetup", &["--find", "--show"], &image);
        let (path, attached) =
            Undo::of(attach, |path| undo("losetup", &["--detach"], Path::new(path.trim())))?;
        let node = PathBuf::from(path.trim());
        run("mkfs.ext4", &["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0"], &node)?;
        let mounted = folder.path().join("mounted");
        fs::create_dir(&mounted).context("cannot make a folder")?;
        let mount = || run("mount", &[&node], &mounted).map(|_| mounted.clone());
        let (mounted, mount) = Undo::of(mount, |mounted| undo("umount", &[], &mounted))?;
        let device = number_of(&node)?;
        Ok(Self { device, mounted, _mount: mount, _device: attached, _folder: folder })
    }

    /// The device, `MAJOR:MINOR`.
    pub(super) fn device(&self) -> &str {
        &self.device
    }

    /// Where its file system is.
    pub(super) fn folder(&self) -> &Path {
        &self.mounted
    }
}

fn number_of(node: &Path) -> Result<String> {
    let name = node.file_name().context("a loop device without a name")?;
    let path = Path::new("/sys/block").join(name).join("dev");
    let number = fs::read_to_string(&path);
    Ok(number.with_context(|| format!("cannot read {}", path.display()))?.trim().to_owned())
}

fn undo(program: &str, words: &[&str], path: &Path) {
    if !until(PATIENCE, || run(program, words, path).is_ok()) {
        eprintln!("bench: please {program} {} {}", words.join(" "), path.display());
    }
}

/// Runs a program, whose last argument is the path; what it says.
fn run<S: AsRef<OsStr>>(program: &str, words: &[S], path: &Path) -> Result<String> {
    let output = Command::new(program).args(words).arg(path).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
