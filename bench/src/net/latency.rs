//! How long a small request and its answer take while nothing else happens: GETs on one connection.

use super::place::{self, NATIVE, Place};
use super::server;
use crate::backend::Backend;
use crate::client::{receive, send_get};
use crate::figures::Figures;
use crate::http::native;
use crate::programs::Programs;
use crate::summary::Series;
use anyhow::{Context, Result};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Requests that are timed, after some that are not.
const REQUESTS: usize = 500;
const WARM_UP: usize = 50;
/// Between two requests: long enough for everybody to be asleep.
const PAUSE: Duration = Duration::from_millis(2);

/// Sets the median times.
pub(super) fn measure(
    place: &Place,
    backends: &[Backend],
    programs: &Programs,
    figures: &mut Figures,
) -> Result<()> {
    let mut page = Vec::new();
    for &backend in backends {
        let guest = server::guest("web", backend, place, programs)?;
        let (median, answer) = ask(place, true, 80)?;
        drop(guest);
        page = answer;
        figures.set(format!("guest_p50_us{}", backend.suffix()), median);
    }
    let mut command = native::command(&page, &format!("{NATIVE}:0"))?;
    let mut inside = place::program(place.ends(false).0, command.get_program().as_ref());
    inside.args(command.get_args());
    command = native::with_page(inside, &page)?;
    let mut server = server::started(command)?;
    let line = server.wait_for("host")?;
    let said: serde_json::Value = serde_json::from_str(&line).context("not JSON")?;
    let address: SocketAddr = said["host"].as_str().unwrap_or_default().parse()?;
    let (median, _) = ask(place, false, address.port())?;
    for &backend in backends {
        figures.set(format!("native_p50_us{}", backend.suffix()), median);
    }
    Ok(())
}

/// The median time in µs, and the page that was got.
fn ask(place: &Place, is_guest: bool, port: u16) -> Result<(Option<f64>, Vec<u8>)> {
    let (_, client, address) = place.ends(is_guest);
    let requests = || -> Result<(Option<f64>, Vec<u8>)> {
        place::enter(client)?;
        let address: SocketAddr = format!("{address}:{port}").parse()?;
        let mut stream = TcpStream::connect(address).context("cannot connect")?;
        let mut times = Series::default();
        let mut page = Vec::new();
        for number in 0..WARM_UP + REQUESTS {
            std::thread::sleep(PAUSE);
            let start = Instant::now();
            send_get(&mut stream, "/")?;
            page = receive(&mut stream)?;
            if number >= WARM_UP {
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
        }
        Ok((times.median(), page))
    };
    // A thread of its own, because it stays in the namespace.
    std::thread::scope(|scope| match scope.spawn(requests).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
