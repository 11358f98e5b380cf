//! The bounce buffer: aligned memory for requests whose own memory `O_DIRECT` does not take, and zeroes.

use denali_devices::virtio::HostSlice;
use std::collections::VecDeque;

const PAGE: usize = 4096;

/// Bytes that go through the buffer at a time.
const BUFFER: usize = 64 * PAGE;
/// Bytes of zeroes that are written at a time.
const ZEROES: usize = 16 * PAGE;
/// Times the zeroes are named in one write.
const ZEROES_REPEATED: usize = 16;

#[derive(Clone)]
#[repr(align(4096))]
struct Page(#[expect(dead_code, reason = "seen as bytes of the whole buffer")] [u8; PAGE]);

/// The buffer, which one piece has at a time, and the pieces that wait for it. Memory is taken when it is
/// first needed.
#[derive(Default)]
pub(crate) struct Bounce {
    buffer: Vec<Page>,
    zeroes: Vec<Page>,
    zero_slices: Vec<HostSlice>,
    owner: Option<u32>,
    waiting: VecDeque<u32>,
}

impl Bounce {
    /// Gives the buffer to `piece`, or has it wait; true when it has it.
    pub(crate) fn acquire(&mut self, piece: u32) -> bool {
        match self.owner {
            Some(owner) if owner != piece => {
                self.waiting.push_back(piece);
                false
            }
            _ => {
                self.owner = Some(piece);
                true
            }
        }
    }

    /// Takes the buffer back from `piece`, if it has it; the piece that is to have it next.
    pub(crate) fn release(&mut self, piece: u32) -> Option<u32> {
        if self.owner != Some(piece) {
            return None;
        }
        self.owner = self.waiting.pop_front();
        self.owner
    }

    /// The buffer, for the first of `length` bytes.
    pub(crate) fn slice(&mut self, length: u64) -> HostSlice {
        self.buffer.resize(BUFFER / PAGE, Page([0; PAGE]));
        let length = length.min(BUFFER as u64) as usize;
        HostSlice { address: self.buffer.as_mut_ptr() as usize, length }
    }

    /// Copies from memory into the buffer.
    ///
    /// # Safety
    /// The slices are mapped; nothing in flight uses the buffer.
    pub(crate) unsafe fn fill(&mut self, from: &[HostSlice], length: usize) {
        let mut rest = &mut as_bytes(&mut self.buffer)[..length];
        for slice in from {
            let (now, later) = rest.split_at_mut(slice.length.min(rest.len()));
            // SAFETY: the caller's.
            unsafe { slice.copy_to(now) };
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
    }

    /// Copies out of the buffer into memory.
    ///
    /// # Safety
    /// The slices are mapped and writable; nothing in flight uses the buffer.
    pub(crate) unsafe fn empty(&mut self, into: &[HostSlice], length: usize) {
        let mut rest = &as_bytes(&mut self.buffer)[..length];
        for slice in into {
            let (now, later) = rest.split_at(slice.length.min(rest.len()));
            // SAFETY: the caller's.
            unsafe { slice.copy_from(now) };
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
    }

    /// Zeroes for the first of `length` bytes to be written: slices, how many of them, how many bytes.
    pub(crate) fn zeroes(&mut self, length: u64) -> (&[HostSlice], u64) {
        if self.zeroes.is_empty() {
            self.zeroes = vec![Page([0; PAGE]); ZEROES / PAGE];
            let address = self.zeroes.as_ptr() as usize;
            self.zero_slices = vec![HostSlice { address, length: ZEROES }; ZEROES_REPEATED + 1];
        }
        let address = self.zeroes.as_ptr() as usize;
        let whole = (length / ZEROES as u64).min(ZEROES_REPEATED as u64) as usize;
        if whole > 0 {
            return (&self.zero_slices[..whole], (whole * ZEROES) as u64);
        }
        self.zero_slices[ZEROES_REPEATED] = HostSlice { address, length: length as usize };
        (&self.zero_slices[ZEROES_REPEATED..], length)
    }
}

fn as_bytes(pages: &mut [Page]) -> &mut [u8] {
    // SAFETY: a page is an array of bytes without padding, so the pages are so many bytes in a row.
    unsafe { std::slice::from_raw_parts_mut(pages.as_mut_ptr().cast(), pages.len() * PAGE) }
}
