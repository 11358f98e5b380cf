//! The table of what ports do, which the supervisor reads where it lies.

use crate::client::{TABLE_BYTES, Table};
use crate::protocol::{Activity, PortNumber};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// The table, of which memory is taken as far as there are ports.
#[derive(Debug)]
pub struct Shared {
    /// What the supervisor is given: nobody can cut it, nor write it but through the mapping that is there.
    pub file: OwnedFd,
    table: Table,
}

impl Shared {
    /// An empty table.
    pub fn new() -> io::Result<Self> {
        let file =
            memfd_create(c"denali-switch", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        ftruncate(&file, TABLE_BYTES as i64)?;
        let table = Table::map_with(&file, libc::PROT_READ | libc::PROT_WRITE)?;
        let size = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
        let writes = SealFlag::from_bits_retain(libc::F_SEAL_FUTURE_WRITE);
        match fcntl(&file, FcntlArg::F_ADD_SEALS(size | writes)) {
            // Kernels before 5.1 do not know the second.
            Err(Errno::EINVAL) => fcntl(&file, FcntlArg::F_ADD_SEALS(size))?,
            other => other?,
        };
        Ok(Self { file, table })
    }

    /// Packets of a guest.
    pub fn sent(&self, port: PortNumber, packets: u64, now_ns: u64) {
        self.note(port, |it| &it.sent, packets, now_ns);
    }

    /// Packets to a guest.
    pub fn received(&self, port: PortNumber, packets: u64, now_ns: u64) {
        self.note(port, |it| &it.received, packets, now_ns);
    }

    /// Packets from or to a guest that were dropped.
    pub fn dropped(&self, port: PortNumber, packets: u64) {
        if let Some(activity) = self.table.get(port) {
            add(&activity.dropped, packets);
        }
    }

    fn note(
        &self,
        port: PortNumber,
        which: impl Fn(&Activity) -> &AtomicU64,
        packets: u64,
        now_ns: u64,
    ) {
        if let Some(activity) = self.table.get(port) {
            add(which(activity), packets);
            activity.last_ms.store(now_ns / 1_000_000, Ordering::Relaxed);
        }
    }

    /// A port that is another's from now on.
    pub fn forget(&self, port: PortNumber) {
        if let Some(Activity { sent, received, dropped, last_ms }) = self.table.get(port) {
            for number in [sent, received, dropped, last_ms] {
                number.store(0, Ordering::Relaxed);
            }
        }
    }
}

/// Adds to a number that nobody else writes.
fn add(number: &AtomicU64, more: u64) {
    number.store(number.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_seen_by_who_maps_the_table_and_cannot_be_written() {
        let shared = Shared::new().unwrap();
        let seen = Table::map(&shared.file).unwrap();
        shared.sent(7, 3, 5_000_000);
        shared.received(7, 1, 9_000_000);
        shared.dropped(7, 2);
        let activity = seen.get(7).unwrap();
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        assert_eq!([&activity.sent, &activity.received, &activity.dropped].map(read), [3, 1, 2]);
        assert_eq!(read(&activity.last_ms), 9);
        shared.forget(7);
        assert_eq!([&activity.sent, &activity.last_ms].map(read), [0, 0]);
        assert!(seen.get(crate::protocol::PORTS_MAX).is_none());
        assert!(Table::map_with(&shared.file, libc::PROT_READ | libc::PROT_WRITE).is_err());
        assert!(ftruncate(&shared.file, 0).is_err());
    }
}
