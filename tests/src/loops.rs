//! Small disks of tests, which can be made to fail: file systems on loop devices.

use crate::namespace::run;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A small disk with a file system, gone when dropped. For threads within [`private_mounts`].
pub struct Loop {
    folder: tempfile::TempDir,
}

/// Runs `body` on a thread whose mounts, and those of its child processes, nobody else sees. They are gone
/// when the thread and its children are.
pub fn private_mounts<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: moves this thread, which ends with the test, into a new namespace.
            let moved = unsafe { libc::unshare(libc::CLONE_NEWNS) };
            assert_eq!(moved, 0, "a mount namespace: {}", std::io::Error::last_os_error());
            succeed("mount", &["--make-rprivate", "/"]);
            body()
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[track_caller]
fn succeed(program: &str, words: &[&str]) {
    let output = run(program, words);
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
}

impl Loop {
    /// A disk of so many bytes.
    pub fn new(bytes: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Self { folder };
        let [below, mounted] = [disk.below(), disk.folder()];
        for folder in [&below, &mounted] {
            std::fs::create_dir(folder).expect("a folder can be made");
        }
        let size = format!("size={bytes}");
        succeed("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", text(&below)]);
        let file = disk.backing();
        File::create(&file).and_then(|file| file.set_len(bytes)).expect("room for a disk");
        succeed("mkfs.ext4", &["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0", text(&file)]);
        // The loop device goes when the mount does.
        succeed("mount", &["-o", "loop", text(&file), text(&mounted)]);
        disk
    }

    /// Where the memory is that the disk's bytes are in.
    fn below(&self) -> PathBuf {
        self.folder.path().join("below")
    }

    fn backing(&self) -> PathBuf {
        self.below().join("disk.img")
    }

    /// Where it is mounted.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    /// From here on, reading fails: the disk's bytes are no more.
    pub fn lose(&self) {
        let cut = File::options().write(true).open(self.backing()).and_then(|file| file.set_len(0));
        cut.expect("a file can be cut");
    }

    /// From here on, writing fails where nothing was written before: the disk finds no room for its bytes.
    pub fn fill(&self) {
        let mut file = File::create(self.below().join("filler")).expect("a file");
        while file.write_all(&[1; 4096]).is_ok() {}
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Guests that are ending may use it still; lazily it goes when they have.
        for folder in [self.folder(), self.below()] {
            run("umount", &["--lazy", text(&folder)]);
        }
    }
}
