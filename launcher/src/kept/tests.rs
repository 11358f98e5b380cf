//! Tests of guests that are given to one monitor after the other.

use super::*;
use crate::handed::{take_over, understand};
use crate::image::tests::elf;
use crate::prepare::{Resume, Settings};
use crate::snapshot::Snapshot;
use crate::snapshot::tests::write;
use denali_control::{Received, receive};
use std::fs::{self, File};
use std::io::Read;
use std::net::TcpStream;
use std::os::fd::FromRawFd;
use std::os::unix::fs::MetadataExt;

/// A guest that swaps over two folders and is reached at a port, and its keeper's share.
struct Fixture {
    root: tempfile::TempDir,
    shared: Shared,
    kept: Kept,
    port: u16,
}

const ID: GuestId = GuestId([7; 16]);
const COMMIT: Commit = Commit { sequence: 3, root: [0x1f; 32] };

fn fixture() -> Fixture {
    let root = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        fs::create_dir(root.path().join(name)).unwrap();
    }
    let text = br#"{"name": "it", "image": "elf", "hypervisor": "process", "memory": "4MiB",
        "net": [{"backend": {"user": {"publish": ["0:80"]}}}],
        "console": [{"backend": {"file": {"output": "log"}}}], "control": "control",
        "swap": {"stripes": ["a", "b"], "limit": "64KiB"}}"#;
    let document = Document::parse(text, "vm.json", root.path().into()).unwrap();
    let guest = document.guest().unwrap();
    let image = Rc::new(SealedImage::of_bytes(&elf(), "elf").unwrap());
    let mut shared = Shared::new().unwrap();
    let space = SwapSpace::create(&document, &guest, &image, ID, None).unwrap();
    let broker = Path::new("broker");
    let settings =
        Settings { image: Some(&image), space: Some(&space), ..Settings::new(&[], broker) };
    let launch = Launch::prepare(&document, &settings).unwrap();
    let port = launch.published()[0].host.port();
    let kept = Kept::new(launch, (&document, &guest), (image, Some(space)), &mut shared).unwrap();
    Fixture { root, shared, kept, port }
}

/// Two clones of one snapshot, and its file.
fn clones(shared: &mut Shared) -> (tempfile::TempDir, File, [Kept; 2]) {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("a")).unwrap();
    let text = r#"{"image": "elf", "hypervisor": "process", "memory": "4MiB",
        "swap": {"stripes": ["a"]}}"#;
    let path = write(root.path(), text);
    let snapshot = Snapshot::open(&path).unwrap();
    let image = Rc::new(snapshot.image(None).unwrap());
    let document = Document::parse(text.as_bytes(), "vm.json", root.path().into()).unwrap();
    let document = snapshot.with_memory(&document).unwrap();
    let guest = document.guest().unwrap();
    let clones = [1, 2].map(|number| {
        let id = GuestId([number; 16]);
        let space = SwapSpace::create(&document, &guest, &image, id, None).unwrap();
        let settings = Settings {
            image: Some(&image),
            space: Some(&space),
            resume: Some(Resume::Snapshot(&snapshot)),
            ..Settings::new(&[], Path::new("broker"))
        };
        let launch = Launch::prepare(&document, &settings).unwrap();
        Kept::new(launch, (&document, &guest), (image.clone(), Some(space)), shared).unwrap()
    });
    (root, File::open(path).unwrap(), clones)
}

/// Descriptors of the same file as this one that this process has open.
fn count(file: &File) -> usize {
    let place = |there: fs::Metadata| (there.dev(), there.ino());
    let wanted = place(file.metadata().unwrap());
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.filter(|entry| fs::metadata(entry.path()).is_ok_and(|it| place(it) == wanted)).count()
}

