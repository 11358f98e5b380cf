//! Console and entropy devices.

use crate::{Checked, Failed, check};
use ilwaco::console::Console;
use ilwaco::{entropy, println};

/// Bytes that are written to a console at a time.
const PIECE: usize = 10_000;

fn console() -> Result<Console, Failed> {
    Console::first().map_err(|_| Failed("no console device"))
}

/// Answers each line of the console device, until one says `quit`.
pub async fn console_echo() -> Checked {
    let console = console()?;
    println!("ready");
    loop {
        let line = console.read_line().await;
        console.write_all(b"you said: ").await;
        console.write_all(&line).await;
        console.write_all(b"\n").await;
        if line == b"quit" {
            console.flush().await;
            return Ok(());
        }
    }
}

/// Writes so many bytes to the console device: the letters again and again.
pub async fn console_bulk(mut count: u64) -> Checked {
    let console = console()?;
    let mut piece = [0; PIECE];
    let mut letter = 0;
    while count > 0 {
        let len = count.min(PIECE as u64) as usize;
        for byte in &mut piece[..len] {
            *byte = b'a' + letter;
            letter = (letter + 1) % 26;
        }
        console.write_all(&piece[..len]).await;
        count -= len as u64;
    }
    console.flush().await;
    Ok(())
}

/// Counts bytes of input, and adds them up, until there were so many.
pub async fn console_count(count: u64) -> Checked {
    let console = console()?;
    println!("ready");
    let mut room = [0; 3000];
    let (mut seen, mut sum) = (0, 0_u64);
    while seen < count {
        let len = console.read(&mut room).await;
        seen += len as u64;
        sum = room[..len].iter().fold(sum, |sum, &byte| sum.wrapping_add(byte.into()));
    }
    println!("bytes={seen}");
    println!("sum={sum}");
    Ok(())
}

/// Reads so many bytes from the entropy device, which are all sorts of bytes, and reseeds from it.
pub async fn entropy_device(count: u64) -> Checked {
    let missing = |_| Failed("no entropy device");
    let mut seen = [0_u32; 256];
    let mut left = count;
    while left > 0 {
        let mut bytes = [0; 100];
        let len = left.min(bytes.len() as u64) as usize;
        entropy::read_device(&mut bytes[..len]).await.map_err(missing)?;
        bytes[..len].iter().for_each(|&byte| seen[usize::from(byte)] += 1);
        left -= len as u64;
    }
    // Each value is expected as often as any other; eight times as often is beyond all chance.
    let most = u64::from(seen.iter().copied().max().unwrap_or(0));
    check(most < 8 * (count / 256 + 8), "bytes that are not random")?;
    let before = entropy::next_u64();
    entropy::reseed().await.map_err(missing)?;
    check(entropy::next_u64() != before, "a generator that stands still")?;
    println!("bytes={count}");
    Ok(())
}
