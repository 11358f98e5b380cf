//! `denali top`: how the host and the guests of a supervisor are, as it changes.

mod draw;
mod keys;
mod model;
mod sample;
mod screen;
mod watch;

use crate::arguments::TopArguments;
use crate::fleet::connect;
use crate::output::{Failure, Format, nobody_reads, print};
use model::Model;
use sample::{Sample, Sampler};
use std::io::{IsTerminal, stdout};
use std::thread::sleep;
use std::time::Duration;

/// Guests that are told of with JSON output: the hottest ones.
const HOTTEST: usize = 20;

/// Shows it until somebody leaves; or once, where nobody would see it change.
pub(crate) fn top(arguments: &TopArguments) -> Result<(), Failure> {
    let every = Duration::from_secs(arguments.every);
    let client = connect(&arguments.supervisor)?;
    let mut sampler = Sampler::new(client, arguments.guests.clone());
    let first = sampler.sample()?;
    if arguments.supervisor.format.format() == Format::Json {
        return tell(&mut sampler, every, arguments.once);
    }
    if arguments.once || !stdout().is_terminal() {
        sleep(every);
        let model = Model::new(sampler.sample()?);
        let (width, height) = screen::size();
        return print(&draw::as_text(&model, width, height));
    }
    watch::watch(sampler, first, every)
}

/// An object a line for programs.
fn tell(sampler: &mut Sampler, every: Duration, once: bool) -> Result<(), Failure> {
    loop {
        sleep(every);
        let Sample { host, guests, wakes, parks, .. } = sampler.sample()?;
        let mut hottest: Vec<_> = guests.iter().filter(|guest| guest.rate > Some(0.0)).collect();
        hottest.sort_by(|one, other| other.rate.unwrap_or(0.0).total_cmp(&one.rate.unwrap_or(0.0)));
        hottest.truncate(HOTTEST);
        let of_guest = |guest: &&sample::Guest| serde_json::json!({ "packets_per_s": guest.rate, "guest": guest.view });
        print(&serde_json::json!({
            "host": host,
            "wakes_per_s": wakes,
            "parks_per_s": parks,
            "hottest": hottest.iter().map(of_guest).collect::<Vec<_>>(),
        }))?;
        if once || nobody_reads() {
            return Ok(());
        }
    }
}