#[test]
fn clones_share_their_snapshot_until_they_were_parked() {
    let mut shared = Shared::new().unwrap();
    let (_root, snapshot, mut clones) = clones(&mut shared);
    assert_eq!(count(&snapshot), 2, "this test's, and one for all of them");
    let null = File::open("/dev/null").unwrap();
    for clone in &mut clones {
        assert!(
            clone.configuration().contains("8388608") || clone.configuration().contains("8MiB")
        );
        let (spec, _) = hand(&clone.open(&shared, None).unwrap(), null.as_fd());
        assert_eq!(spec.memory_size, 8 << 20);
        let Some(ResumeSpec::Snapshot { file: template, .. }) = spec.resume else {
            panic!("{:?}", spec.resume)
        };
        let there = file(template).metadata().unwrap().ino();
        assert_eq!(there, snapshot.metadata().unwrap().ino());
        let swap = spec.swap.unwrap();
        assert!(swap.lasting);
        swap.files.into_iter().map(file).for_each(drop);
        // The snapshot is none of its business from here on.
        for forgotten in [false, true] {
            if forgotten {
                clone.forget_template();
            }
            let (spec, _) = hand(&clone.open(&shared, Some(COMMIT)).unwrap(), null.as_fd());
            assert!(matches!(spec.resume, Some(ResumeSpec::Parked { commit: Some(_) })));
            spec.swap.unwrap().files.into_iter().map(file).for_each(drop);
        }
        let error = clone.open(&shared, None).err().unwrap();
        assert!(error.to_string().contains("was closed") && !error.passes, "{error}");
    }
    assert_eq!(count(&snapshot), 1, "nobody needs it any more");
}

/// Hands a guest over, as it is received.
fn hand(ready: &Ready<'_>, output: BorrowedFd<'_>) -> (MachineSpec, Vec<OwnedFd>) {
    hand_with(ready, output, None)
}

fn hand_with(
    ready: &Ready<'_>,
    output: BorrowedFd<'_>,
    listener: Option<BorrowedFd<'_>>,
) -> (MachineSpec, Vec<OwnedFd>) {
    assert!(ready.is_handy());
    let null = File::open("/dev/null").unwrap();
    let (socket, theirs) = pair().unwrap();
    let waiting = Waiting::new(7, socket, ready.likeness());
    let monitor = ready.hand_to(waiting, [null.as_fd(), output, null.as_fd()], listener).unwrap();
    assert_eq!(monitor.process, 7);
    let mut message = Vec::new();
    let Received::Message(descriptors) = receive(theirs.as_fd(), &mut message).unwrap() else {
        panic!("nothing came")
    };
    let mut spec = understand(&message).unwrap();
    let streams = take_over(&mut spec, descriptors).unwrap();
    (spec, streams)
}

fn file(number: RawFd) -> File {
    // SAFETY: the machine that was handed over owns it, and is used for this only.
    unsafe { File::from_raw_fd(number) }
}

