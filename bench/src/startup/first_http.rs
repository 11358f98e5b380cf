//! Time to the first HTTP response of the web server in a guest.

use super::set_times;
use crate::backend::Backend;
use crate::client;
use crate::figures::Figures;
use crate::guest::{Guest, Way, announced};
use crate::programs::Programs;
use crate::running::Running;
use crate::summary::Series;
use anyhow::{Context, Result};
use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Measures each way in turn, `runs` times.
pub(super) fn measure(
    backend: Backend,
    runs: u32,
    programs: &Programs,
    figures: &mut Figures,
) -> Result<()> {
    let mut times = [Series::default(), Series::default()];
    let guest = Guest::web(backend);
    for _ in 0..runs {
        for (way, times) in Way::ALL.into_iter().zip(&mut times) {
            let time = match way {
                Way::Run => by_run(guest, programs),
                Way::Exec => by_monitor(guest, programs),
            };
            let time = time.with_context(|| programs.last_message())?;
            times.push(time.as_secs_f64() * 1000.0);
        }
    }
    for (way, times) in Way::ALL.into_iter().zip(&times) {
        set_times(figures, &format!("first_http{}", way.infix()), backend, times);
    }
    Ok(())
}

/// The client connects as soon as `denali run` says where; the whole response counts.
fn by_run(guest: Guest, programs: &Programs) -> Result<Duration> {
    let (reader, writer) = io::pipe().context("cannot make a pipe")?;
    let mut command = guest.command(programs)?;
    // As JSON lines, for the first of which names the port.
    command.arg("--json").stdout(writer);
    let start = Instant::now();
    let running = Running::start(|| command.spawn().context("cannot start denali"))?;
    drop(command);
    let mut stream = TcpStream::connect(announced(&reader)?).context("cannot connect")?;
    client::send_get(&mut stream, "/")?;
    client::receive(&mut stream)?;
    let time = start.elapsed();
    // Its console has a reader until it is gone.
    drop((running, reader));
    Ok(time)
}

/// The client's request waits in the listening socket's queue when the monitor starts.
fn by_monitor(guest: Guest, programs: &Programs) -> Result<Duration> {
    let launch = guest.prepare(None)?;
    let host = launch.published().first().context("no port is published")?.host;
    let streams = Guest::streams(programs, std::process::Stdio::null())?;
    let mut stream = TcpStream::connect(host).context("cannot connect")?;
    client::send_get(&mut stream, "/")?;
    let start = Instant::now();
    let running = Running::start(|| launch.spawn(&programs.monitor, streams))?;
    client::receive(&mut stream)?;
    let time = start.elapsed();
    drop(running);
    Ok(time)
}
