//! What a monitor is told of its guest's swapping.

use super::*;
use crate::prepare::{Launch, Resume, Settings};
use crate::spec::{CommitSpec, MachineSpec, ResumeSpec};
use denali_swap::Commit;
use std::fs::{File, Permissions};
use std::io::Read;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The machine of a guest, with `space` or a region of its own.
fn prepare(document: &Document, space: Option<&SwapSpace>, resume: Option<Resume<'_>>) -> Launch {
    let (image, broker) = (image(), Path::new("broker"));
    let settings = Settings { image: Some(&image), space, resume, ..Settings::new(&[], broker) };
    Launch::prepare(document, &settings).unwrap()
}

/// What can be read from one of a machine's descriptors.
fn content(number: RawFd) -> Vec<u8> {
    // SAFETY: the machine that names the descriptor is alive where this is called.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let mut bytes = Vec::new();
    File::from(borrowed.try_clone_to_owned().unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

fn swap_of(spec: &MachineSpec) -> &SwapSpec {
    spec.swap.as_ref().unwrap()
}

#[test]
fn a_guest_of_its_own_leaves_no_region_behind() {
    let disks = Disks::new();
    let key = disks.path("key");
    fs::write(&key, [9; 32]).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let fields = r#", "after": "1s", "park_after": "9s", "key": {"file": "key"}"#;
    let launch = prepare(&disks.document(fields), None, None);
    assert!(disks.files().is_empty(), "the files have no names any more");
    let swap = swap_of(launch.spec());
    assert_eq!((swap.files.len(), swap.unit, swap.capacity), (2, 64 << 10, 3 * 256 - 3));
    assert_eq!((swap.lasting, swap.encrypt, swap.prefetch), (false, true, true));
    assert_eq!(swap.after_ns, Some(1_000_000_000));
    let park = ParkSpec { after_ns: 9_000_000_000, horizon_ns: 10_000_000_000 };
    assert_eq!((swap.park, swap.resident_limit, swap.userfault), (Some(park), None, None));
    assert_eq!((swap.guest_id.len(), swap.wrapped.as_ref().unwrap().len()), (32, 160));
    let key = content(swap.key);
    assert_eq!(key.len(), 32, "the key, and the end");
    assert_ne!(key, [0; 32]);
    let json = serde_json::to_string(launch.spec()).unwrap();
    assert!(!json.contains(&hex::encode(&key)), "the key is in no description");
    assert_eq!(launch.spec().image.hash, image().hash().unwrap().to_string());
    assert!(launch.spec().boot_id.len() == 36 || launch.spec().boot_id.is_empty());
    assert_eq!(launch.spec().resume, None);
}

#[test]
fn a_guest_that_was_parked_continues_from_its_region() {
    let disks = Disks::new();
    let document = disks.document("");
    let space = create(&document, Some(&host())).unwrap();
    let commit = Commit { sequence: 7, root: [0x1f; 32] };
    let launch = prepare(&document, Some(&space), Some(Resume::Parked(Some(commit))));
    let swap = swap_of(launch.spec());
    assert!(swap.lasting);
    assert_eq!(swap.guest_id, ID.to_string());
    assert_eq!(disks.files().len(), 2);
    let root = "1f".repeat(32);
    let commit = CommitSpec { sequence: 7, root };
    assert_eq!(launch.spec().resume, Some(ResumeSpec::Parked { commit: Some(commit) }));
    // The monitor's descriptors keep the lock.
    drop(space);
    let message = refusal(&disks, open(&document, Some(&host())));
    assert!(message.contains("is in use"), "{message}");
    drop(launch);

    let settings = Settings {
        resume: Some(Resume::Parked(None)),
        ..Settings::new(&[("elf", b"elf")], Path::new("broker"))
    };
    let plain =
        Document::parse(br#"{"image": "elf", "hypervisor": "process"}"#, "vm.json", "".into());
    let error = Launch::prepare(&plain.unwrap(), &settings).unwrap_err();
    assert!(error.to_string().contains("continues from its swap region"), "{error}");
}

#[test]
fn paging_within_a_guest_needs_kvm() {
    let disks = Disks::new();
    let mut document = disks.document("");
    document.set("hypervisor=auto").unwrap();
    document.set("resident_limit=1MiB").unwrap();
    let swap = document.guest().unwrap().swap.unwrap();
    let error = userfault(&document, &swap, false).unwrap_err().to_string();
    let wanted =
        "--set resident_limit=1MiB: resident_limit: needs KVM, which does not run this guest";
    assert!(error.starts_with(wanted), "{error}");
    match userfault(&document, &swap, true) {
        Ok(device) => assert!(device.is_some()),
        Err(error) => {
            let wanted =
                "--set resident_limit=1MiB: resident_limit: needs /dev/userfaultfd: run as root";
            assert!(error.to_string().starts_with(wanted), "{error}");
        }
    }
    let without = denali_config::Swap { resident_limit: None, ..swap };
    assert!(userfault(&document, &without, false).unwrap().is_none());
    userfault(&document, &without, true).unwrap();
}
