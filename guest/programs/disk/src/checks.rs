//! What a device is and what it must refuse.

use crate::group::together;
use crate::{Checked, Failed, check};
use core::time::Duration;
use ilwaco::block::{Block, Buffer, Error};
use ilwaco::time::timeout;
use ilwaco::{print, println};

const SECTOR: u64 = ilwaco::block::SECTOR;
/// Requests that nobody waits for.
const ABANDONED: u64 = 200;

fn sector() -> Result<Buffer, Failed> {
    Buffer::zeroed(SECTOR as usize).ok_or(Failed::Device(Error::OutOfMemory))
}

/// Prints what the device is.
pub async fn info(block: Block) -> Checked {
    println!("sectors={}", block.sectors());
    println!("block_size={}", block.block_size());
    println!("read_only={}", block.is_read_only());
    print!("id=");
    for &byte in block.id().await?.iter().filter(|&&byte| byte != 0) {
        print!("{}", byte.escape_ascii());
    }
    println!();
    Ok(())
}

/// Positions outside the device are refused, and the last sector is inside.
pub async fn out_of_range(block: Block) -> Checked {
    for position in [block.bytes(), block.bytes() + SECTOR, u64::MAX - SECTOR + 1, 1] {
        let refused = block.read(position, sector()?).await.err() == Some(Error::OutOfRange);
        check(refused, "a read outside the device was let pass")?;
    }
    block.read(block.bytes() - SECTOR, sector()?).await?;
    Ok(())
}

/// Nothing changes a device that cannot be written.
pub async fn read_only(block: Block) -> Checked {
    check(block.is_read_only(), "the device can be written")?;
    let refused = Err(Error::ReadOnly);
    check(block.write(0, sector()?).await.map(drop) == refused, "a write was let pass")?;
    check(block.discard(0, SECTOR).await == refused, "a discard was let pass")?;
    check(block.write_zeroes(0, SECTOR, false).await == refused, "zeroing was let pass")?;
    block.read(0, sector()?).await?;
    Ok(())
}

/// Reads that are given up leave their buffers with the device, and all places come back.
pub async fn abandon(block: Block) -> Checked {
    together(ABANDONED, || async move {
        // Given up at once, unless the device was faster.
        let _ = timeout(Duration::ZERO, block.read(0, sector()?)).await;
        Ok(())
    })
    .await?;
    together(2 * ABANDONED, || async move {
        block.read(0, sector()?).await?;
        Ok(())
    })
    .await
}
