//! Which pages of guest RAM take memory of the guest's own.

use super::pages::{FIRST_PAGE, PAGE, unsupported};
use super::sparse::data_runs;
use super::{Backing, GuestRam};
use crate::Error;
use nix::sys::uio::pread;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Pages whose entries are read at once.
const AT_ONCE: usize = 4096;

/// Opens the host's account of this process's pages, whatever memory it will have.
///
/// # Errors
/// When there is no `/proc`.
pub fn open_account() -> std::result::Result<OwnedFd, Error> {
    let pagemap = File::open("/proc/self/pagemap");
    Ok(pagemap.map_err(Error::host("open /proc/self/pagemap"))?.into())
}

impl GuestRam {
    /// Opens what [`GuestRam::resident_pages`] needs: before the sandbox, which opens nothing.
    ///
    /// # Errors
    /// When there is no `/proc`.
    pub fn watch_pages(&mut self) -> std::result::Result<(), Error> {
        if self.backing == Backing::Private {
            self.watch_pages_by(open_account()?);
        }
        Ok(())
    }

    /// The same with what [`open_account`] has opened before.
    pub fn watch_pages_by(&mut self, account: OwnedFd) {
        self.pagemap = Some(account);
    }

    /// The pages that were written or touched, in order, those included that the host itself has swapped.
    /// Not those whose content is still that of the base's file, mapped from there, nor mapped parts of the image,
    /// which no guest can write.
    ///
    /// # Errors
    /// When the host cannot tell, [`GuestRam::watch_pages`] was not called, or others map the memory.
    pub fn resident_pages(&self) -> io::Result<Vec<u32>> {
        match (self.backing, &self.pagemap, &self.memfd) {
            (Backing::Private, Some(pagemap), _) => self.private_pages(pagemap.as_fd()),
            (Backing::Shared, _, Some(memfd)) => self.shared_pages(memfd.as_fd()),
            (Backing::Exported, ..) => Err(unsupported()),
            _ => Err(io::Error::other("nothing was opened to tell pages by")),
        }
    }

    fn private_pages(&self, pagemap: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
        let Range { start, end } = self.pages();
        let first = self.host_base() / PAGE as u64;
        let mut entries = vec![0; AT_ONCE * 8];
        let mut pages = Vec::new();
        let mut next = start;
        while next < end {
            let count = ((end - next) as usize).min(AT_ONCE);
            let at = (first + u64::from(next - start)) * 8;
            read_exactly(pagemap, &mut entries[..count * 8], at)?;
            let entries = entries[..count * 8].as_chunks::<8>().0;
            let own = |(page, entry): (u32, &[u8; 8])| {
                let own = is_own(u64::from_ne_bytes(*entry)) && !self.is_image_page(page);
                own.then_some(page)
            };
            pages.extend((next..).zip(entries).filter_map(own));
            next += count as u32;
        }
        Ok(pages)
    }

    fn shared_pages(&self, memfd: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
        let length = u64::from(self.pages().end - FIRST_PAGE) * PAGE as u64;
        let runs = data_runs(memfd, 0..length)?;
        Ok(runs.into_iter().flat_map(page_run).collect())
    }
}

/// Pages that bytes of RAM, counted from its start, lie in.
pub(super) fn page_run(bytes: Range<u64>) -> Range<u32> {
    let page = |at: u64| FIRST_PAGE + (at / PAGE as u64) as u32;
    page(bytes.start)..page(bytes.end.next_multiple_of(PAGE as u64))
}

/// Whether an entry (Documentation/admin-guide/mm/pagemap.rst of Linux) is of a page that is there, in
/// memory or swapped by the host, and not a file's.
fn is_own(entry: u64) -> bool {
    const PRESENT_OR_SWAPPED: u64 = 1 << 63 | 1 << 62;
    const OF_FILE: u64 = 1 << 61;
    entry & PRESENT_OR_SWAPPED != 0 && entry & OF_FILE == 0
}

fn read_exactly(file: BorrowedFd<'_>, mut to: &mut [u8], mut at: u64) -> io::Result<()> {
    while !to.is_empty() {
        match pread(file, to, at as i64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => (to, at) = (&mut to[count..], at + count as u64),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_the_host_has_swapped_are_not_forgotten() {
        assert!(is_own(1 << 63));
        assert!(is_own(1 << 62 | 0x12345));
        assert!(!is_own(0), "nothing there");
        assert!(!is_own(1 << 63 | 1 << 61), "the image's");
        assert!(!is_own(1 << 61));
    }
}
