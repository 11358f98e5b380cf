//! `denali park` and `denali resume`: a guest goes on from its last state, and from no other.

use crate::backend::Backend;
use crate::guest::{Finished, Guest, Run, denali, wait_until};
use crate::home::{Home, write_key};
use crate::lines::{Checked, Lines};
use crate::registry::Case;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub fn cases() -> Vec<Case> {
    vec![
        Case::each("a_guest_goes_on_from_its_record", goes_on),
        Case::each("a_guest_that_was_out_is_parked", was_out),
        Case::each("a_guest_that_computes_is_parked", computes),
        Case::each("a_guest_with_a_connection_is_not_parked", connected),
        Case::each("a_guest_that_cannot_be_parked_says_so", cannot),
        Case::each("only_the_last_state_goes_on", only_the_last),
        Case::each("only_the_right_key_and_record_open_a_region", only_the_right),
        Case::each("nothing_is_left_of_a_guest_that_ends", nothing_left),
    ]
}

/// Status of a monitor whose guest was parked.
const PARKED: i32 = 120;
const BAD_CONFIG: i32 = 122;
const HOST_LACKS: i32 = 124;

/// Parks a guest through its control socket once nothing stands against it, and sees its monitor's end.
#[track_caller]
pub fn park(home: &Home, guest: Guest, record: &str) -> PathBuf {
    park_through(&home.path("control"), guest, home.path(record))
}

/// The same through the socket at this path; where the record is.
#[track_caller]
pub fn park_through(socket: &Path, guest: Guest, record: PathBuf) -> PathBuf {
    wait_until("nothing stands against parking", || {
        let words = ["park".as_ref(), socket.as_os_str(), "--record".as_ref(), record.as_os_str()];
        let finished = denali(words);
        assert!(finished.status == 0 || finished.stderr.contains("connection"), "{finished:#?}");
        finished.status == 0
    });
    let finished = guest.finish();
    assert_eq!(finished.status, PARKED, "{finished:#?}");
    record
}

/// Continues a guest; it prints nothing that says so.
pub fn resume(home: &Home, backend: Backend, record: &Path) -> Guest {
    Run::resume(backend, &home.path("vm.json"), record).json().start()
}

/// Asks a guest on a connection of its own.
#[track_caller]
pub fn check(guest: &Guest) -> Checked {
    Lines::connect(guest.address()).check()
}

/// The guest does not go on: one line says why, besides those about its ports.
#[track_caller]
pub fn assert_refused(run: Run, status: i32, message: &str) {
    let finished = run.finish();
    assert_eq!(finished.status, status, "{finished:#?}");
    assert_one_line(&finished, message);
}

#[track_caller]
fn assert_one_line(finished: &Finished, message: &str) {
    let said = finished.stderr.lines().filter(|line| !line.contains(" leads to port "));
    let said: Vec<&str> = said.collect();
    assert!(matches!(said[..], [line] if line.contains(message)), "{message}: {finished:#?}");
}

fn goes_on(backend: Backend) {
    let home = Home::new(2);
    let (mut guest, _) = home.start_as(backend, &home.parkable("memory-hash 4"));
    let mut last = check(&guest);
    for round in 1..=3 {
        Lines::connect(guest.address()).order("dirty", 50);
        let before = check(&guest);
        assert_ne!(before.sum, last.sum);
        let record = park(&home, guest, &format!("record{round}"));
        let mode = fs::metadata(&record).expect("the record").mode();
        assert_eq!(mode & 0o777, 0o600, "the record is this user's alone");
        assert_eq!(home.regions().len(), 2, "{:?}", home.regions());
        guest = resume(&home, backend, &record);
        last = check(&guest);
        assert_eq!((last.count, &last.sum), (before.count + 1, &before.sum));
        assert_eq!(last.generation, before.generation + 1);
        if round == 2 {
            home.control().out();
            assert_eq!(check(&guest).sum, before.sum, "it leaves memory as ever");
        }
    }
    guest.signal(libc::SIGTERM);
    assert_eq!(guest.finish().status, 0);
    wait_until("its region is removed", || home.regions().is_empty());
}

