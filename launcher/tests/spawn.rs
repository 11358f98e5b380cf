//! What a monitor inherits: its descriptors, its standard streams, and nothing else.

use denali_config::Document;
use denali_launcher::spec::{HypervisorSpec, MachineSpec, NetBackendSpec, OutputSpec};
use denali_launcher::{ImageHash, Launch, SealedImage, Settings, Streams};
use nix::fcntl::{FcntlArg, fcntl};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held by each test: while one writes a stand-in for the monitor, a child that another starts at that
/// moment would inherit the open file, and Linux runs no program that is open for writing.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where to find a program that stands in for the monitor: a shell script.
fn monitor(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("denali-vmm");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn prepare(report: &Path) -> Launch {
    let text = br#"{"image": "tiny", "hypervisor": "process", "args": "a b",
        "net": [{"backend": {"user": {"publish": ["0:80", "[::1]:0:81"]}}}]}"#;
    let document = Document::parse(text, "vm.json", PathBuf::new()).unwrap();
    let built_in: &[(&str, &[u8])] = &[("tiny", b"the image")];
    let settings = Settings {
        output: OutputSpec::Json,
        report: Some(report),
        ..Settings::new(built_in, Path::new("broker"))
    };
    Launch::prepare(&document, &settings).unwrap()
}

/// The machine as a monitor that is started as a child reads it: its descriptors follow the standard streams'.
fn expected(launch: &Launch) -> MachineSpec {
    let mut spec = launch.spec().clone();
    let mut numbers = 3..;
    spec.descriptors_mut(&mut |number: &mut RawFd| *number = numbers.next().unwrap());
    spec
}

fn run(launch: Launch, monitor: &Path) -> Output {
    let streams = Streams { input: Stdio::null(), output: Stdio::piped(), error: Stdio::piped() };
    launch.spawn(monitor, streams).unwrap().wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_monitor_reads_its_machine_from_the_descriptor_it_is_given() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let program = monitor(folder.path(), "cat /proc/self/fd/$1; exit 7");
    let launch = prepare(&folder.path().join("report.json"));
    let expected = expected(&launch);
    let output = run(launch, &program);
    assert_eq!(output.status.code(), Some(7));
    let spec: MachineSpec = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(spec, expected);
    assert_eq!(spec.hypervisor, HypervisorSpec::Process);
    assert_eq!((spec.name.as_str(), spec.arguments.as_str()), ("tiny", "a b"));
    let NetBackendSpec::User(user) = &spec.net[0].backend else { panic!("{:?}", spec.net) };
    assert_eq!(user.publish.len(), 2);
}

#[test]
fn the_monitor_inherits_its_descriptors_and_no_others() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    // A descriptor that, unlike Rust's own, stays open across exec.
    let secret = fs::File::create(folder.path().join("secret")).unwrap();
    fcntl(&secret, FcntlArg::F_DUPFD(200)).unwrap();
    let program = monitor(folder.path(), "for f in /proc/self/fd/*; do readlink $f; done; env");
    let output = run(prepare(&folder.path().join("report.json")), &program);
    let listing = text(&output.stdout);
    for expected in ["/memfd:denali-image", "/memfd:denali-machine", "socket:[", "/report.json"] {
        assert!(listing.contains(expected), "{listing}");
    }
    assert_eq!(listing.matches("socket:[").count(), 2, "{listing}");
    assert!(!listing.contains("secret"), "{listing}");
    // The shell itself sets PWD and the like; nothing of this process's environment is there.
    assert!(!listing.contains("CARGO"), "{listing}");
}

#[test]
fn descriptors_have_small_numbers_however_many_there_are_here() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let program = monitor(folder.path(), "ls /proc/self/fd; cat <&3; cat <&7");
    // What is at these numbers here is in the way, some of it the machine's own.
    let launches: Vec<Launch> =
        (0..5).map(|n| prepare(&folder.path().join(format!("{n}.json")))).collect();
    let many: Vec<fs::File> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
    for launch in launches.into_iter().rev() {
        let expected = serde_json::to_string(&expected(&launch)).unwrap();
        let output = run(launch, &program);
        let listing = text(&output.stdout);
        // Standard streams, image, two ports, report, machine, and what ls itself opens.
        assert!(listing.starts_with("0\n1\n2\n3\n4\n5\n6\n7\n8\n"), "{listing}");
        assert!(listing.contains(&format!("8\nthe image{expected}")), "{listing}");
    }
    drop(many);
}

