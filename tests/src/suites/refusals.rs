//! Images that are refused: each with its exit status and exactly one line that says what to do.

use crate::backend::Backend;
use crate::elf::{self, Elf};
use crate::guest::program;
use crate::registry::{Case, Suite};
use std::fs;
use std::process::{Command, Stdio};

pub fn suite() -> Suite {
    Suite {
        name: "refusals",
        cases: vec![
            Case::once("files_that_are_no_images", not_images),
            Case::once("images_of_another_kind", other_kinds),
            Case::once("segments_where_none_may_be", segments),
            Case::once("notes_that_ask_too_much", notes),
            Case::once("too_little_memory", memory),
            Case::once("the_same_from_check", check),
            Case::once("the_monitor_alone", monitor),
            Case::once("what_the_host_lacks", host_lacks),
            Case::once("auto_says_that_a_process_is_no_boundary", auto),
        ],
    }
}

const BAD_CONFIG: i32 = 122;
const BAD_IMAGE: i32 = 123;
const HOST_LACKS: i32 = 124;
const BAD_ARGUMENTS: i32 = 126;

const LOADABLE: u32 = 1;
const NOTE: u32 = 4;

fn hello() -> Elf {
    Elf(denali_images::find("hello").expect("a built-in image").bytes.to_vec())
}

fn web() -> Elf {
    Elf(denali_images::find("web").expect("a built-in image").bytes.to_vec())
}