fn was_out(backend: Backend) {
    let home = Home::new(1);
    let (guest, _) = home.start_as(backend, &home.parkable("memory-hash 2"));
    let before = check(&guest);
    let control = home.control();
    let record = loop {
        control.out();
        if let denali_control::Told::Parked(parked) =
            control.ask(&denali_control::Request::Park { cut: false })
        {
            break parked;
        }
    };
    assert_eq!(guest.finish().status, PARKED);
    assert!(record.pages >= 512, "{record:?}");
    let path = home.write("record", &serde_json::to_value(&record).expect("a record is data"));
    let guest = resume(&home, backend, &path);
    assert_eq!(check(&guest).sum, before.sum);
}

/// Between any two instructions, with all registers in use.
fn computes(backend: Backend) {
    let home = Home::new(1);
    let mut configuration = home.parkable("upcall-exact 400");
    configuration["net"] = json!([]);
    let mut guest = home.run(backend, &configuration).start();
    for round in 0..5 {
        // However long its monitor takes to be there.
        home.control().status();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let record = park(&home, guest, &format!("record{round}"));
        guest = Run::resume(backend, &home.path("vm.json"), &record).start();
    }
    let finished = guest.finish();
    assert_eq!(finished.status, 0, "{finished:#?}");
}

/// What somebody would notice stands against parking; the guest goes on.
fn connected(backend: Backend) {
    let home = Home::new(1);
    let (guest, address) = home.start_as(backend, &home.parkable("memory-hash 1"));
    let mut lines = Lines::connect(address);
    let before = lines.check();
    let finished = denali(["park".as_ref(), home.path("control").as_os_str()]);
    assert_eq!(finished.status, HOST_LACKS, "{finished:#?}");
    assert_one_line(&finished, "connection");
    assert_eq!(lines.check().sum, before.sum);
    drop(lines);
    let record = park(&home, guest, "record");
    assert_eq!(check(&resume(&home, backend, &record)).sum, before.sum);
}

fn cannot(backend: Backend) {
    let home = Home::new(1);
    let mut configuration = home.probe("memory-hash 1");
    configuration.as_object_mut().expect("an object").remove("swap");
    let (guest, address) = home.start_as(backend, &configuration);
    let control = home.path("control");
    for command in ["park", "swap-out"] {
        let finished = denali([command.as_ref(), control.as_os_str()]);
        assert_eq!(finished.status, HOST_LACKS, "{finished:#?}");
        assert_one_line(&finished, "\"swap\"");
    }
    let mut lines = Lines::connect(address);
    lines.check();
    guest.signal(libc::SIGKILL);
    guest.finish();
    let finished = denali(["status".as_ref(), control.as_os_str()]);
    assert_eq!(finished.status, HOST_LACKS, "{finished:#?}");
    assert_one_line(&finished, "nobody listens");
}

/// The contents of a region's files.
fn copy(files: &[PathBuf]) -> Vec<Vec<u8>> {
    files.iter().map(|path| fs::read(path).expect("a region can be read")).collect()
}

fn put_back(files: &[PathBuf], contents: &[Vec<u8>]) {
    for (path, content) in files.iter().zip(contents) {
        fs::write(path, content).expect("a region can be written");
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(path, private).expect("a region can be made private");
    }
}

/// Files of a region that are put back to what they were when the guest was parked before.
fn only_the_last(backend: Backend) {
    let home = Home::new(2);
    let (guest, _) = home.start_as(backend, &home.parkable("memory-hash 1"));
    check(&guest);
    let first = park(&home, guest, "first");
    let files = home.regions();
    let old = copy(&files);
    let guest = resume(&home, backend, &first);
    Lines::connect(guest.address()).order("dirty", 10);
    let before = check(&guest);
    let second = park(&home, guest, "second");
    let new = copy(&files);
    let again = || Run::resume(backend, &home.path("vm.json"), &second);
    put_back(&files, &old);
    assert_refused(again(), HOST_LACKS, "swap: ");
    put_back(&files[..1], &new[..1]);
    assert_refused(again(), HOST_LACKS, "swap: ");
    put_back(&files[..1], &old[..1]);
    put_back(&files[1..], &new[1..]);
    assert_refused(again(), HOST_LACKS, "swap: ");
    put_back(&files, &new);
    let guest = resume(&home, backend, &second);
    assert_eq!(check(&guest).sum, before.sum);
}

