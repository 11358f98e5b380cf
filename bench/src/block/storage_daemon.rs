//! qemu-storage-daemon as the back end of the same guest's disk.

use super::file::TestFile;
use crate::programs::Programs;
use crate::running::Running;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A daemon that serves the file, by io_uring, past the page cache.
#[derive(Debug)]
pub(super) struct StorageDaemon {
    _running: Running,
    folder: TempDir,
}

impl StorageDaemon {
    /// Starts it and waits until it listens.
    pub(super) fn start(file: &TestFile, programs: &Programs) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for a socket")?;
        let mut command = Command::new("qemu-storage-daemon");
        let node = "driver=file,node-name=disk,read-only=on,cache.direct=on,aio=io_uring";
        command.arg("--blockdev").arg(format!("{node},filename={}", file.path().display()));
        let socket = folder.path().join("socket");
        let export = "type=vhost-user-blk,id=export,node-name=disk,writable=off,addr.type=unix";
        command.arg("--export").arg(format!("{export},addr.path={}", socket.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(programs.error_stream()?);
        let running = Running::start(|| command.spawn().context("cannot start it"))?;
        let daemon = Self { _running: running, folder };
        let begun = Instant::now();
        while !socket.exists() {
            if begun.elapsed() > PATIENCE {
                bail!("it does not listen: {}", programs.last_message());
            }
            sleep(Duration::from_millis(10));
        }
        Ok(daemon)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}
