//! Disks and network cards that other processes work on, over vhost-user: QEMU's storage daemon, and ours.

mod own;

use crate::backend::Backend;
use crate::guest::{Finished, Run, wait_until};
use crate::registry::{Case, Need, Suite};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub fn suite() -> Suite {
    let with_qemu = |name, body| {
        let case = Case::each(name, body).needs(Need::Program("qemu-storage-daemon"));
        case.needs(Need::Program("qemu-img"))
    };
    let mut suite = Suite {
        name: "vhost_user",
        cases: vec![
            with_qemu("a_raw_disk_of_qemus_is_written_and_read", raw),
            with_qemu("a_qcow2_disk_of_qemus_is_written_and_read", qcow2),
            with_qemu("a_disk_that_is_exported_read_only", read_only),
            with_qemu("a_guest_writes_on_when_the_daemon_is_killed_and_restarted", restarted),
            with_qemu("a_guest_that_does_not_use_its_disk", unused),
            with_qemu("a_daemon_that_comes_back_is_taken_again", back_again),
            Case::once("nobody_at_the_socket", nobody),
            Case::once("somebody_who_does_not_answer", silent),
            Case::once("somebody_who_answers_nonsense", nonsense),
        ],
    };
    suite.cases.extend(own::cases());
    suite
}

/// A disk in a format of QEMU's, the socket it is exported at, and the folder that both are in.
struct Disk {
    format: &'static str,
    image: PathBuf,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

/// A running back end, killed when dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Disk {
    /// An empty disk of so many MiB.
    fn new(format: &'static str, mib: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (image, socket) = (folder.path().join("disk"), folder.path().join("socket"));
        let disk = Self { format, image, socket, _folder: folder };
        qemu_img(&["create", "-f", format], &[&disk.image], &[&format!("{mib}M")]);
        disk
    }

    /// Exports the disk to be written; connecting waits for it.
    fn export(&self) -> Daemon {
        self.export_writable("on")
    }

    fn export_writable(&self, writable: &str) -> Daemon {
        let _ = std::fs::remove_file(&self.socket);
        let child = Command::new("qemu-storage-daemon")
            .arg("--blockdev")
            .arg(format!("driver=file,node-name=file,filename={}", self.image.display()))
            .arg("--blockdev")
            .arg(format!("driver={},node-name=disk,file=file", self.format))
            .arg("--export")
            .arg(format!(
                "type=vhost-user-blk,id=export,node-name=disk,writable={writable},addr.type=unix,\
                 addr.path={}",
                self.socket.display()
            ))
            .stdin(Stdio::null())
            .spawn();
        Daemon(child.expect("qemu-storage-daemon starts"))
    }

    /// Makes the disk hold these bytes, by QEMU's own hand.
    fn fill(&self, bytes: &[u8]) {
        let raw = self.image.with_extension("raw");
        std::fs::write(&raw, bytes).expect("a file");
        qemu_img(&["convert", "-f", "raw", "-O", self.format], &[&raw, &self.image], &[]);
    }

    /// Bytes of the host that the image takes.
    fn allocated(&self) -> u64 {
        512 * std::fs::metadata(&self.image).expect("the image").blocks()
    }

    /// A guest that does something with the disk.
    fn guest(&self, backend: Backend, command: &str) -> Run {
        self.on(Run::new(backend, denali_images::DISK_PATH).option("--arg").option(command))
    }

    /// Such a guest, which must end well.
    #[track_caller]
    fn does(&self, backend: Backend, command: &str) -> Finished {
        let finished = self.guest(backend, command).finish();
        assert_eq!(finished.status, 0, "{command}: {finished:#?}");
        finished
    }

    /// What the disk holds, as QEMU reads it.
    fn content(&self) -> Vec<u8> {
        let raw = self.image.with_extension("raw");
        qemu_img(&["convert", "-U", "-f", self.format, "-O", "raw"], &[&self.image, &raw], &[]);
        std::fs::read(raw).expect("the converted disk")
    }

    /// The run with this disk as its first.
    fn on(&self, run: Run) -> Run {
        run.set(format!(
            r#"block=[{{"name":"disk","backend":{{"vhost-user":"{}"}}}}]"#,
            self.socket.display()
        ))
    }
}

fn qemu_img(before: &[&str], paths: &[&Path], after: &[&str]) {
    let output = Command::new("qemu-img").args(before).args(paths).args(after).output();
    let output = output.expect("qemu-img starts");
    assert!(output.status.success(), "{output:?}");
}

