//! Load: a number of requests that is kept outstanding for a while.

use crate::group::together;
use crate::{Checked, Failed};
use alloc::rc::Rc;
use core::cell::Cell;
use core::sync::atomic::Ordering;
use core::time::Duration;
use ilwaco::block::{Block, Buffer, Error};
use ilwaco::clock::Instant;
use ilwaco::println;
use ilwaco::registers::virtual_registers;

const SECTOR: u64 = ilwaco::block::SECTOR;

/// Which requests are made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    random: bool,
    write: bool,
}

impl Kind {
    /// The kind with this name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "random-read" => Self { random: true, write: false },
            "random-write" => Self { random: true, write: true },
            "sequential-read" => Self { random: false, write: false },
            "sequential-write" => Self { random: false, write: true },
            _ => return None,
        })
    }
}

/// What the tasks share.
struct Load {
    kind: Kind,
    /// Bytes of a request.
    bytes: u64,
    /// Requests that fit the device.
    places: u64,
    end: Instant,
    /// The next place, or the state of the generator of places.
    next: Cell<u64>,
    requests: Cell<u64>,
}

impl Load {
    /// The position of the next request.
    fn position(&self) -> u64 {
        let next = self.next.get();
        if !self.kind.random {
            self.next.set(next + 1);
            return next % self.places * self.bytes;
        }
        // SplitMix64.
        let state = next.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.next.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let random = mixed ^ (mixed >> 31);
        ((u128::from(random) * u128::from(self.places)) >> 64) as u64 * self.bytes
    }

    async fn work(self: Rc<Self>, block: Block) -> Checked {
        let mut buffer =
            Buffer::zeroed(self.bytes as usize).ok_or(Failed::Device(Error::OutOfMemory))?;
        while Instant::now() < self.end {
            let position = self.position();
            buffer = if self.kind.write {
                block.write(position, buffer).await?
            } else {
                block.read(position, buffer).await?
            };
            self.requests.set(self.requests.get() + 1);
        }
        Ok(())
    }
}

/// Keeps `depth` requests of `bytes` outstanding for some seconds, and prints how far that came.
pub async fn run(block: Block, kind: Kind, depth: u64, bytes: u64, seconds: u64) -> Checked {
    let fits = bytes > 0 && bytes.is_multiple_of(SECTOR) && bytes <= block.bytes();
    if !fits || bytes > block.transfer_max() as u64 {
        return Err(Failed::Device(Error::OutOfRange));
    }
    let start = Instant::now();
    let exits = virtual_registers().exits.load(Ordering::Relaxed);
    let load = Rc::new(Load {
        kind,
        bytes,
        places: block.bytes() / bytes,
        end: start + Duration::from_secs(seconds),
        next: Cell::new(if kind.random { ilwaco::entropy::next_u64() } else { 0 }),
        requests: Cell::new(0),
    });
    together(depth, || Rc::clone(&load).work(block)).await?;
    let ns = start.elapsed().as_nanos();
    let exits = virtual_registers().exits.load(Ordering::Relaxed) - exits;
    println!("requests={}", load.requests.get());
    println!("bytes={}", load.requests.get() * bytes);
    println!("ns={ns}");
    println!("exits={exits}");
    Ok(())
}
