//! Memory of copies: of what none of them has changed, the host has one page for all.

use super::{copy, plain, start};
use crate::backend::Backend;
use crate::guest::Guest;
use crate::home::Home;
use crate::lines::Lines;
use crate::process::{self, Resident};
use crate::registry::{Case, Need};
use std::path::Path;

pub fn cases() -> Vec<Case> {
    vec![Case::each("copies_share_what_they_do_not_change", shared).needs(Need::KvmOnly)]
}

/// Memory that the guest watches over, in KiB, and a page of it.
const WATCHED_KIB: u64 = 8 << 10;
const PAGE_KIB: u64 = 4;

/// What a copy has in memory of the snapshot that it began from.
fn resident(clone: &Guest, snapshot: &Path) -> Resident {
    let name = snapshot.to_str().expect("UTF-8");
    process::resident(clone.pid(), name).expect("a monitor can be looked at by its user")
}

/// All copies have read all of their memory, which is there once; one that writes has that for itself, and
/// nothing more.
fn shared(backend: Backend) {
    const CHANGES: u64 = 40;
    let home = Home::new(1);
    let mib = WATCHED_KIB >> 10;
    let (_guest, address) = home.start_as(backend, &plain(&home, &format!("memory-hash {mib}")));
    let before = Lines::connect(address).check();
    let snapshot = copy(&home, "copy");
    let clones = [1, 2].map(|number| start(backend, &snapshot, number));
    let [mut writer, mut reader] = clones.each_ref().map(|clone| Lines::connect(clone.address()));
    for lines in [&mut writer, &mut reader] {
        assert_eq!(lines.check().sum, before.sum);
    }
    let of = |number: usize| resident(&clones[number], &snapshot);
    let (first, second) = (of(0), of(1));
    for copy in [&first, &second] {
        assert!(copy.shared_clean_kib >= WATCHED_KIB - WATCHED_KIB / 8, "{copy:?}");
        // Its own are what it writes anyhow: stacks, tables, packets.
        assert!(copy.changed_kib < WATCHED_KIB / 8, "{copy:?}");
        // Each is charged with half of what both have.
        let half = copy.shared_clean_kib / 2 + copy.changed_kib;
        assert!(copy.share_kib < half + WATCHED_KIB / 8, "{copy:?}");
    }
    writer.order("dirty", CHANGES);
    let written = of(0).changed_kib - first.changed_kib;
    // Pages are chosen at random, some perhaps twice; and each of the guest's can lie in two of the host's.
    let expected = CHANGES * PAGE_KIB / 2..=(2 * CHANGES + 16) * PAGE_KIB;
    assert!(expected.contains(&written), "{written} KiB, not in {expected:?}");
    assert_eq!(reader.check().sum, before.sum);
    let after = of(1);
    assert!(after.changed_kib <= second.changed_kib + 16 * PAGE_KIB, "{second:?} {after:?}");
}
