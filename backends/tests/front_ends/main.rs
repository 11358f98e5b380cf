//! The back ends' programs, driven by front ends: one that is part of these tests, and Linux under QEMU.
//!
//! What this machine cannot run is reported as ignored, with the reason: `[skipped: not root]`.

mod block;
mod crashes;
mod daemon;
mod driver;
mod hostile;
mod linux;
mod linux_tests;
mod options;

use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

/// A test: its name, what is missing for it on this machine, and what it does.
pub type Case = (&'static str, Option<String>, fn());

fn main() -> ExitCode {
    let mut trials = Vec::new();
    let suites = [
        ("block", block::cases()),
        ("crashes", crashes::cases()),
        ("hostile", hostile::cases()),
        ("linux", linux_tests::cases()),
        ("options", options::cases()),
    ];
    for (suite, cases) in suites {
        for (name, missing, body) in cases {
            trials.push(trial(format!("{suite}::{name}"), missing, body));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(name: String, missing: Option<String>, body: fn()) -> Trial {
    let run = move || {
        body();
        Ok(())
    };
    match missing {
        None => Trial::test(name, run),
        Some(reason) => {
            Trial::test(name, run).with_kind(format!("skipped: {reason}")).with_ignored_flag(true)
        }
    }
}
