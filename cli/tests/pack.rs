//! `denali image pack`. Where mke2fs is missing, only that this is said can be tested.

mod support;

use denali_abi::status::{BAD_ARGUMENTS, HOST_LACKS};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{assert_refused, folder, run, stderr, stdout};

/// Where a program is, in the search path or where only root looks.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut places = std::env::split_paths(&path).chain(usual).map(|folder| folder.join(name));
    places.find(|path| path.is_file())
}

/// Whether images can be made here; if not, that is said, and refused as it should be.
fn can_pack() -> bool {
    if program("mke2fs").is_some() {
        return true;
    }
    println!("skipped: no mke2fs");
    fs::create_dir_all(folder().join("any")).unwrap();
    assert_refused(&["image", "pack", "any", "any.img"], HOST_LACKS, "install e2fsprogs");
    false
}

/// A folder of that name with a few files.
fn site(name: &str) -> PathBuf {
    let site = folder().join(name);
    fs::create_dir_all(site.join("sub")).unwrap();
    fs::write(site.join("index.html"), "index").unwrap();
    fs::write(site.join("sub/page.html"), "page".repeat(5000)).unwrap();
    fs::write(site.join("empty"), "").unwrap();
    site
}

/// What the program says about a folder that it packs.
fn pack(arguments: &[&str]) -> Value {
    let output = run(&[&["image", "pack", "--json"], arguments].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// Asserts that a program which others made finds nothing wrong with an image.
fn assert_sound(image: &Path) {
    let Some(e2fsck) = program("e2fsck") else { return };
    let output = Command::new(e2fsck).arg("-fn").arg(image).output().unwrap();
    assert!(output.status.success(), "{}", stdout(&output));
}

#[test]
fn a_folder_becomes_a_sound_image_of_little_more() {
    if !can_pack() {
        return;
    }
    site("plain");
    let output = run(&["image", "pack", "plain", "plain.img"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), "plain.img: 3 files, 20 KiB of contents in 256 KiB\n");
    assert_sound(&folder().join("plain.img"));

    let large = site("large");
    fs::write(large.join("large.bin"), vec![7; 20 << 20]).unwrap();
    for n in 0..3000 {
        fs::write(large.join(format!("sub/a file with a name of its own, number {n}")), "x")
            .unwrap();
    }
    let said = pack(&["large", "large.img"]);
    assert_eq!((&said["files"], &said["folders"]), (&3004.into(), &2.into()));
    let content: u64 = (20 << 20) + 3000 * 4096;
    let bytes = said["bytes"].as_u64().unwrap();
    assert_eq!(bytes, fs::metadata(folder().join("large.img")).unwrap().len());
    assert!(bytes > content && bytes < content + content / 10, "{bytes}");
    assert_sound(&folder().join("large.img"));
}

#[test]
fn the_same_folder_is_the_same_image() {
    if !can_pack() {
        return;
    }
    let site = site("same");
    // The first time, reading files changes when they were read last, which is packed too.
    let first = pack(&["same", "same0.img"]);
    let second = pack(&["same", "same1.img"]);
    let third = pack(&["same", "same2.img"]);
    assert_eq!((&first["uuid"], &second["uuid"]), (&third["uuid"], &third["uuid"]));
    let bytes = |name: &str| fs::read(folder().join(name)).unwrap();
    assert!(bytes("same1.img") == bytes("same2.img"), "the images differ");
    fs::write(site.join("index.html"), "other").unwrap();
    let time = fs::File::options().write(true).open(site.join("index.html")).unwrap();
    time.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_ne!(pack(&["same", "same3.img"])["uuid"], first["uuid"]);
}

#[test]
fn an_image_is_replaced_only_if_that_is_asked_for() {
    if !can_pack() {
        return;
    }
    site("kept");
    let image = support::file("kept.img", "precious");
    let arguments = ["image", "pack", "kept", "kept.img"];
    assert_refused(&arguments, BAD_ARGUMENTS, "kept.img: exists; --force replaces it");
    assert_eq!(fs::read(&image).unwrap(), b"precious");
    pack(&["kept", "kept.img", "--force"]);
    assert_sound(&image);
    let left = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut left = left.filter(|name| name.to_string_lossy().starts_with(".kept"));
    assert_eq!(left.next(), None, "nothing unfinished is left");
}

#[test]
fn what_cannot_be_packed() {
    if !can_pack() {
        return;
    }
    site("bad");
    support::file("no-folder", "");
    for (arguments, message) in [
        (["missing", "a.img"], "missing: there is no such folder"),
        (["no-folder", "a.img"], "no-folder: there is no such folder"),
        (["bad", "bad/a.img"], "bad/a.img: lies in the folder that it is to hold"),
        (["bad", "bad"], "bad: exists, and is no file"),
        (["bad", "."], "this is no name of a file"),
    ] {
        let arguments = [&["image", "pack"], &arguments[..]].concat();
        assert_refused(&arguments, BAD_ARGUMENTS, message);
    }
    let arguments = ["image", "pack", "bad", "no/such/place.img"];
    assert_refused(&arguments, HOST_LACKS, "no/such: No such file or directory");
    assert!(!folder().join("a.img").exists());
}
