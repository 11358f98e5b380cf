//! The life of the smallest guest: time to the first byte it writes, and from there to its end.

use super::set_times;
use crate::backend::Backend;
use crate::figures::Figures;
use crate::guest::{Guest, Way};
use crate::programs::Programs;
use crate::running::Running;
use crate::summary::Series;
use anyhow::{Context, Result, bail};
use std::io::{self, PipeReader, Read};
use std::time::{Duration, Instant};

/// Memory sizes that are measured, in MiB, and what the names of their figures have in them.
const SIZES: [(u64, &str); 2] = [(16, ""), (128, "_128mib")];

/// What the guest writes, in one piece, just before it rings TERMINATE.
const GREETING: &[u8] = b"hello from a Denali guest\n";

/// Measures each way and size in turn, `runs` times.
pub(super) fn measure(
    backend: Backend,
    runs: u32,
    programs: &Programs,
    figures: &mut Figures,
) -> Result<()> {
    let mut kinds = Vec::new();
    for way in Way::ALL {
        for (memory_mib, infix) in SIZES {
            let name = format!("{}{infix}", way.infix());
            kinds.push((
                way,
                Guest::hello(backend, memory_mib),
                name,
                [Series::default(), Series::default()],
            ));
        }
    }
    for _ in 0..runs {
        for (way, guest, _, [first_byte, exit]) in &mut kinds {
            let life = live(*way, *guest, programs)?;
            first_byte.push(life.first_byte.as_secs_f64() * 1000.0);
            exit.push(life.exit.as_secs_f64() * 1000.0);
        }
    }
    for (.., name, [first_byte, exit]) in &kinds {
        set_times(figures, &format!("first_byte{name}"), backend, first_byte);
        set_times(figures, &format!("exit{name}"), backend, exit);
    }
    Ok(())
}

/// How long the parts of a guest's life took.
struct Life {
    /// From just before the start of its process to the arrival of its first byte.
    first_byte: Duration,
    /// From the arrival of its last byte to the end of its process, waited for.
    exit: Duration,
}

fn live(way: Way, guest: Guest, programs: &Programs) -> Result<Life> {
    let (reader, writer) = io::pipe().context("cannot make a pipe")?;
    let (start, running) = match way {
        Way::Run => {
            let mut command = guest.command(programs)?;
            command.stdout(writer);
            let start = Instant::now();
            (start, Running::start(|| command.spawn().context("cannot start denali"))?)
        }
        Way::Exec => {
            let launch = guest.prepare(None)?;
            let streams = Guest::streams(programs, writer)?;
            let start = Instant::now();
            (start, Running::start(|| launch.spawn(&programs.monitor, streams))?)
        }
    };
    watch(start, running, reader).with_context(|| programs.last_message())
}

fn watch(start: Instant, mut running: Running, mut console: PipeReader) -> Result<Life> {
    let mut text = Vec::with_capacity(64);
    let mut buffer = [0; 64];
    let (mut first, mut last) = (None, start);
    while text.len() < GREETING.len() {
        let count = console.read(&mut buffer).context("cannot read the console")?;
        last = Instant::now();
        if count == 0 {
            break;
        }
        first.get_or_insert(last);
        text.extend_from_slice(&buffer[..count]);
    }
    let status = running.wait()?;
    let end = Instant::now();
    match first {
        Some(first) if status.success() && text == GREETING => {
            Ok(Life { first_byte: first - start, exit: end - last })
        }
        _ => bail!(
            "the guest hello wrote {:?} and ended with {status}",
            String::from_utf8_lossy(&text)
        ),
    }
}
