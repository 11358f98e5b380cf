//! Opening regions that were made before.

use super::*;
use denali_disk::{Disk, DiskOptions, Method};
use denali_swap::Store;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;

/// Makes the store in a region, as a monitor does.
fn format(space: &SwapSpace) {
    let options = DiskOptions {
        direct: space.region.direct().is_ok(),
        method: Method::Plain,
        stripe_unit: 64 << 10,
        ..DiskOptions::default()
    };
    let disk = Disk::new(space.region.share().unwrap(), &options).unwrap();
    let pipe = through_pipe(&space.key).unwrap();
    let key = Key::read_from(pipe.as_fd()).unwrap();
    Store::format(disk, space.id, key, &space.options, space.wrapped).unwrap();
}

#[test]
fn a_region_is_opened_with_the_hosts_key() {
    let disks = Disks::new();
    let document = disks.document(r#", "limit": "1MiB", "encrypt": false"#);
    let made = create(&document, Some(&host())).unwrap();
    format(&made);
    let options = made.options;
    drop(made);
    let opened = open(&disks.document(""), Some(&host())).unwrap();
    assert_eq!((opened.options, opened.id()), (options, ID), "the region says what it is");

    let message = refusal(&disks, open(&document, Some(&host())));
    assert!(message.contains("is in use: its guest runs, or is being resumed"), "{message}");
    drop(opened);
    let other = Key::from_bytes(&[8; 32]).unwrap();
    let message = refusal(&disks, open(&document, Some(&other)));
    assert!(
        message.starts_with("vm.json: swap.key: is not the host's key that the region"),
        "{message}"
    );
    let message = refusal(&disks, open(&document, None));
    assert!(message.starts_with("vm.json: swap.key: is missing; name the host's key"), "{message}");
}

#[test]
fn a_region_without_a_hosts_key_dies_with_its_process() {
    let disks = Disks::new();
    let document = disks.document("");
    format(&create(&document, None).unwrap());
    let message = refusal(&disks, open(&document, Some(&host())));
    assert!(message.contains("swap.key: the region was made without a host's key"), "{message}");
}

#[test]
fn regions_of_another_shape_are_refused() {
    let disks = Disks::new();
    let document = disks.document("");
    format(&create(&document, Some(&host())).unwrap());
    let refused = |document: &Document| refusal(&disks, open(document, Some(&host())));

    let message = refused(&disks.striped(r#""a""#, ""));
    assert!(
        message.contains("is striped over 2 folders, and 1 are named; name those"),
        "{message}"
    );
    let message = refused(&disks.striped(r#""b", "a""#, ""));
    assert!(
        message.starts_with("vm.json: swap.stripes[0]: b has no region of guest abab"),
        "{message}"
    );

    let first = disks.path(&disks.files()[0].0);
    fs::set_permissions(&first, Permissions::from_mode(0o640)).unwrap();
    assert!(refused(&document).contains("others have rights to a/denali-"));
    fs::set_permissions(&first, Permissions::from_mode(0o600)).unwrap();

    let second = disks.path(&disks.files()[1].0);
    let size = fs::metadata(&second).unwrap().len();
    File::options().write(true).open(&second).unwrap().set_len(size - 65_536).unwrap();
    let message = refused(&document);
    assert!(message.contains("swap.stripes[1]: b/denali-"), "{message}");
    assert!(message.contains(&format!("bytes where {size} are wanted")), "{message}");
    File::options().write(true).open(&second).unwrap().set_len(size).unwrap();
    open(&document, Some(&host())).unwrap();

    // A region under another guest's name.
    for (name, _) in disks.files() {
        let other = name.replace("denali-ab", "denali-cd");
        fs::rename(disks.path(&name), disks.path(&other)).unwrap();
    }
    let mut id = ID;
    id.0[0] = 0xcd;
    let guest = document.guest().unwrap();
    let message = refusal(&disks, SwapSpace::open(&document, &guest, id, Some(&host())));
    assert!(message.contains(".1of2.swap belongs to guest abab"), "{message}");
    assert!(refused(&document).contains("a has no region of guest abab"));
}

#[test]
fn what_is_no_region_is_refused() {
    let disks = Disks::new();
    let document = disks.document("");
    // Reserved, and never formatted.
    drop(create(&document, Some(&host())).unwrap());
    let message = refusal(&disks, open(&document, Some(&host())));
    assert!(message.contains("contain no region; remove them"), "{message}");
    let first = disks.path(&disks.files()[0].0);
    fs::remove_file(&first).unwrap();
    std::os::unix::fs::symlink("/dev/null", &first).unwrap();
    let message = refusal(&disks, open(&document, Some(&host())));
    assert!(message.contains("swap.stripes[0]: cannot open a/denali-"), "{message}");
}
