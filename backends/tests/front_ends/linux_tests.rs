//! Linux writes to disks and talks through network cards of these back ends.

use crate::Case;
use crate::daemon::{BLK, Daemon, NET, file, kill};
use crate::linux::{Linux, missing, no_network, told};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

pub fn cases() -> Vec<Case> {
    let network = missing().or_else(no_network);
    vec![
        ("writes_to_a_raw_disk", missing(), raw),
        ("writes_to_a_raw_disk_without_io_uring", missing(), plain),
        ("writes_to_a_striped_disk", missing(), striped),
        ("goes_on_when_the_back_end_is_killed", missing(), killed),
        ("talks_through_a_network_card", network, network_card),
    ]
}

const MIB: u64 = 1 << 20;

/// The bytes of a file that the host leaves for the guest.
fn content() -> Vec<u8> {
    (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// A file with a file system that holds what `init.sh` wants to find.
fn file_system(folder: &TempDir, name: &str) -> PathBuf {
    let path = file(folder, name, 48 * MIB);
    let root = folder.path().join("root");
    fs::create_dir_all(&root).unwrap();
    fs::write(root.join("host.bin"), content()).unwrap();
    let sum = run("md5sum", &["host.bin"], &root);
    fs::write(root.join("host.md5"), sum.stdout).unwrap();
    let words = ["-q", "-F", "-t", "ext4", "-d", "root", path.to_str().unwrap()];
    run("mke2fs", &words, folder.path());
    path
}

#[track_caller]
fn run(program: &str, words: &[&str], folder: &Path) -> Output {
    let output = Command::new(program).args(words).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
    output
}

/// What the guest has left on the disk is a sound file system, with the file that it told the sum of.
#[track_caller]
fn compare(image: &Path, said: &str) {
    let folder = tempfile::tempdir().unwrap();
    let image = image.to_str().unwrap();
    run("e2fsck", &["-f", "-n", image], folder.path());
    for name in ["guest.bin", "host.bin"] {
        run("debugfs", &["-R", &format!("dump {name} {name}"), image], folder.path());
    }
    let sum = run("md5sum", &["guest.bin"], folder.path());
    let sum = String::from_utf8(sum.stdout).unwrap();
    assert_eq!(sum.split(' ').next(), Some(told(said, "vda guest.bin")), "{said}");
    assert_eq!(fs::read(folder.path().join("guest.bin")).unwrap().len(), 96 << 16);
    assert_eq!(fs::read(folder.path().join("host.bin")).unwrap(), content());
}

/// QEMU's options for a disk of this back end; it connects again when the connection ends.
fn disk_of(daemon: &Daemon) -> Vec<String> {
    let socket = daemon.socket();
    vec![
        format!("-chardev socket,id=blk,path={},reconnect=1", socket.display()),
        "-device vhost-user-blk,chardev=blk".into(),
    ]
}

fn raw() {
    on_one_file(&[]);
}

fn plain() {
    on_one_file(&["--io=sync"]);
}

fn on_one_file(options: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let image = file_system(&folder, "disk");
    let daemon = Daemon::disk(&image, options);
    let said = Linux::start("denali.disks=vda denali.rounds=2", &disk_of(&daemon)).finish();
    assert!(said.contains("guest: vda trimmed"), "{said}");
    daemon.signal(libc::SIGTERM);
    assert_eq!(daemon.finish().code(), Some(0));
    compare(&image, &said);
}

/// The file system is dealt out to three files for the guest, and put together again for the host.
fn striped() {
    const UNIT: usize = 16 << 10;
    const FILES: usize = 3;
    let folder = tempfile::tempdir().unwrap();
    let image = file_system(&folder, "whole");
    let bytes = fs::read(&image).unwrap();
    let parts: Vec<_> = (0..FILES).map(|n| folder.path().join(format!("part{n}"))).collect();
    for (n, path) in parts.iter().enumerate() {
        let mine = bytes.chunks(UNIT).skip(n).step_by(FILES);
        fs::write(path, mine.collect::<Vec<_>>().concat()).unwrap();
    }
    let options = parts.iter().map(|path| format!("--blk-file={}", path.display()));
    let daemon = Daemon::start(BLK, options.chain(["--stripe-unit=16".to_owned()]));
    let said = Linux::start("denali.disks=vda", &disk_of(&daemon)).finish();
    daemon.signal(libc::SIGTERM);
    assert_eq!(daemon.finish().code(), Some(0));
    let parts: Vec<_> = parts.iter().map(|path| fs::read(path).unwrap()).collect();
    let units = bytes.len() / UNIT;
    let unit = |n: usize| &parts[n % FILES][n / FILES * UNIT..][..UNIT];
    fs::write(&image, (0..units).map(unit).collect::<Vec<_>>().concat()).unwrap();
    compare(&image, &said);
}

/// The process that serves is killed in the middle of writes, again and again: QEMU connects again, and
/// Linux notices nothing.
fn killed() {
    const ROUNDS: u32 = 4;
    let folder = tempfile::tempdir().unwrap();
    let image = file_system(&folder, "disk");
    let daemon = Daemon::disk(&image, &[]);
    let words = format!("denali.disks=vda denali.rounds={ROUNDS}");
    let mut linux = Linux::start(&words, &disk_of(&daemon));
    linux.wait_for("guest: vda 98304 sectors");
    for round in 1..ROUNDS {
        linux.wait_for(&format!("guest: vda round {round}"));
        // The next round reads, then writes.
        std::thread::sleep(std::time::Duration::from_millis(150 * u64::from(round)));
        kill(daemon.server(), libc::SIGKILL);
    }
    let said = linux.finish();
    let deaths = daemon.messages().matches("ended by SIGKILL").count();
    assert_eq!(deaths, ROUNDS as usize - 1, "{}", daemon.messages());
    daemon.signal(libc::SIGTERM);
    assert_eq!(daemon.finish().code(), Some(0));
    compare(&image, &said);
}

/// In a network namespace of its own: a ping, and a transfer of several MiB in each direction.
fn network_card() {
    let thread = std::thread::spawn(|| {
        // SAFETY: moves this thread, which ends with the test, into a new namespace.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "a network namespace");
        let ip = |words: &str| run("ip", &words.split(' ').collect::<Vec<_>>(), Path::new("/"));
        ip("link set lo up");
        ip("tuntap add tap0 mode tap");
        ip("address add 10.77.0.1/24 dev tap0");
        ip("link set tap0 up");
        let daemon = Daemon::start(NET, ["--tap=tap0"]);
        let sender = TcpListener::bind("10.77.0.1:5001").unwrap();
        let receiver = TcpListener::bind("10.77.0.1:5002").unwrap();
        let bytes = content();
        let devices = vec![
            format!("-chardev socket,id=net,path={}", daemon.socket().display()),
            "-netdev vhost-user,id=net0,chardev=net".into(),
            "-device virtio-net-device,netdev=net0,mac=02:00:00:00:00:77".into(),
        ];
        let linux = Linux::start("denali.net=10.77.0.2/24,10.77.0.1", &devices);
        let sending = bytes.clone();
        let sent = std::thread::spawn(move || {
            let (mut stream, _) = sender.accept().unwrap();
            stream.write_all(&sending).unwrap();
        });
        let received = std::thread::spawn(move || {
            let (mut stream, _) = receiver.accept().unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            received
        });
        let said = linux.finish();
        assert_eq!(told(&said, "eth0"), "02:00:00:00:00:77 mtu 1500");
        assert!(told(&said, "ping").contains("3 packets received"), "{said}");
        sent.join().unwrap();
        assert_eq!(received.join().unwrap(), bytes, "{said}");
        daemon.signal(libc::SIGTERM);
        assert_eq!(daemon.finish().code(), Some(0));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
