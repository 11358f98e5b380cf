//! Writes the seeds of all targets that are not there into their corpora: `cargo run -p denali-fuzz-targets --example
//! seeds`. To make those of a target anew, remove them before.

use denali_fuzz_targets::TARGETS;
use std::fs::{create_dir_all, write};
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    for target in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target.name);
        create_dir_all(&folder)?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            let path = folder.join(format!("seed-{number}"));
            if !path.exists() {
                write(path, seed)?;
            }
        }
    }
    Ok(())
}
