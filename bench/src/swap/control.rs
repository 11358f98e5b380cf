//! Commands to guests' monitors.

use anyhow::{Context, Result, bail};
use denali_control::{Life, Received, Request, Status, Tell, Told, connect, receive};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a guest may take to idle, or to leave memory.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a guest that is awake is left alone before it is asked again.
const PAUSE: Duration = Duration::from_millis(2);

/// Asks the monitor that listens at `path`.
fn ask(path: &Path, request: &Request) -> Result<Told> {
    let shown = path.display();
    let socket = connect(path).with_context(|| format!("cannot connect to {shown}"))?;
    request.tell(socket.as_fd()).with_context(|| format!("cannot ask at {shown}"))?;
    let mut answer = Vec::new();
    match receive(socket.as_fd(), &mut answer) {
        Ok(Received::Message(_)) => {
            serde_json::from_slice(&answer).with_context(|| format!("what {shown} answers"))
        }
        other => bail!("no answer from {shown}: {other:?}"),
    }
}

/// How a guest is.
pub(super) fn status(path: &Path) -> Result<Status> {
    match ask(path, &Request::Status {})? {
        Told::Status(status) => Ok(status),
        other => bail!("{}: no status: {other:?}", path.display()),
    }
}

/// Has a guest's memory leave as soon as it idles, and says how long that took: once it did.
pub(super) fn swap_out(path: &Path) -> Result<Duration> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let begun = Instant::now();
        match ask(path, &Request::SwapOut {})? {
            Told::SwappedOut { .. } => return Ok(begun.elapsed()),
            Told::Refused { .. } if begun < deadline => sleep(PAUSE),
            other => bail!("{}: not swapped out: {other:?}", path.display()),
        }
    }
}

/// The same, of a guest that may have something to do by itself still: until it stays out. How long it took the
/// first time, when all its memory was there.
pub(super) fn swap_out_for_good(path: &Path) -> Result<Duration> {
    let deadline = Instant::now() + PATIENCE;
    let took = swap_out(path)?;
    loop {
        sleep(PAUSE);
        match status(path)?.life {
            Life::SwappedOut => return Ok(took),
            life if Instant::now() > deadline => {
                bail!("{}: it does not stay out: {life:?}", path.display());
            }
            _ => drop(swap_out(path)?),
        }
    }
}

/// Waits until a guest's memory is out.
pub(super) fn await_out(path: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while status(path)?.life != Life::SwappedOut {
        if Instant::now() > deadline {
            bail!("{}: it stays in memory", path.display());
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}
