//! The end-to-end tests, with the `denali` program of this build: see the package `denali-tests`.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    denali_tests::run(Path::new(env!("CARGO_BIN_EXE_denali")))
}
