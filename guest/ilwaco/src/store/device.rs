//! What a store reads from.

use crate::block::{Block, Buffer, Error};
use core::future::Future;

/// A device of bytes that can be read at sector boundaries.
pub trait Device: 'static {
    /// Bytes of the device.
    fn bytes(&self) -> u64;

    /// Most bytes of one read.
    fn transfer_max(&self) -> usize;

    /// Reads as many bytes as `buffer` has from `position` on; gives the buffer back.
    ///
    /// # Errors
    /// Whatever the device says.
    fn read(&self, position: u64, buffer: Buffer) -> impl Future<Output = Result<Buffer, Error>>;
}

impl Device for Block {
    fn bytes(&self) -> u64 {
        Self::bytes(*self)
    }

    fn transfer_max(&self) -> usize {
        Self::transfer_max(*self)
    }

    fn read(&self, position: u64, buffer: Buffer) -> impl Future<Output = Result<Buffer, Error>> {
        Self::read(*self, position, buffer)
    }
}
