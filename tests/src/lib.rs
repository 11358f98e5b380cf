//! The end-to-end tests: guests run through the built `denali` program, seen only from outside.
//!
//! Every test runs once for each back end, under a name like `kvm::faults::reads_of_null`. What this
//! machine cannot run is reported as ignored, with the reason: `[skipped: no usable /dev/kvm]`. The
//! `denali` package has the test target itself (`cargo test -p denali-cli --test end_to_end`), because
//! cargo tells the path of a program only to tests of the program's own package.

mod backend;
mod control;
mod dns;
mod elf;
mod frozen;
mod guest;
mod home;
mod http;
mod keeper;
mod lines;
mod loops;
mod namespace;
mod process;
mod registry;
mod seqpacket;
mod suites;
mod supervisor;

use std::path::Path;
use std::process::ExitCode;

/// Runs the tests that the command line selects, with the options of any other test program, on
/// guests that the program `denali` starts.
#[must_use]
pub fn run(denali: &Path) -> ExitCode {
    guest::set_program(denali);
    let arguments = libtest_mimic::Arguments::from_args();
    let trials = registry::trials(&suites::all());
    libtest_mimic::run(&arguments, trials).exit_code()
}