/// Changes one field of a record.
fn changed(record: &Path, field: &str, value: Value) -> PathBuf {
    let text = fs::read(record).expect("a record");
    let mut data: Value = serde_json::from_slice(&text).expect("a record is JSON");
    data[field] = value;
    let path = record.with_extension(field);
    fs::write(&path, data.to_string()).expect("room for a record");
    path
}

fn only_the_right(backend: Backend) {
    let home = Home::new(2);
    let (guest, _) = home.start_as(backend, &home.parkable("memory-hash 1"));
    let before = check(&guest);
    let record = park(&home, guest, "record");
    let files = home.regions();
    let (other, _) = home.start_as(backend, &home.parkable("memory-hash 1"));
    let others = park(&home, other, "others");
    let all = home.regions();
    let foreign: Vec<PathBuf> = all.iter().filter(|path| !files.contains(path)).cloned().collect();
    let run = |record: &Path| Run::resume(backend, &home.path("vm.json"), record);
    // Another key, none, one that is no longer private.
    let key = home.path("host.key");
    write_key(&key, 8);
    assert_refused(run(&record), HOST_LACKS, "swap.key");
    fs::remove_file(&key).expect("the key can be removed");
    assert_refused(run(&record), HOST_LACKS, "swap.key");
    write_key(&key, 7);
    // Records that are not this guest's last.
    let root = json!("00".repeat(32));
    assert_refused(run(&changed(&record, "root", root)), HOST_LACKS, "swap: ");
    assert_refused(run(&changed(&record, "sequence", json!(2))), HOST_LACKS, "swap: ");
    assert_refused(run(&changed(&record, "sequence", json!(0))), BAD_CONFIG, "record");
    assert_refused(
        run(&changed(&record, "guest_id", json!("1f".repeat(16)))),
        HOST_LACKS,
        "swap.stripes",
    );
    assert_refused(run(&home.path("missing")), BAD_CONFIG, "--record");
    assert_refused(run(&key), BAD_CONFIG, "--record");
    // Other guests' regions, and parts of some.
    let (own, strange) = (copy(&files), copy(&foreign));
    put_back(&files, &strange);
    assert_refused(run(&record), HOST_LACKS, "belongs to guest");
    put_back(&files, &[own[0].clone(), strange[1].clone()]);
    assert_refused(run(&record), HOST_LACKS, "swap: ");
    put_back(&files, &[own[1].clone(), own[0].clone()]);
    assert_refused(run(&record), HOST_LACKS, "swap");
    put_back(&files, &[own[0].clone(), own[1][..own[1].len() / 2].to_vec()]);
    assert_refused(run(&record), HOST_LACKS, "swap.stripes[1]");
    fs::remove_file(&files[0]).expect("a region can be removed");
    assert_refused(run(&record), HOST_LACKS, "swap.stripes[0]");
    // A byte of the state's block, and bytes of all blocks behind.
    put_back(&files, &own);
    let mut damaged = own[0].clone();
    damaged[4096 + 40] ^= 1;
    put_back(&files[..1], &[damaged]);
    assert_refused(run(&record), HOST_LACKS, "swap: ");
    let mut damaged = own[1].clone();
    damaged.iter_mut().skip(100).step_by(4096).for_each(|byte| *byte ^= 1);
    put_back(&files, &[own[0].clone(), damaged]);
    assert_refused(run(&record), HOST_LACKS, "");
    // Nothing of all that was lost.
    put_back(&files, &own);
    for record in [&record, &others] {
        let guest = resume(&home, backend, record);
        assert_eq!(check(&guest).sum, before.sum);
        guest.signal(libc::SIGTERM);
        assert_eq!(guest.finish().status, 0);
    }
}

/// A region that nobody can continue from is removed, however the monitor ends.
fn nothing_left(backend: Backend) {
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let home = Home::new(2);
        let (guest, _) = home.start_as(backend, &home.parkable("memory-hash 1"));
        assert_eq!(home.regions().len(), 2);
        home.control().out();
        guest.signal(signal);
        guest.finish();
        wait_until("its region is removed", || home.regions().is_empty());
    }
}
