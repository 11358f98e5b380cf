//! Tests of the wrapper with real memory.

use super::*;
use crate::tests::support::{Guest, filled, moving_uffd, uffd};

fn registered(uffd: &Uffd, count: u32) -> Guest {
    let guest = Guest::new(count);
    let (start, length) = (guest.start as u64, u64::from(count) * PAGE as u64);
    // SAFETY: it is such memory, and outlives the userfaultfd's use of it.
    unsafe { uffd.register(start, length).unwrap() };
    guest
}

fn at(guest: &Guest, index: u32) -> u64 {
    guest.word(index, 0) as u64
}

#[test]
fn missing_pages_are_filled_and_others_left_alone() {
    let Some(uffd) = uffd() else { return };
    let guest = registered(&uffd, 8);
    uffd.copy(at(&guest, 3), &filled(3)[..]).unwrap();
    let pages: Vec<u8> = (0..8).flat_map(|n| *filled(10 + n)).collect();
    uffd.copy(at(&guest, 0), &pages).unwrap();
    assert!((0..8).all(|n| guest.is(n, if n == 3 { 3 } else { 10 + u64::from(n) })));
}

#[test]
fn zeroes_fill_what_is_missing() {
    let Some(uffd) = uffd() else { return };
    let guest = registered(&uffd, 8);
    uffd.copy(at(&guest, 7), &filled(3)[..]).unwrap();
    uffd.zero(at(&guest, 0), 8 * PAGE as u64).unwrap();
    assert!((0..7).all(|n| guest.is(n, 0)));
    assert!(guest.is(7, 3));
    guest.set(0, 4);
    assert!(guest.is(0, 4) && guest.is(1, 0));
}

#[test]
fn memory_that_is_not_registered_is_never_filled() {
    let Some(uffd) = uffd() else { return };
    let guest = Guest::new(2);
    assert!(uffd.copy(at(&guest, 0), &filled(3)[..]).is_err());
    assert!(uffd.zero(at(&guest, 0), PAGE as u64).is_err());
    assert!(guest.is(0, 0));
}

#[test]
fn who_touches_a_missing_page_is_told_and_woken() {
    let Some(uffd) = uffd() else { return };
    let guest = registered(&uffd, 8);
    let mut faults = [Fault::default(); FAULTS];
    assert_eq!(uffd.faults(&mut faults).unwrap(), 0);
    std::thread::scope(|scope| {
        let guest = &guest;
        let reads = scope.spawn(|| guest.read(5, 7));
        let writes = scope.spawn(|| guest.write(2, 7, 1));
        let mut told = Vec::new();
        while told.len() < 2 {
            let count = uffd.faults(&mut faults).unwrap();
            told.extend_from_slice(&faults[..count]);
        }
        told.sort_unstable_by_key(|fault| fault.address);
        let [first, second] = [told[0], told[1]].map(|fault| (fault.address, fault.write));
        assert_eq!([first, second], [(at(guest, 2), true), (at(guest, 5), false)]);
        assert!(told[0].thread > 0 && told[1].thread > 0 && told[0].thread != told[1].thread);
        uffd.copy(at(guest, 5), &filled(55)[..]).unwrap();
        uffd.unregister(at(guest, 0), 8 * PAGE as u64).unwrap();
        assert_eq!(reads.join().unwrap(), 55);
        writes.join().unwrap();
        assert_eq!((guest.read(2, 6), guest.read(2, 7)), (0, 1));
    });
}

