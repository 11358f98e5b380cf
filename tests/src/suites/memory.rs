//! Memory: the address map is enforced, and all of it is there, however large.

use crate::backend::Backend;
use crate::registry::{Case, Need, Suite};

pub fn suite() -> Suite {
    Suite {
        name: "memory",
        cases: vec![
            Case::each("every_border_of_the_address_map", protection),
            Case::each("the_smallest_guest", smallest),
            Case::each("all_of_64_mib", pattern).needs(Need::Memory(256)),
            Case::each("the_end_of_1_gib", |it| edge(it, "1GiB")).needs(Need::Memory(512)),
            Case::each("the_end_of_3_gib", |it| edge(it, "3GiB")).needs(Need::Memory(512)),
            Case::each("the_end_of_4_gib", |it| edge(it, "4GiB")).needs(Need::Memory(512)),
        ],
    }
}

fn protection(backend: Backend) {
    for memory in ["16MiB", "2GiB", "4GiB"] {
        backend.probe("protection").memory(memory).expect(0);
    }
}

/// The least memory that the image fits into is found by asking for less and less.
fn smallest(backend: Backend) {
    let fits = |kib: u64| {
        let finished = backend.probe("edge-of-memory").memory(&format!("{kib}KiB")).finish();
        match finished.status {
            0 => true,
            122 => false,
            _ => panic!("{kib} KiB: {finished:?}"),
        }
    };
    let (mut too_little, mut enough) = (2 << 10, 16 << 10);
    assert!(fits(enough) && !fits(too_little));
    while enough - too_little > 4 {
        let middle = (too_little + enough) / 2 / 4 * 4;
        if fits(middle) {
            enough = middle;
        } else {
            too_little = middle;
        }
    }
}

fn pattern(backend: Backend) {
    let output = backend.probe("big-memory").memory("64MiB").expect(0);
    let bytes: u64 = output.trim().strip_prefix("bytes=").and_then(|n| n.parse().ok()).expect("n");
    assert!(bytes > 61 << 20, "{bytes} bytes");
}

fn edge(backend: Backend, memory: &str) {
    backend.probe("edge-of-memory").memory(memory).expect(0);
}
