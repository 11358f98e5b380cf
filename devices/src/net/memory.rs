//! Frames where they lie: pieces of guest memory, for system calls that read and write them there.

use super::NET_HEADER;
use super::checksum::transport_checksum;
use std::cell::Cell;
use std::marker::PhantomData;
use vm_memory::VolatileSlice;
use vm_memory::bitmap::BitmapSlice;

/// A piece of memory that is mapped for as long as it is borrowed, and that others may change at any
/// time. It is laid out like the kernel's `iovec`: address, then length.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    start: *mut u8,
    length: usize,
    memory: PhantomData<&'a ()>,
}

impl<'a> Piece<'a> {
    /// A piece of guest memory. Writes into it are not recorded in a dirty bitmap.
    pub fn of_guest<B: BitmapSlice>(slice: &VolatileSlice<'a, B>) -> Self {
        let guard = slice.ptr_guard_mut();
        Self { start: guard.as_ptr(), length: slice.len(), memory: PhantomData }
    }

    /// Bytes of the monitor's own.
    #[must_use]
    pub fn of_own(bytes: &'a [Cell<u8>]) -> Self {
        let start = bytes.as_ptr().cast::<u8>().cast_mut();
        Self { start, length: bytes.len(), memory: PhantomData }
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// No bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The part of it from `offset` on, at most `length` bytes.
    #[must_use]
    pub fn part(self, offset: usize, length: usize) -> Self {
        let offset = offset.min(self.length);
        let length = length.min(self.length - offset);
        // SAFETY: the offset is inside the piece, or one past its end.
        Self { start: unsafe { self.start.add(offset) }, length, ..self }
    }

    fn volatile(&self) -> VolatileSlice<'a, ()> {
        // SAFETY: the piece was made from memory that stays mapped for its lifetime, and
        // `VolatileSlice` is made for memory that others change.
        unsafe { VolatileSlice::new(self.start, self.length) }
    }
}

/// Copies bytes into pieces, `offset` bytes from their start, as far as there is room.
pub(crate) fn copy_in(pieces: &[Piece<'_>], offset: usize, mut bytes: &[u8]) {
    let mut skip = offset;
    for piece in pieces {
        let part = piece.part(skip, usize::MAX);
        skip -= skip.min(piece.len());
        let (now, later) = bytes.split_at(bytes.len().min(part.len()));
        part.volatile().copy_from(now);
        bytes = later;
        if bytes.is_empty() {
            break;
        }
    }
}

/// Copies bytes out of pieces, from `offset` bytes after their start; how many there were.
pub(crate) fn copy_out(pieces: &[Piece<'_>], offset: usize, into: &mut [u8]) -> usize {
    let mut skip = offset;
    let mut done = 0;
    for piece in pieces {
        let part = piece.part(skip, into.len() - done);
        skip -= skip.min(piece.len());
        part.volatile().copy_to(&mut into[done..done + part.len()]);
        done += part.len();
        if done == into.len() {
            break;
        }
    }
    done
}

/// A frame of the guest, with its header: the header is the card's own copy, which was checked.
#[derive(Debug)]
pub struct Packet<'a, 'b> {
    pieces: &'b [Piece<'a>],
    length: usize,
}

impl<'a, 'b> Packet<'a, 'b> {
    /// A packet of these pieces, the first of which is the header.
    pub(crate) fn new(pieces: &'b [Piece<'a>]) -> Self {
        Self { pieces, length: pieces.iter().map(Piece::len).sum() }
    }

    /// Header and frame.
    #[must_use]
    pub fn pieces(&self) -> &'b [Piece<'a>] {
        self.pieces
    }

    /// Bytes of the frame, without the header.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        self.length - NET_HEADER
    }

    /// Copies the frame, without the header; what `frame` had is replaced.
    pub fn copy_frame(&self, frame: &mut Vec<u8>) {
        frame.resize(self.frame_len(), 0);
        copy_out(self.pieces, NET_HEADER, frame);
    }
}

/// Room for a frame to the guest: the card's own for the header, the guest's for the frame, and one
/// byte behind it by which a frame that does not fit is told from one that just does.
#[derive(Debug)]
pub struct Room<'a, 'b> {
    pieces: &'b [Piece<'a>],
}

impl<'a, 'b> Room<'a, 'b> {
    /// Room in these pieces, the first of which is for the header.
    pub(crate) fn new(pieces: &'b [Piece<'a>]) -> Self {
        Self { pieces }
    }

    /// Where header and frame go.
    #[must_use]
    pub fn pieces(&self) -> &'b [Piece<'a>] {
        self.pieces
    }

    /// Copies header and frame there, as far as there is room; how many bytes they have.
    pub fn put(&mut self, header: &[u8; NET_HEADER], frame: &[u8]) -> usize {
        copy_in(self.pieces, 0, header);
        copy_in(self.pieces, NET_HEADER, frame);
        NET_HEADER + frame.len()
    }

    /// Computes the transport checksum of the frame that was put there, if it is to have one.
    pub fn complete_checksum(&mut self, frame: &[u8]) {
        if let Some((at, checksum)) = transport_checksum(frame) {
            copy_in(self.pieces, NET_HEADER + at, &checksum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pieces of these lengths over one buffer.
    fn cut<'a>(buffer: &'a mut [u8], lengths: &[usize]) -> Vec<Piece<'a>> {
        let whole = Piece::of_own(Cell::from_mut(buffer).as_slice_of_cells());
        let mut at = 0;
        let mut piece = |&length: &usize| {
            at += length;
            whole.part(at - length, length)
        };
        lengths.iter().map(&mut piece).collect()
    }

    proptest! {
        #[test]
        fn what_is_put_into_pieces_comes_out(
            lengths in prop::collection::vec(0..40_usize, 1..12),
            offset in 0..200_usize,
            bytes in prop::collection::vec(1..=255_u8, 0..300),
        ) {
            let total: usize = lengths.iter().sum();
            let mut buffer = vec![0; total];
            copy_in(&cut(&mut buffer, &lengths), offset, &bytes);
            let fits = bytes.len().min(total.saturating_sub(offset));
            prop_assert!(buffer[..offset.min(total)].iter().all(|&byte| byte == 0));
            prop_assert_eq!(&buffer[offset.min(total)..][..fits], &bytes[..fits]);
            let mut got = vec![0; bytes.len()];
            prop_assert_eq!(copy_out(&cut(&mut buffer, &lengths), offset, &mut got), fits);
            prop_assert_eq!(&got[..fits], &bytes[..fits]);
        }
    }
}
