//! Making regions.

use super::*;
use denali_swap::region_size;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

#[test]
fn a_region_is_reserved_whole_over_all_folders() {
    let disks = Disks::new();
    let space = create(&disks.document(r#", "limit": "1MiB""#), None).unwrap();
    assert_eq!(space.options.capacity, 256);
    let size = region_size(&space.options);
    let stripe = size.div_ceil(65_536).div_ceil(2) * 65_536;
    let name = |index| format!("denali-{}.{index}of2.swap", "ab".repeat(16));
    let expected = [(format!("a/{}", name(1)), stripe), (format!("b/{}", name(2)), stripe)];
    assert_eq!(disks.files(), expected);
    for (path, size) in expected {
        let metadata = fs::metadata(disks.path(&path)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
        let reserved = std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
        assert!(reserved >= size, "{reserved} of {size}");
    }
    space.remove().unwrap();
    assert!(disks.files().is_empty());
}

#[test]
fn a_region_has_room_for_all_that_the_guest_can_write() {
    let disks = Disks::new();
    let space = create(&disks.document(""), None).unwrap();
    // Of 4 MiB, the first is nobody's and three pages are the image's.
    assert_eq!(space.options.capacity, 3 * 256 - 3);
    let error = create(&disks.document(r#", "limit": "3MiB""#), None).err().unwrap();
    assert_eq!(
        error.to_string(),
        "vm.json: swap.limit: 3MiB is more than the 3060KiB that the guest can write; leave it out for \
         all of it"
    );
    assert_eq!(error.status(), denali_abi::status::BAD_CONFIG);
}

#[test]
fn too_little_room_leaves_nothing_behind() {
    let disks = Disks::new();
    let document = disks.document("");
    let swap = document.guest().unwrap().swap.unwrap();
    // A file larger than any file system takes.
    let stripe = stripe::Stripe::create(&swap.stripes[0], "large", 1 << 62, true).unwrap_err();
    let shown = stripe.replace(&format!("{}/", disks.root.path().display()), "");
    assert_eq!(
        shown,
        "a has no room for 4398046511104 MiB; make room, lower \"swap.limit\", or name a folder on another \
         disk"
    );
    assert!(disks.files().is_empty());

    // The first folder has room, the second one has none.
    fs::remove_dir(disks.path("b")).unwrap();
    let message = refusal(&disks, create(&document, None));
    assert!(
        message.starts_with("vm.json: swap.stripes[1]: there is no folder b; make it"),
        "{message}"
    );
    fs::create_dir(disks.path("b")).unwrap();
    assert!(disks.files().is_empty());
}

/// A small file system in a folder, until it is dropped.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    /// `None` where this user may not mount.
    fn new(folder: &'a Path) -> Option<Self> {
        let arguments = ["-t", "tmpfs", "-o", "size=1m,mode=700", "denali-test"];
        let done = Command::new("mount").args(arguments).arg(folder).output();
        done.is_ok_and(|output| output.status.success()).then(|| Self(folder))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg(self.0).status().unwrap();
    }
}

#[test]
fn a_full_disk_is_found_when_the_region_is_made() {
    let disks = Disks::new();
    let folder = disks.path("b");
    let Some(_mounted) = Mounted::new(&folder) else {
        println!("skipped: this user may not mount a file system");
        return;
    };
    let message = refusal(&disks, create(&disks.document(""), None));
    assert!(
        message.starts_with("vm.json: swap.stripes[1]: b has no room for 4 MiB; make"),
        "{message}"
    );
    assert!(disks.files().is_empty());
    create(&disks.document(r#", "limit": "256KiB""#), None).unwrap().remove().unwrap();
}

#[test]
fn folders_that_cannot_be_used_are_named() {
    let disks = Disks::new();
    let document = disks.document("");
    fs::set_permissions(disks.path("a"), Permissions::from_mode(0o777)).unwrap();
    let message = refusal(&disks, create(&document, None));
    assert!(
        message.starts_with("vm.json: swap.stripes[0]: others may exchange what is in a;"),
        "{message}"
    );
    fs::set_permissions(disks.path("a"), Permissions::from_mode(0o1777)).unwrap();
    create(&document, None).unwrap().remove().unwrap();

    fs::remove_dir(disks.path("b")).unwrap();
    fs::write(disks.path("b"), "").unwrap();
    let message = refusal(&disks, create(&document, None));
    assert_eq!(message, "vm.json: swap.stripes[1]: b is not a folder; name one");
    fs::remove_file(disks.path("b")).unwrap();

    fs::create_dir(disks.path("b")).unwrap();
    fs::set_permissions(disks.path("b"), Permissions::from_mode(0o500)).unwrap();
    match create(&document, None) {
        // Root may write everywhere.
        Ok(space) => space.remove().unwrap(),
        refused => {
            let message = refusal(&disks, refused);
            assert!(
                message.contains("swap.stripes[1]: b may not be written by this user"),
                "{message}"
            );
        }
    }
    fs::set_permissions(disks.path("b"), Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_region_that_is_there_is_not_made_again() {
    let disks = Disks::new();
    let document = disks.document("");
    let space = create(&document, None).unwrap();
    let message = refusal(&disks, create(&document, None));
    assert!(message.starts_with("vm.json: swap.stripes[0]: a/denali-ab"), "{message}");
    assert!(
        message.ends_with(".1of2.swap exists already; remove it, or resume its guest"),
        "{message}"
    );
    assert_eq!(disks.files().len(), 2, "the region is untouched");
    drop(space);
}
