//! The kernel's interface of userfaultfd: numbers and structures of `linux/userfaultfd.h`.

use std::mem::size_of;

/// Makes a userfaultfd of `/dev/userfaultfd`.
pub(super) const NEW: u64 = request(NONE, 0x00, 0);
/// Agrees on the version, and tells features.
pub(super) const API: u64 = request(READ | WRITE, 0x3f, size_of::<Api>());
/// Faults in a range are told from here on.
pub(crate) const REGISTER: u64 = request(READ | WRITE, 0x00, size_of::<Register>());
/// They are not any more; who waits goes on.
pub(crate) const UNREGISTER: u64 = request(READ, 0x01, size_of::<Range>());
/// Who waits for a range goes on.
pub(crate) const WAKE: u64 = request(READ, 0x02, size_of::<Range>());
/// Fills missing pages.
pub(crate) const COPY: u64 = request(READ | WRITE, 0x03, size_of::<Transfer>());
/// Fills missing pages with zeroes.
pub(crate) const ZEROPAGE: u64 = request(READ | WRITE, 0x04, size_of::<Zero>());
/// Moves pages to where they are missing.
pub(crate) const MOVE: u64 = request(READ | WRITE, 0x05, size_of::<Transfer>());

/// The one version there is.
pub(super) const VERSION: u64 = 0xaa;
/// Feature: [`MOVE`] is there (Linux 6.8).
pub(super) const FEATURE_MOVE: u64 = 1 << 16;
/// Feature: a [`Message`] tells which thread waits (Linux 4.14).
pub(super) const FEATURE_THREAD: u64 = 1 << 8;
/// Faults on pages that are missing are told.
pub(super) const MODE_MISSING: u64 = 1;
/// A [`Message`] tells of a fault.
pub(super) const EVENT_FAULT: u8 = 0x12;
/// The fault was a write.
pub(super) const FLAG_WRITE: u64 = 1;

const NONE: u64 = 0;
const WRITE: u64 = 1;
const READ: u64 = 2;

/// The number of an ioctl, as `_IOC` makes it of a direction, a number and the argument's size.
const fn request(direction: u64, number: u64, size: usize) -> u64 {
    direction << 30 | (size as u64) << 16 | 0xaa << 8 | number
}

/// `struct uffdio_api`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Api {
    pub version: u64,
    pub features: u64,
    pub ioctls: u64,
}

/// `struct uffdio_range`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Range {
    pub start: u64,
    pub length: u64,
}

/// `struct uffdio_register`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Register {
    pub range: Range,
    pub mode: u64,
    pub ioctls: u64,
}

/// `struct uffdio_copy` and `struct uffdio_move`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Transfer {
    pub to: u64,
    pub from: u64,
    pub length: u64,
    pub mode: u64,
    /// Bytes transferred, or a negative error.
    pub done: i64,
}

/// `struct uffdio_zeropage`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Zero {
    pub range: Range,
    pub mode: u64,
    /// Bytes zeroed, or a negative error.
    pub done: i64,
}

/// `struct uffd_msg`, of which faults are the only kind that is asked for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Message {
    pub event: u8,
    pub reserved: [u8; 7],
    pub flags: u64,
    pub address: u64,
    pub thread: u32,
    pub unused: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel() {
        assert_eq!(NEW, 0xaa00);
        assert_eq!(API, 0xc018_aa3f);
        assert_eq!(REGISTER, 0xc020_aa00);
        assert_eq!(UNREGISTER, 0x8010_aa01);
        assert_eq!(WAKE, 0x8010_aa02);
        assert_eq!(COPY, 0xc028_aa03);
        assert_eq!(ZEROPAGE, 0xc020_aa04);
        assert_eq!(MOVE, 0xc028_aa05);
        assert_eq!(size_of::<Message>(), 32);
    }
}