/// What a device has counted, from the last event.
fn counter(finished: &Finished, device: &str, name: &str) -> u64 {
    let ended = finished.stdout.lines().rev().find_map(|line| {
        let event: Value = serde_json::from_str(line).ok()?;
        (event["event"] == "ended").then_some(event)
    });
    let ended = ended.unwrap_or_else(|| panic!("no last event: {finished:#?}"));
    ended["devices"][device][name].as_u64().unwrap_or_else(|| panic!("no {name}: {ended:#}"))
}

/// The pattern that the guest writes for a seed, on a disk of so many MiB.
fn pattern(seed: u64, mib: u64) -> Vec<u8> {
    let words = 0..mib << 17;
    words.flat_map(|n| (n + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect()
}

fn raw(backend: Backend) {
    written_and_read(backend, "raw");
}

fn qcow2(backend: Backend) {
    written_and_read(backend, "qcow2");
}

fn written_and_read(backend: Backend, format: &'static str) {
    const MIB: u64 = 16;
    let disk = Disk::new(format, MIB);
    let daemon = disk.export();
    disk.does(backend, "write 7");
    // Killed, it has written what it will ever write.
    drop(daemon);
    assert!(disk.content() == pattern(7, MIB), "what was flushed is not on the disk");
    disk.fill(&pattern(9, MIB));
    let _daemon = disk.export();
    disk.does(backend, "verify 9");
    let info = disk.does(backend, "info");
    assert!(info.stdout.contains("sectors=32768"), "{info:#?}");
    disk.does(backend, "zero 64 64");
    disk.does(backend, "zeroed 64 64");
    disk.does(backend, "verify 9 128 1000");
    disk.does(backend, "out-of-range");
    disk.does(backend, "abandon");
    disk.does(backend, "verify 9 128 1000");
}

fn read_only(backend: Backend) {
    let disk = Disk::new("raw", 1);
    disk.fill(&pattern(5, 1));
    let _daemon = disk.export_writable("off");
    disk.does(backend, "verify 5");
    disk.does(backend, "read-only");
    assert!(disk.content() == pattern(5, 1));
}

fn restarted(backend: Backend) {
    const MIB: u64 = 96;
    let disk = Disk::new("raw", MIB);
    let mut daemon = disk.export();
    let guest = disk.guest(backend, "write 3").json().start();
    for part in [4, 12, 20] {
        wait_until("a part of the disk is written", || disk.allocated() > part << 20);
        drop(daemon);
        daemon = disk.export();
    }
    let finished = guest.finish();
    assert_eq!(finished.status, 0, "{finished:#?}");
    let count = |name| counter(&finished, "disk", name);
    assert_eq!((count("reconnects"), count("disconnects") >= 3), (3, true), "{finished:#?}");
    assert_eq!(count("requests"), count("completed"));
    assert!(disk.content() == pattern(3, MIB), "requests were lost");
    drop(daemon);
}

fn unused(backend: Backend) {
    let disk = Disk::new("raw", 1);
    let _daemon = disk.export();
    // Its memory is also the daemon's, the constants of its image included.
    let finished = disk.on(Run::new(backend, "hello")).finish();
    let alone = Run::new(backend, "hello").finish();
    assert_eq!((finished.status, finished.stdout), (0, alone.stdout));
}

fn back_again(backend: Backend) {
    let disk = Disk::new("raw", 1);
    let daemon = disk.export();
    let guest = disk.on(Run::new(backend, "iperf").option("--publish").option("0:5201")).start();
    guest.wait_for("listening");
    drop(daemon);
    guest.wait_for_error("has closed the connection");
    let _daemon = disk.export();
    guest.wait_for_error("the vhost-user back end is back");
    guest.signal(libc::SIGTERM);
    assert_eq!(guest.finish().status, 0);
}

fn hello(socket: &Path) -> Finished {
    let field = format!("block.0.backend.vhost-user={}", socket.display());
    Run::new(Backend::Process, "hello").set(field).finish()
}

/// One line says where in the configuration the trouble is, and what it is.
#[track_caller]
fn assert_refused(finished: &Finished, what: &str) {
    assert_eq!((finished.status, &*finished.stdout), (124, ""), "{finished:#?}");
    let lines: Vec<_> = finished.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{finished:#?}");
    assert!(lines[0].contains("block") && lines[0].contains(what), "{finished:#?}");
}

fn nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let finished = hello(&folder.path().join("socket"));
    assert_refused(&finished, "block[0].backend.vhost-user: ");
    assert_refused(&finished, "no vhost-user back end accepted a connection within 5 s");
}

fn silent() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("socket");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    assert_refused(&hello(&socket), "has not answered GET_FEATURES for 5 s");
}

fn nonsense() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).expect("a socket");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        // The guest's end may be closed at any time.
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    assert_refused(&hello(&socket), "does not keep to the protocol");
}
