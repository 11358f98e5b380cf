//! What a page of guest RAM was before the guest changed it: pages that are so again need not be kept.

use super::GuestRam;
use super::image::Image;
use super::pages::PAGE;
use denali_abi::layout::PAGE_SIZE;
use nix::errno::Errno;
use nix::sys::uio::pread;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

static ZEROES: [u8; PAGE] = [0; PAGE];

/// What a page was at first.
#[derive(Debug)]
pub struct Original(Option<Box<[u8; PAGE]>>);

impl Original {
    /// Its bytes.
    #[must_use]
    pub fn content(&self) -> &[u8; PAGE] {
        self.0.as_deref().unwrap_or(&ZEROES)
    }

    /// Whether the page is still, or again, what it was.
    #[must_use]
    pub fn is(&self, content: &[u8; PAGE]) -> bool {
        self.content() == content
    }

    /// Whether it was all zeroes.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.is(&ZEROES)
    }
}

impl GuestRam {
    /// What a page was at first: what the image's file has where it is mapped; elsewhere what the base has,
    /// or, without a base, what was copied of the image, and zeroes around it.
    ///
    /// # Errors
    /// When there is no such page, or the file cannot be read.
    pub fn original_of(&self, page: u32) -> io::Result<Original> {
        self.place(&(page..page.saturating_add(1)))?;
        let start = u64::from(page) * PAGE_SIZE;
        let base = self.original.as_ref();
        if let Some(base) = base.filter(|_| !self.has_image_part(start, start + PAGE_SIZE)) {
            let piece = base.position(page).map(|position| (position, 0..PAGE));
            return read(base.file.as_fd(), piece).map(Original);
        }
        self.original_in_image(page)
    }

    /// What a page is at first of a guest that starts from the image alone, whatever this one started from: what
    /// the image's file has there, and zeroes around it.
    ///
    /// # Errors
    /// As [`GuestRam::original_of`].
    pub fn original_in_image(&self, page: u32) -> io::Result<Original> {
        self.place(&(page..page.saturating_add(1)))?;
        let start = u64::from(page) * PAGE_SIZE;
        let Some(image) = &self.image else { return Ok(Original(None)) };
        read(image.file.as_fd(), image.pieces_of(start)).map(Original)
    }

    /// The pages that were not all zeroes at first, as far as is known without reading them; in order,
    /// without those of mapped parts of the image.
    pub fn pages_with_originals(&self) -> impl Iterator<Item = u32> + '_ {
        let base = self.original.as_ref().map(|base| base.data.clone());
        self.apart(base.unwrap_or_else(|| self.copied_pages()))
    }

    /// The same, of a guest that starts from the image alone, whatever this one started from.
    pub fn pages_with_originals_in_image(&self) -> impl Iterator<Item = u32> + '_ {
        self.apart(self.copied_pages())
    }

    fn copied_pages(&self) -> Vec<Range<u32>> {
        self.image.as_ref().map(Image::copied_pages).unwrap_or_default()
    }

    /// Pages of these runs that no part of the image is mapped at.
    fn apart(&self, runs: Vec<Range<u32>>) -> impl Iterator<Item = u32> + '_ {
        runs.into_iter().flatten().filter(|&page| !self.is_image_page(page))
    }
}

impl Image {
    /// Where the file has pieces of the page that starts at this address, and where in it they belong.
    fn pieces_of(&self, start: u64) -> impl Iterator<Item = (u64, Range<usize>)> + '_ {
        let end = start + PAGE_SIZE;
        let mapped = self.parts.iter().map(|part| (part.start..part.end, part.file_offset));
        let copied = self.copies.iter();
        let copied =
            copied.map(|copy| (copy.address..copy.address + copy.length, copy.file_offset));
        mapped.chain(copied).filter_map(move |(bytes, file_offset)| {
            let piece = bytes.start.max(start)..bytes.end.min(end);
            (piece.start < piece.end).then(|| {
                let position = file_offset + (piece.start - bytes.start);
                (position, (piece.start - start) as usize..(piece.end - start) as usize)
            })
        })
    }

    /// Runs of pages that something was copied into, in order and disjoint.
    fn copied_pages(&self) -> Vec<Range<u32>> {
        let page = |address: u64| (address / PAGE_SIZE) as u32;
        let copies = self.copies.iter().filter(|copy| copy.length > 0);
        let mut runs: Vec<Range<u32>> = copies
            .map(|copy| page(copy.address)..page(copy.address + copy.length - 1) + 1)
            .collect();
        runs.sort_unstable_by_key(|run| run.start);
        let mut reached = 0;
        for run in &mut runs {
            run.start = run.start.max(reached);
            reached = reached.max(run.end);
        }
        runs
    }
}

/// A page of zeroes with pieces of a file in it; `None` without pieces. What lies behind the file's end is
/// zeroes.
fn read(
    file: BorrowedFd<'_>,
    pieces: impl IntoIterator<Item = (u64, Range<usize>)>,
) -> io::Result<Option<Box<[u8; PAGE]>>> {
    let mut content: Option<Box<[u8; PAGE]>> = None;
    for (mut position, piece) in pieces {
        let mut to = &mut content.get_or_insert_with(|| Box::new(ZEROES))[piece];
        while !to.is_empty() {
            match pread(file, to, position as i64) {
                Ok(0) => break,
                Ok(count) => (to, position) = (&mut to[count..], position + count as u64),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(content)
}