/// Asserts that `denali <command> <image>` ends with this status and one line containing `message`.
#[track_caller]
fn assert_refused_by(command: &str, image: &Elf, options: &[&str], status: i32, message: &str) {
    let folder = tempfile::tempdir().expect("a folder for the image");
    let path = folder.path().join("image.elf");
    fs::write(&path, &image.0).expect("the image can be written");
    let output = Command::new(program())
        .arg(command)
        .arg(&path)
        .args(["--hypervisor", "process"])
        .args(options)
        .stdin(Stdio::null())
        .output()
        .expect("the denali program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{message}: {said}");
    assert_eq!(said.lines().count(), 1, "{message}: {said}");
    assert!(said.starts_with("denali") && said.contains("image"), "{said}");
    assert!(said.contains(message), "not {message:?}: {said}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[track_caller]
fn assert_refused(image: &Elf, message: &str) {
    assert_refused_by("run", image, &[], BAD_IMAGE, message);
}

fn not_images() {
    assert_refused(&Elf(Vec::new()), "is empty");
    assert_refused(
        &Elf(b"#!/bin/sh\necho this is a script, not an image\n".to_vec()),
        "not an ELF",
    );
    for length in [4, 63, 64, 100] {
        let mut cut = hello();
        cut.0.truncate(length);
        assert_refused(&cut, "truncated: ");
    }
    let mut cut = hello();
    let middle = cut.0.len() / 2;
    cut.0.truncate(middle);
    assert_refused(&cut, "truncated: ");
}

fn other_kinds() {
    for (at, value) in [(4, 1), (5, 2)] {
        assert_refused(&hello().put(at, [value]), "not a 64-bit little-endian ELF file");
    }
    assert_refused(&hello().put(elf::MACHINE, 183_u16.to_le_bytes()), "not x86-64");
    let object = hello().put(elf::TYPE, 1_u16.to_le_bytes());
    assert_refused(&object, "not an executable (ELF type 1)");
    assert_refused(&hello().put(elf::TYPE, 3_u16.to_le_bytes()), "link it statically");
    let own = fs::read(program()).expect("this program can be read");
    assert_refused(&Elf(own), "link it statically");
    assert_refused(
        &hello().put(elf::ENTRY, 0x10_0000_u64.to_le_bytes()),
        "in no executable segment",
    );
    assert_refused(
        &hello().put(elf::ENTRY, (u64::MAX - 7).to_le_bytes()),
        "in no executable segment",
    );
}

fn segments() {
    let word = u64::to_le_bytes;
    let change = |field, value: u64| hello().put_header(LOADABLE, 0, field, word(value));
    // Below the image's start, above 4 GiB, around the end of addresses.
    for address in [0, 0x10_0000, 0x1_0000_0000, !0xfff] {
        let moved =
            change(elf::P_VADDR, address).put_header(LOADABLE, 0, elf::P_PADDR, word(address));
        assert_refused(&moved, "is not within 0x200000..0x100000000");
    }
    assert_refused(&change(elf::P_OFFSET, 1 << 40), "truncated: the segment");
    assert_refused(&change(elf::P_OFFSET, u64::MAX - 1), "truncated: the segment");
    assert_refused(&change(elf::P_MEMSZ, u64::MAX), "is not within 0x200000..0x100000000");
    let first = hello().header_word(LOADABLE, 0, elf::P_VADDR);
    let overlapping = hello().put_header(LOADABLE, 1, elf::P_VADDR, word(first)).put_header(
        LOADABLE,
        1,
        elf::P_PADDR,
        word(first),
    );
    assert_refused(&overlapping, "overlap");
    let everything = hello().put_header(LOADABLE, 0, elf::P_FLAGS, 7_u32.to_le_bytes());
    assert_refused(&everything, "writable and executable");
    let nothing = hello().put_header(LOADABLE, 0, elf::P_FLAGS, 0_u32.to_le_bytes());
    assert_refused(&nothing, "neither readable, writable nor executable");
}

fn notes() {
    assert_refused(
        &hello().put_header(NOTE, 0, elf::P_TYPE, 0_u32.to_le_bytes()),
        "no Denali note",
    );
    // The description follows 12 bytes of sizes and type and 8 of name.
    let at = hello().header_word(NOTE, 0, elf::P_OFFSET) as usize + 20;
    assert_refused(&hello().put(at, 2_u32.to_le_bytes()), "this monitor speaks 1: update Denali");
    assert_refused(
        &hello().put(at, u32::MAX.to_le_bytes()),
        "this monitor speaks 1: update Denali",
    );
    assert_refused(&hello().put(at + 4, 9_u32.to_le_bytes()), "malformed Denali note");
    assert_refused(&web(), "wants a net device; add one to \"net\" in the configuration");
    let named = web().put(at_of_web_note() + 0x44, *b"uplink");
    let message = "wants a net device named \"uplink\"";
    assert_refused_by("check", &named, &["--publish", "0:80"], BAD_IMAGE, message);
}

fn at_of_web_note() -> usize {
    web().header_word(NOTE, 0, elf::P_OFFSET) as usize + 20
}

fn memory() {
    let at = hello().header_word(NOTE, 0, elf::P_OFFSET) as usize + 20;
    let wants = hello().put(at + 8, (32_u64 << 20).to_le_bytes());
    assert_refused_by("run", &wants, &[], BAD_CONFIG, "memory");
    assert_refused_by("run", &hello(), &["--memory", "2052KiB"], BAD_CONFIG, "memory");
    let endless = hello().put(at + 8, u64::MAX.to_le_bytes());
    assert_refused(&endless, "wants more than 4 GiB of memory");
    let stack = hello().put(at + 16, (1_u64 << 40).to_le_bytes());
    assert_refused_by("run", &stack, &[], BAD_IMAGE, "the stack");
}

fn check() {
    assert_refused_by(
        "check",
        &hello().put(elf::TYPE, 3_u16.to_le_bytes()),
        &[],
        BAD_IMAGE,
        "link it statically",
    );
    assert_refused_by("check", &web(), &[], BAD_IMAGE, "wants a net device");
    assert_refused_by("check", &hello(), &["--memory", "2052KiB"], BAD_CONFIG, "memory");
}

/// The monitor is not for people, and says so.
fn monitor() {
    let zero = fs::File::open("/dev/zero").expect("/dev/zero is there");
    for (arguments, message) in [
        (&[][..], "the only argument is the number of a descriptor"),
        (&["x"], "the only argument is the number of a descriptor"),
        (&["0"], "the only argument is the number of a descriptor"),
        (&["3", "4"], "the only argument is the number of a descriptor"),
        (&["99"], "descriptor 99 is not open"),
    ] {
        let output = Command::new(denali_images::MONITOR_PATH)
            .args(arguments)
            .stdin(Stdio::from(zero.try_clone().expect("a descriptor can be copied")))
            .output()
            .expect("the monitor starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(BAD_ARGUMENTS), "{arguments:?}: {said}");
        assert!(said.starts_with("denali-vmm: ") && said.contains(message), "{said}");
        assert!(said.contains("started by `denali run`"), "{said}");
    }
}

/// A limit on memory that no guest fits into.
fn host_lacks() {
    let mut command = Command::new("/bin/sh");
    let script = "ulimit -v 200000; exec \"$0\" run hello --memory 4GiB --hypervisor process";
    let output = command.args(["-c", script]).arg(program()).output().expect("a shell starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(HOST_LACKS), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("denali: "), "{said}");
}

/// Without KVM, and only then, the user is told once.
fn auto() {
    let output = Command::new(program())
        .args(["run", "hello", "--hypervisor", "auto"])
        .stdin(Stdio::null())
        .output()
        .expect("the denali program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    if Backend::Kvm.unusable().is_none() {
        assert_eq!(said, "");
    } else if Backend::Process.unusable().is_none() {
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("which is no virtual machine boundary"), "{said}");
    } else {
        assert_eq!(output.status.code(), Some(HOST_LACKS), "{said}");
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(output.stdout, b"hello from a Denali guest\n");
}