#[test]
fn the_monitor_has_the_image_and_can_write_the_report() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    fs::write(&report, "what an earlier guest left").unwrap();
    let launch = prepare(&report);
    let spec = expected(&launch);
    let (image, to_report) = (spec.image.file, spec.report.unwrap());
    let program = monitor(folder.path(), &format!("cat <&{image}; echo crashed >&{to_report}"));
    let output = run(launch, &program);
    assert_eq!(text(&output.stdout), "the image", "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(&report).unwrap(), "crashed\n");
}

#[test]
fn published_ports_lead_to_the_listeners_that_are_passed_on() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let launch = prepare(&folder.path().join("report.json"));
    let [first, second] = launch.published() else { panic!("{:?}", launch.published()) };
    assert_eq!((first.guest_port, second.guest_port), (80, 81));
    assert!(second.host.is_ipv6());
    // The connection waits in the listener's queue until a monitor accepts it.
    let mut waiting = TcpStream::connect(first.host).unwrap();
    waiting.write_all(b"hello").unwrap();
    drop(launch);
    assert!(!matches!(waiting.read(&mut [0]), Ok(1..)), "nobody is left to answer");
}

#[test]
fn a_monitor_that_cannot_be_started_is_named() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    // The lowest numbers are free again when the child is made: what reports its failure gets them.
    let low: Vec<fs::File> = (0..20).map(|_| fs::File::open("/dev/null").unwrap()).collect();
    let launch = prepare(&folder.path().join("report"));
    drop(low);
    let streams = Streams { input: Stdio::null(), output: Stdio::null(), error: Stdio::null() };
    let error = launch.spawn(&folder.path().join("no-such-monitor"), streams).unwrap_err();
    assert_eq!(error.status(), denali_abi::status::HOST_LACKS);
    assert!(error.to_string().contains("no-such-monitor"), "{error}");
}

#[test]
fn guests_of_one_sealed_image_share_its_file() {
    let text = br#"{"image": "tiny", "hypervisor": "process"}"#;
    let document = Document::parse(text, "vm.json", PathBuf::new()).unwrap();
    let guest = document.guest().unwrap();
    let built_in: &[(&str, &[u8])] = &[("tiny", b"the image")];
    let sealed = SealedImage::new(&guest.image, document.origin("image"), built_in).unwrap();
    let launch = || {
        let image = Some(&sealed);
        let settings = Settings { image, ..Settings::new(&[], Path::new("broker")) };
        Launch::prepare(&document, &settings).unwrap()
    };
    let (one, other) = (launch(), launch());
    let inode = |launch: &Launch| {
        let path = format!("/proc/self/fd/{}", launch.spec().image.file);
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap())
    };
    assert_eq!(inode(&one), inode(&other));
    assert_ne!(one.spec().image.file, other.spec().image.file);
    assert_eq!(one.spec().image.name, "tiny");
}

#[test]
fn a_guest_with_a_control_socket_can_be_saved() {
    let folder = tempfile::tempdir().unwrap();
    let text = br#"{"image": "tiny", "hypervisor": "process", "control": "tiny.sock"}"#;
    let document = Document::parse(text, "vm.json", folder.path().into()).unwrap();
    let built_in: &[(&str, &[u8])] = &[("tiny", b"the image")];
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let settings =
        Settings { channel: Some(theirs.as_fd()), ..Settings::new(built_in, Path::new("broker")) };
    let launch = Launch::prepare(&document, &settings).unwrap();
    drop(theirs);
    let control = &launch.spec().control;
    assert!(control.listener.is_some() && control.channel.is_some(), "{control:?}");
    let path = folder.path().join("tiny.sock");
    let configuration = control.configuration.as_ref().unwrap();
    assert!(
        configuration.contains(&format!("{:?}", path.display().to_string())),
        "{configuration}"
    );
    assert_eq!(launch.spec().image.hash, ImageHash::of(b"the image").to_string());
    let inode = fs::metadata(&path).unwrap();
    assert_eq!(inode.permissions().mode() & 0o777, 0o600);
    drop((launch, ours));

    let plain = prepare(&folder.path().join("report.json"));
    assert_eq!(
        (plain.spec().image.hash.as_str(), &plain.spec().control.configuration),
        ("", &None)
    );
}
