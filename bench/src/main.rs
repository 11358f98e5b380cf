//! Measures Denali: how fast guests start and end, what an idle one costs, how fast one serves HTTP,
//! carries bulk data and reads its disk, what batching and idling are worth when many serve at once, and how
//! guests leave memory and come back.
//!
//! Each measurement runs real guests by the programs that people use, prints what it found, and
//! writes it into docs/performance.md.

mod backend;
mod block;
mod cgroup;
mod client;
mod document;
mod figures;
mod fleet;
mod game;
mod gatekeeper;
mod guest;
mod host;
mod http;
mod latencies;
mod net;
mod options;
mod place;
mod plot;
mod precedence;
mod proc;
mod programs;
mod random;
mod running;
mod scale;
mod settled;
mod spread;
mod startup;
mod summary;
mod swap;
mod table;
mod targets;
mod undo;
mod wake;
mod zipf;

use anyhow::{Result, bail};
use clap::Parser;
use options::{Command, Options};
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::parse();
    let measured = measure(&options);
    running::unless_ending();
    running::end_the_rest();
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<()> {
    if let Command::NativeServer { address } = options.command {
        return http::native::serve(address);
    }
    if let Command::NativeSleeper = options.command {
        return wake::native::serve();
    }
    if cfg!(debug_assertions) {
        bail!("figures of a debug build mean nothing; use cargo run --release -p bench");
    }
    running::end_with_us()?;
    match &options.command {
        Command::Startup(startup) => startup::run(startup),
        Command::Http(http) => http::run(http),
        Command::Net(net) => net::run(net),
        Command::Block(block) => block::run(block),
        Command::Game(game) => game::run(game),
        Command::Scale(scale) => scale::run(scale),
        Command::Wake(wake) => wake::run(wake),
        Command::Idle(idle) => wake::run_idle(idle),
        Command::Swap(swap) => swap::run(swap),
        Command::Gatekeeper(gatekeeper) => gatekeeper::run(gatekeeper),
        Command::Load(load) => fleet::run_load(load),
        Command::Fleet(fleet) => fleet::run(fleet),
        Command::NativeServer { .. } | Command::NativeSleeper => Ok(()),
    }
}
