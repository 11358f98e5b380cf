//! One piece of a request: a range of one file, and where in memory it comes from or goes.

use denali_devices::block::RequestId;
use denali_devices::virtio::HostSlice;

/// Most slices of a piece: what the kernel takes in one call (`IOV_MAX`).
pub(crate) const SLICES_MAX: usize = 1024;

/// What is done with a range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Read,
    Write {
        durable: bool,
    },
    /// `fdatasync`.
    Sync,
    /// Makes a hole.
    Punch,
    /// Zeroes, which keep their space.
    Zero,
}

/// What is left to be done of a piece.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) request: RequestId,
    pub(crate) file: usize,
    pub(crate) action: Action,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// Memory of reads and writes; those before `first` are done with.
    slices: Vec<HostSlice>,
    first: usize,
    /// A hole is asked for, and nobody minds if there is none.
    pub(crate) hint: bool,
    /// The data goes by way of the bounce buffer.
    pub(crate) bounced: bool,
    /// The file system cannot make it zeroes, so zeroes are written.
    pub(crate) filled: bool,
    /// Times it was begun again with nothing done.
    pub(crate) stalls: u32,
}

impl Piece {
    pub(crate) fn new() -> Self {
        Self {
            request: 0,
            file: 0,
            action: Action::Sync,
            offset: 0,
            length: 0,
            slices: Vec::new(),
            first: 0,
            hint: false,
            bounced: false,
            filled: false,
            stalls: 0,
        }
    }

    /// Makes it another piece, which has no memory yet.
    pub(crate) fn renew(&mut self, request: RequestId, file: usize, action: Action) {
        let slices = std::mem::take(&mut self.slices);
        *self = Self { request, file, action, slices, ..Self::new() };
        self.slices.clear();
    }

    /// Appends memory; false when there is no room for more.
    pub(crate) fn push(&mut self, slice: HostSlice) -> bool {
        let full = self.slices.len() == SLICES_MAX;
        match self.slices.last_mut() {
            Some(last) if last.address + last.length == slice.address => {
                last.length += slice.length;
            }
            _ if full => return false,
            _ => self.slices.push(slice),
        }
        self.length += slice.length as u64;
        true
    }

    /// Memory of what is left to do.
    pub(crate) fn slices(&self) -> &[HostSlice] {
        &self.slices[self.first..]
    }

    /// The first `bytes` of what was left are done.
    pub(crate) fn advance(&mut self, bytes: u64) {
        self.offset += bytes;
        self.length -= bytes;
        let mut left = bytes as usize;
        while let Some(slice) = self.slices.get_mut(self.first) {
            let now = left.min(slice.length);
            slice.address += now;
            slice.length -= now;
            left -= now;
            if slice.length > 0 {
                break;
            }
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_is_not_done_again() {
        let mut piece = Piece::new();
        piece.renew(3, 0, Action::Read);
        for (address, length) in [(0x1000, 512), (0x1200, 512), (0x9000, 1024)] {
            assert!(piece.push(HostSlice { address, length }));
        }
        assert_eq!((piece.length, piece.slices().len()), (2048, 2));
        piece.advance(1000);
        assert_eq!(piece.slices()[0], HostSlice { address: 0x13e8, length: 24 });
        piece.advance(24);
        assert_eq!(piece.slices(), [HostSlice { address: 0x9000, length: 1024 }]);
        piece.advance(1024);
        assert_eq!((piece.length, piece.offset, piece.slices().len()), (0, 2048, 0));
    }

    #[test]
    fn a_piece_has_as_many_slices_as_a_call() {
        let mut piece = Piece::new();
        for index in 0..SLICES_MAX {
            assert!(piece.push(HostSlice { address: index * 1024, length: 512 }));
        }
        assert!(!piece.push(HostSlice { address: SLICES_MAX * 1024, length: 512 }));
        assert_eq!(piece.length, SLICES_MAX as u64 * 512);
    }
}
