//! What is written so that it can be recognized: every word of the device differs from every other.

use crate::group::together;
use crate::{Checked, Failed, check};
use alloc::rc::Rc;
use core::cell::Cell;
use ilwaco::block::{Block, Buffer, Error};

/// Bytes of a piece.
const PIECE: usize = 32 * 1024;
/// Pieces under way at a time.
const DEPTH: u64 = 16;

const SECTOR: u64 = ilwaco::block::SECTOR;

fn word(seed: u64, number: u64) -> u64 {
    number.wrapping_add(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn fill(buffer: &mut [u8], seed: u64, position: u64) {
    for (number, bytes) in (position / 8..).zip(buffer.as_chunks_mut::<8>().0) {
        *bytes = word(seed, number).to_le_bytes();
    }
}

fn matches(buffer: &[u8], seed: u64, position: u64) -> bool {
    let words = buffer.as_chunks::<8>().0;
    (position / 8..).zip(words).all(|(number, bytes)| *bytes == word(seed, number).to_le_bytes())
}

/// Hands out the pieces of a range, each once.
struct Pieces {
    next: Cell<u64>,
    end: u64,
}

impl Pieces {
    fn of(first: u64, count: u64) -> Rc<Self> {
        let end = first.saturating_add(count).saturating_mul(SECTOR);
        Rc::new(Self { next: Cell::new(first.saturating_mul(SECTOR)), end })
    }

    /// Position and length of the next piece.
    fn take(&self) -> Option<(u64, usize)> {
        let position = self.next.get();
        let len = self.end.saturating_sub(position).min(PIECE as u64);
        self.next.set(position + len);
        (len > 0).then_some((position, len as usize))
    }
}

fn buffer() -> Result<Buffer, Failed> {
    Buffer::zeroed(PIECE).ok_or(Failed::Device(Error::OutOfMemory))
}

/// Writes the pattern of a seed into `count` sectors from `first` on, and flushes.
pub async fn write(block: Block, seed: u64, first: u64, count: u64) -> Checked {
    let pieces = Pieces::of(first, count);
    together(DEPTH, || {
        let pieces = Rc::clone(&pieces);
        async move {
            let mut buffer = buffer()?;
            while let Some((position, len)) = pieces.take() {
                buffer.set_len(len);
                fill(&mut buffer, seed, position);
                buffer = block.write(position, buffer).await?;
            }
            Ok(())
        }
    })
    .await?;
    Ok(block.flush().await?)
}

/// Compares `count` sectors from `first` on with the pattern of a seed.
pub async fn verify(block: Block, seed: u64, first: u64, count: u64) -> Checked {
    compare(block, Pieces::of(first, count), move |buffer, position| {
        check(matches(buffer, seed, position), "the device holds something else than the pattern")
    })
    .await
}

/// Compares `count` sectors from `first` on with zeroes.
pub async fn zeroed(block: Block, first: u64, count: u64) -> Checked {
    compare(block, Pieces::of(first, count), |buffer, _| {
        check(buffer.iter().all(|&byte| byte == 0), "the device holds something else than zeroes")
    })
    .await
}

async fn compare<C>(block: Block, pieces: Rc<Pieces>, compare: C) -> Checked
where
    C: Fn(&[u8], u64) -> Checked + Copy + 'static,
{
    together(DEPTH, || {
        let pieces = Rc::clone(&pieces);
        async move {
            let mut buffer = buffer()?;
            while let Some((position, len)) = pieces.take() {
                buffer.set_len(len);
                buffer.fill(0xaa);
                buffer = block.read(position, buffer).await?;
                compare(&buffer, position)?;
            }
            Ok(())
        }
    })
    .await
}
