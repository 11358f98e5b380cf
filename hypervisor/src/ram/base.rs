//! Guest RAM that starts as a file has it: guests that are copies of one snapshot share its pages.

use super::pages::{FIRST_PAGE, PAGE, advise_small_pages};
use super::resident::page_run;
use super::sparse::data_runs;
use super::{Backing, GuestRam};
use crate::Error;
use crate::mapping::{map_at, read_file};
use nix::unistd::{Whence, lseek};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

/// A file that holds what RAM was at first.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) file: OwnedFd,
    /// Where RAM starts in it.
    pub(super) offset: u64,
    /// The pages it has data of, in order; all others are zeroes.
    pub(super) data: Vec<Range<u32>>,
}

impl Base {
    /// Where a page is in the file; `None` if it is zeroes.
    pub(super) fn position(&self, page: u32) -> Option<u64> {
        let after = self.data.partition_point(|run| run.start <= page);
        let within = after.checked_sub(1).is_some_and(|run| page < self.data[run].end);
        within.then(|| self.offset + u64::from(page - FIRST_PAGE) * PAGE as u64)
    }
}

impl GuestRam {
    /// Has RAM start as `file` has it from `offset` (page aligned) on: position `offset` + n is guest
    /// address [`RAM_START`](denali_abi::layout::RAM_START) + n, and holes are zeroes. Nobody may change
    /// or cut the file from here on: a mapping would change with it, or end the monitor.
    ///
    /// [`Backing::Private`] RAM maps the file copy-on-write; other RAM gets a copy of its data. To be
    /// called before [`GuestRam::map_image`], whose parts lie over it.
    ///
    /// # Errors
    /// When the file is shorter than RAM, cannot be read or mapped, or there is an image already.
    pub fn map_base(&mut self, file: OwnedFd, offset: u64) -> std::result::Result<(), Error> {
        const WHAT: &str = "look at the snapshot of guest memory";
        if self.image.is_some() || self.original.is_some() {
            return Err(Error::Misuse("guest memory has its content already"));
        }
        let length = self.pages().len() as u64 * PAGE as u64;
        let end = offset.checked_add(length).filter(|_| offset.is_multiple_of(PAGE as u64));
        // Not by `fstat`, which in the C library is a call that takes a path.
        let size = lseek(&file, 0, Whence::SeekEnd).map_err(Error::host(WHAT))?;
        let Some(end) = end.filter(|&end| i64::try_from(end).is_ok_and(|end| end <= size)) else {
            let source = io::Error::other("it is cut off, or does not start at a page");
            return Err(Error::Host { what: WHAT, source });
        };
        let runs = data_runs(file.as_fd(), offset..end).map_err(Error::host(WHAT))?;
        if self.backing == Backing::Private {
            let mapped = Some((file.as_fd(), offset));
            map_at(Some(self.base), length as usize, mapped, false)?;
            advise_small_pages(self.base, length as usize);
        } else {
            for run in &runs {
                let at = self.pointer(u64::from(FIRST_PAGE) * PAGE as u64 + (run.start - offset));
                let length = (run.end - run.start) as usize;
                // SAFETY: the run lies inside the part of the file that is RAM, so that its place lies
                // inside RAM, which is mapped writable and to which no Rust reference exists.
                unsafe { read_file(file.as_fd(), run.start, at, length)? };
            }
        }
        let in_ram = |run: Range<u64>| page_run(run.start - offset..run.end - offset);
        let data = runs.into_iter().map(in_ram).collect();
        self.original = Some(Base { file, offset, data });
        Ok(())
    }

    /// Whether RAM started as a file has it.
    #[must_use]
    pub fn has_base(&self) -> bool {
        self.original.is_some()
    }

    /// Maps zeroed memory in place of the base's file for these pages, whose content is lost, the guest's
    /// own changes included: userfaultfd takes no file's pages. What they were at first is known as
    /// before.
    ///
    /// # Errors
    /// When there are no such pages, one of them is a part of the image, RAM is not private, or the host
    /// refuses.
    pub fn detach_base(&self, pages: Range<u32>) -> io::Result<()> {
        let (start, length) = self.place_beside_image(&pages)?;
        if self.backing != Backing::Private {
            let text = "only private memory is mapped from a base";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        if length > 0 {
            map_at(Some(start), length, None, false).map_err(io::Error::other)?;
            advise_small_pages(start, length);
        }
        Ok(())
    }
}
