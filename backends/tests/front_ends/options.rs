//! The command line: help, capabilities, refusals in one line, inherited descriptors.

use crate::Case;
use crate::daemon::{BLK, Daemon, NET, file};
use crate::driver::{Driver, Listens};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use vhost::VhostBackend;
use vhost::vhost_user::Frontend;

pub fn cases() -> Vec<Case> {
    vec![
        ("help_and_capabilities", None, help),
        ("mistakes_are_one_line", None, mistakes),
        ("a_connected_descriptor", None, connected),
        ("a_listening_descriptor", None, listening),
        ("once_ends_with_its_front_end", None, once),
    ]
}

fn run(program: &str, options: &[&str]) -> Output {
    Command::new(program).args(options).stdin(Stdio::null()).output().unwrap()
}

fn help() {
    for (program, kind) in [(BLK, "block"), (NET, "net")] {
        let help = run(program, &["--help"]);
        assert_eq!(help.status.code(), Some(0));
        let text = String::from_utf8(help.stdout).unwrap();
        for word in ["--socket-path", "--fd", "--once", "Examples:", "Exit statuses:", "qemu"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        let capabilities = run(program, &["--print-capabilities"]);
        assert_eq!(capabilities.status.code(), Some(0));
        let text = String::from_utf8(capabilities.stdout).unwrap();
        assert!(text.contains(&format!("\"type\": \"{kind}\"")), "{text}");
    }
}

fn mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let disk = file(&folder, "disk", 1 << 20);
    let odd = file(&folder, "odd", 1000);
    let disk = format!("--blk-file={}", disk.display());
    let odd = format!("--blk-file={}", odd.display());
    let socket = format!("--socket-path={}", folder.path().join("socket").display());
    let taken = format!("--socket-path={}", folder.path().join("odd").display());
    let cases: [(&str, &[&str], i32, &str); 11] = [
        (BLK, &[], 126, "--blk-file"),
        (BLK, &[&socket], 126, "--blk-file"),
        (BLK, &[&disk], 126, "--socket-path"),
        (BLK, &[&socket, "--fd=3", &disk], 126, "--fd"),
        (BLK, &[&socket, &disk, "--no-such-option"], 126, "--no-such-option"),
        (BLK, &[&socket, "--blk-file=/no/such/file"], 124, "/no/such/file"),
        (BLK, &[&socket, &odd], 124, "512"),
        (BLK, &[&socket, &disk, &odd, "--stripe-unit=3"], 124, "512"),
        (BLK, &[&taken, &disk], 124, "is no socket"),
        (BLK, &["--fd=77", &disk], 124, "descriptor 77"),
        (NET, &[&socket, "--tap=a/b"], 124, "--tap"),
    ];
    for (program, options, status, says) in cases {
        let output = run(program, options);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{options:?}: {said}");
        assert!(said.contains(says), "{options:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{options:?}: {said}");
    }
}

/// Runs a disk on a descriptor that is number 3 there.
fn with_descriptor(descriptor: &OwnedFd, options: &[&str]) -> std::process::Child {
    let mut command = Command::new(BLK);
    command.arg("--fd=3").args(options).stdin(Stdio::null()).stderr(Stdio::null());
    let number = descriptor.as_raw_fd();
    // SAFETY: between fork and exec only this call is made, with plain numbers.
    unsafe {
        command.pre_exec(move || {
            if number == 3 {
                libc::fcntl(3, libc::F_SETFD, 0);
            } else {
                libc::dup2(number, 3);
            }
            Ok(())
        });
    }
    command.spawn().unwrap()
}

fn connected() {
    let folder = tempfile::tempdir().unwrap();
    let disk = format!("--blk-file={}", file(&folder, "disk", 1 << 20).display());
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut child = with_descriptor(&theirs.into(), &[&disk]);
    let frontend = Frontend::from_stream(ours, 1);
    assert_ne!(frontend.get_features().unwrap(), 0);
    drop(frontend);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

fn listening() {
    let folder = tempfile::tempdir().unwrap();
    let disk = format!("--blk-file={}", file(&folder, "disk", 1 << 20).display());
    let path = folder.path().join("listener");
    let listener = UnixListener::bind(&path).unwrap();
    let mut child = with_descriptor(&listener.into(), &[&disk, "--once"]);
    let frontend = Frontend::from_stream(UnixStream::connect(&path).unwrap(), 1);
    assert_ne!(frontend.get_features().unwrap(), 0);
    drop(frontend);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(path.exists(), "it is not this program's to remove");
}

fn once() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "disk", 1 << 20);
    let daemon = Daemon::disk(&path, &["--once"]);
    drop(Driver::new().attach(&daemon));
    assert_eq!(daemon.finish().code(), Some(0));
    let daemon = Daemon::disk(&path, &["--once"]);
    let frontend = Frontend::from_stream(daemon.connect(), 1);
    // A feature that nobody offers.
    let _ = frontend.set_features(1 << 63);
    assert_eq!(daemon.finish().code(), Some(1));
}