#[test]
fn moved_pages_are_gone_where_they_were() {
    let Some(uffd) = moving_uffd() else { return };
    let (from, to) = (registered(&uffd, 8), registered(&uffd, 8));
    let pages: Vec<u8> = (0..5).flat_map(|n| *filled(10 + n)).collect();
    uffd.copy(at(&from, 0), &pages).unwrap();
    // SAFETY: both are such memory.
    let moved = unsafe { uffd.move_pages(at(&to, 0), at(&from, 0), 8 * PAGE as u64) };
    assert_eq!(moved.bytes, 5 * PAGE as u64);
    assert_eq!(moved.error.unwrap().raw_os_error(), Some(libc::ENOENT), "the sixth is missing");
    assert!((0..5).all(|n| to.is(n, 10 + u64::from(n))));
    assert!(from.resident().is_empty());
    // SAFETY: as above.
    let moved = unsafe { uffd.move_pages(at(&from, 3), at(&to, 3), PAGE as u64) };
    assert!(moved.error.is_none());
    assert_eq!((from.resident(), to.resident()), (vec![3], vec![0, 1, 2, 4]));
    // SAFETY: as above.
    let moved = unsafe { uffd.move_pages(at(&from, 3), at(&to, 4), PAGE as u64) };
    assert_eq!(moved.error.unwrap().raw_os_error(), Some(libc::EEXIST));
    assert!(from.is(3, 13) && to.is(4, 14));
}

/// Memory that was registered in parts, and touched between, is several mappings for ever.
fn in_several_mappings(uffd: &Uffd) -> Guest {
    let guest = Guest::new(8);
    // SAFETY: it is such memory, and outlives the userfaultfd's use of it.
    unsafe { uffd.register(at(&guest, 0), 4 * PAGE as u64).unwrap() };
    uffd.copy(at(&guest, 1), &filled(1)[..]).unwrap();
    guest.set(6, 6);
    // SAFETY: as above.
    unsafe { uffd.register(at(&guest, 0), 8 * PAGE as u64).unwrap() };
    guest
}

#[test]
fn pages_of_several_mappings_are_filled_together() {
    let Some(uffd) = uffd() else { return };
    let guest = in_several_mappings(&uffd);
    let pages: Vec<u8> = (0..8).flat_map(|n| *filled(10 + n)).collect();
    uffd.copy(at(&guest, 0), &pages).unwrap();
    let expected = |n| if n == 1 || n == 6 { n } else { 10 + n };
    assert!((0..8).all(|n| guest.is(n, u64::from(expected(n)))));
    let guest = in_several_mappings(&uffd);
    uffd.zero(at(&guest, 0), 8 * PAGE as u64).unwrap();
    assert!((0..8).all(|n| guest.is(n, if n == 1 || n == 6 { u64::from(n) } else { 0 })));
}

#[test]
fn pages_of_several_mappings_are_moved_together() {
    let Some(uffd) = moving_uffd() else { return };
    let (from, to) = (in_several_mappings(&uffd), registered(&uffd, 8));
    let pages: Vec<u8> = (0..8).flat_map(|n| *filled(10 + n)).collect();
    uffd.copy(at(&from, 0), &pages).unwrap();
    // SAFETY: both are such memory.
    let moved = unsafe { uffd.move_pages(at(&to, 0), at(&from, 0), 8 * PAGE as u64) };
    assert!(moved.error.is_none() && moved.bytes == 8 * PAGE as u64);
    assert!(from.resident().is_empty() && to.is(7, 17) && to.is(6, 6));
}

#[test]
fn memory_of_a_file_is_refused() {
    let Some(uffd) = uffd() else { return };
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at a place of the kernel's choice touches nothing that exists.
    let start = unsafe {
        libc::mmap(std::ptr::null_mut(), PAGE, protection, libc::MAP_PRIVATE, file.as_raw_fd(), 0)
    };
    assert_ne!(start, libc::MAP_FAILED);
    // SAFETY: nothing refers to the mapping; the call fails, and so nothing waits in it.
    assert!(unsafe { uffd.register(start as u64, PAGE as u64) }.is_err());
    // SAFETY: the mapping made above.
    unsafe { libc::munmap(start, PAGE) };
}

#[test]
fn something_else_is_no_userfaultfd() {
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(Uffd::from_device(file.as_fd()).is_err());
}
