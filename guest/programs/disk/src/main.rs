//! Exercises the first block device of a Denali guest, as its arguments say.
//!
//! | arguments | what it does, and prints as `name=value` lines | status |
//! |---|---|---|
//! | `info` | `sectors`, `block_size`, `read_only`, `id` | 0 |
//! | `write SEED [SECTOR COUNT]` | writes the pattern of a seed, and flushes | 0 |
//! | `verify SEED [SECTOR COUNT]` | compares with the pattern | 0 |
//! | `discard SECTOR COUNT`, `zero SECTOR COUNT` | does that | 0 |
//! | `zeroed SECTOR COUNT` | compares with zeroes | 0 |
//! | `flush` | flushes | 0 |
//! | `out-of-range` | asks for what is outside the device | 0 |
//! | `read-only` | asks a device that cannot be written to be changed | 0 |
//! | `abandon` | leaves many reads to the device that nobody waits for | 0 |
//! | `random-read DEPTH BYTES SECONDS`, and `random-write`, `sequential-read`, `sequential-write` | keeps so many requests of so many bytes outstanding for so long: `requests`, `bytes`, `ns`, `exits` | 0 |
//!
//! The pattern of a seed: word number `n` of the device, of 64 bits, little-endian, is
//! (`n` + seed) × 0x9e3779b97f4a7c15 modulo 2^64. A check that fails prints a line that starts with
//! `FAILED` and ends with status 1; an unknown command ends with 2.
#![cfg_attr(guest_image, no_std, no_main)]

extern crate alloc;

mod checks;
mod group;
mod load;
mod pattern;

use alloc::vec::Vec;
use ilwaco::block::{Block, Error};
use ilwaco::println;

ilwaco::program!(async start, devices = [block]);

/// What did not come out as it should.
enum Failed {
    /// The device refused or failed.
    Device(Error),
    /// A check did not hold, and what it was about.
    Check(&'static str),
    /// There is no such command.
    Unknown,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Device(error)
    }
}

/// The result of a command.
type Checked = Result<(), Failed>;

/// `Ok` if the condition holds.
fn check(holds: bool, what: &'static str) -> Checked {
    if holds { Ok(()) } else { Err(Failed::Check(what)) }
}

/// Runs the command of the argument string.
async fn start() -> u8 {
    let arguments = ilwaco::registers::arguments();
    match run(arguments).await {
        Ok(()) => return 0,
        Err(Failed::Device(error)) => println!("FAILED {arguments}: {error}"),
        Err(Failed::Check(what)) => println!("FAILED {arguments}: {what}"),
        Err(Failed::Unknown) => {
            println!("unknown command \"{arguments}\"");
            return 2;
        }
    }
    1
}

async fn run(arguments: &str) -> Checked {
    let mut words = arguments.split_ascii_whitespace();
    let command = words.next().unwrap_or_default();
    let numbers: Vec<u64> = words.map(|word| word.parse().unwrap_or(0)).collect();
    let number = |index: usize| numbers.get(index).copied().unwrap_or(0);
    let block = Block::first()?;
    match (command, numbers.len()) {
        ("info", 0) => checks::info(block).await,
        ("write", 1) => pattern::write(block, number(0), 0, block.sectors()).await,
        ("write", 3) => pattern::write(block, number(0), number(1), number(2)).await,
        ("verify", 1) => pattern::verify(block, number(0), 0, block.sectors()).await,
        ("verify", 3) => pattern::verify(block, number(0), number(1), number(2)).await,
        ("discard", 2) => Ok(block.discard(512 * number(0), 512 * number(1)).await?),
        ("zero", 2) => Ok(block.write_zeroes(512 * number(0), 512 * number(1), true).await?),
        ("zeroed", 2) => pattern::zeroed(block, number(0), number(1)).await,
        ("flush", 0) => Ok(block.flush().await?),
        ("out-of-range", 0) => checks::out_of_range(block).await,
        ("read-only", 0) => checks::read_only(block).await,
        ("abandon", 0) => checks::abandon(block).await,
        (_, 3) => match load::Kind::named(command) {
            Some(kind) => load::run(block, kind, number(0), number(1), number(2)).await,
            None => Err(Failed::Unknown),
        },
        _ => Err(Failed::Unknown),
    }
}