fn read(number: RawFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    file(number).read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn each_monitor_gets_all_that_the_guest_needs() {
    let Fixture { root, shared, kept, .. } = fixture();
    assert_eq!((kept.name(), kept.id()), ("it", Some(ID)));
    assert!(kept.configuration().contains(&format!("{:?}", root.path().join("a"))));
    let log = File::create(root.path().join("output")).unwrap();
    let mut keys = Vec::new();
    for resume in [None, Some(COMMIT), Some(COMMIT)] {
        let ready = kept.open(&shared, resume).unwrap();
        let (spec, streams) = hand(&ready, log.as_fd());
        drop(ready);
        let output = File::from(streams.into_iter().nth(1).unwrap());
        assert_eq!(output.metadata().unwrap().ino(), log.metadata().unwrap().ino());
        assert_eq!(spec.image.hash, kept.image_hash());
        assert_eq!(spec.control.configuration.as_deref(), Some(kept.configuration()));
        match (resume, &spec.resume) {
            (None, None) => {}
            (Some(_), Some(ResumeSpec::Parked { commit: Some(commit) })) => {
                assert_eq!((commit.sequence, commit.root.as_str()), (3, &*"1f".repeat(32)));
            }
            other => panic!("{other:?}"),
        }
        let swap = spec.swap.unwrap();
        assert!(swap.lasting && swap.files.len() == 2);
        for (file, name) in swap.files.iter().map(|&number| file(number)).zip(["a", "b"]) {
            let name = format!("{name}/denali-{ID}.{}of2.swap", if name == "a" { 1 } else { 2 });
            let there = fs::metadata(root.path().join(name)).unwrap();
            assert_eq!(file.metadata().unwrap().ino(), there.ino());
        }
        keys.push(read(swap.key));
        let length = file(spec.image.file).metadata().unwrap().len();
        assert_eq!(length, elf().len() as u64);
    }
    assert_eq!(keys[0].len(), 32);
    assert!(keys.iter().all(|key| *key == keys[0]), "a guest has one key");
}

#[test]
fn a_guest_without_a_control_socket_listens_where_its_keeper_says() {
    let Fixture { root, shared, mut kept, .. } = fixture();
    let listener = crate::control_listener(&root.path().join("keepers")).unwrap();
    let inode = |descriptor: BorrowedFd<'_>| fstat(descriptor).unwrap().st_ino;
    let null = File::open("/dev/null").unwrap();
    let heard = |kept: &Kept| {
        let ready = kept.open(&shared, None).unwrap();
        let (spec, _) = hand_with(&ready, null.as_fd(), Some(listener.as_fd()));
        // The region is the next monitor's.
        spec.swap.unwrap().files.into_iter().map(file).for_each(drop);
        inode(file(spec.control.listener.unwrap()).as_fd())
    };
    assert_ne!(heard(&kept), inode(listener.as_fd()), "it has its own");
    // The last descriptor is no longer named then, and closed.
    kept.spec.control.listener = None;
    assert_eq!(heard(&kept), inode(listener.as_fd()));
}

#[test]
fn a_region_is_its_monitors_alone() {
    let Fixture { shared, kept, root, .. } = fixture();
    let ready = kept.open(&shared, None).unwrap();
    let error = kept.open(&shared, None).err().unwrap();
    assert!(error.passes && error.to_string().contains("cannot open"), "{error}");
    assert!(kept.successor_of(None).unwrap_err().message.contains("is in use"));
    drop(ready);
    kept.open(&shared, Some(COMMIT)).unwrap();
    kept.remove_region().unwrap();
    kept.remove_region().unwrap();
    assert_eq!(fs::read_dir(root.path().join("a")).unwrap().count(), 0);
    let error = kept.open(&shared, None).err().unwrap();
    assert!(!error.passes, "{error}");
}

#[test]
fn what_comes_for_a_guest_shows_at_its_sources() {
    let Fixture { kept, port, .. } = fixture();
    let sources = kept.sources();
    assert_eq!(sources.iter().map(|source| source.commands).collect::<Vec<_>>(), [false, true]);
    let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let socket = sources[0].descriptor.try_clone_to_owned().unwrap();
    std::net::TcpListener::from(socket).accept().unwrap();
}

#[test]
fn input_is_awaited_from_pipes_and_terminals_alone() {
    let (reader, _writer) = std::io::pipe().unwrap();
    assert!(is_awaited(reader.as_fd()));
    for path in ["/dev/null", "/dev/zero", "/proc/self/status", "/"] {
        assert!(!is_awaited(File::open(path).unwrap().as_fd()), "{path}");
    }
    match File::open("/dev/ptmx") {
        Ok(terminal) => assert!(is_awaited(terminal.as_fd())),
        Err(error) => println!("skipped: there is no terminal: {error}"),
    }
}

#[test]
fn a_guest_that_is_too_much_for_a_message_is_started_with_it() {
    let Fixture { root, shared, mut kept, .. } = fixture();
    kept.spec.control.configuration = Some("x".repeat(100_000));
    let ready = kept.open(&shared, Some(COMMIT)).unwrap();
    assert!(!ready.is_handy());
    drop(ready);
    let program = root.path().join("monitor");
    fs::write(&program, "#!/bin/sh\nexec cat /proc/self/fd/$1\n").unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let null = File::open("/dev/null").unwrap();
    let output = File::create(root.path().join("output")).unwrap();
    let streams = [null.as_fd(), output.as_fd(), null.as_fd()];
    let monitor = loop {
        // Another test may be starting a program and have this one open for writing.
        match kept.open(&shared, Some(COMMIT)).unwrap().start(&program, streams, None) {
            Err(error) if error.to_string().contains("Text file busy") => {}
            started => break started.unwrap(),
        }
    };
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(monitor.process as i32), None).unwrap();
    let written = fs::read(root.path().join("output")).unwrap();
    let spec: MachineSpec = serde_json::from_slice(&written).unwrap();
    let mut numbers = Vec::new();
    MachineSpec::clone(&spec).descriptors_mut(&mut |number| numbers.push(*number));
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(3..3 + numbers.len() as RawFd), "{numbers:?}");
    assert_eq!(spec.control.channel, Some(3 + numbers.len() as RawFd - 1));
}
