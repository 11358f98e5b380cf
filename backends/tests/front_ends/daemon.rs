//! A back end's program, started for a test and ended with it.

use crate::driver::Listens;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The program for disks.
pub const BLK: &str = env!("CARGO_BIN_EXE_denali-vhost-user-blk");
/// The program for network cards.
pub const NET: &str = env!("CARGO_BIN_EXE_denali-vhost-user-net");

/// After this long a test has failed, whatever it waits for.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Waits until something is so, looking again and again.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "not in {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running back end; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    folder: TempDir,
}

impl Daemon {
    /// Starts a program with these options, on a socket in a folder of its own.
    pub fn start<S: AsRef<OsStr>>(program: &str, options: impl IntoIterator<Item = S>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = File::create(folder.path().join("log")).expect("a file for messages");
        let mut command = Command::new(program);
        command.arg("--socket-path").arg(folder.path().join("socket")).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("the program starts");
        let mut daemon = Self { child, folder };
        wait_until("the socket", || {
            let ended = daemon.child.try_wait().expect("it can be waited for");
            assert!(ended.is_none(), "it ended: {}", daemon.messages());
            daemon.socket().exists()
        });
        daemon
    }

    /// A disk in this file.
    pub fn disk(file: &Path, options: &[&str]) -> Self {
        let file = format!("--blk-file={}", file.display());
        Self::start(BLK, options.iter().copied().chain([file.as_str()]))
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// What it has said.
    pub fn messages(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The process that listens.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process that serves the front end, once there is one.
    #[track_caller]
    pub fn server(&self) -> u32 {
        let mut server = None;
        wait_until("a process for the front end", || {
            server = self.servers().first().copied();
            server.is_some()
        });
        server.unwrap_or_default()
    }

    /// The processes that serve front ends.
    pub fn servers(&self) -> Vec<u32> {
        let pid = self.pid();
        let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let list = list.unwrap_or_default();
        list.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    }

    /// Sends a signal to the process that listens.
    pub fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn finish(mut self) -> ExitStatus {
        let mut status = None;
        wait_until("it ends", || {
            status = self.child.try_wait().expect("it can be waited for");
            status.is_some()
        });
        assert!(!self.socket().exists(), "the socket is left behind");
        status.unwrap_or_default()
    }
}

impl Listens for Daemon {
    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).expect("it listens")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process of the test.
pub fn kill(pid: u32, signal: i32) {
    // SAFETY: a plain call; the process is one that the test has started.
    let sent = unsafe { libc::kill(pid as libc::pid_t, signal) };
    assert_eq!(sent, 0, "process {pid} can be signalled");
}

/// A file of so many bytes.
pub fn file(folder: &TempDir, name: &str, bytes: u64) -> PathBuf {
    let path = folder.path().join(name);
    File::create(&path).and_then(|file| file.set_len(bytes)).expect("a file");
    path
}
