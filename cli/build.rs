//! Links the unwinder statically: `denali run` starts a tenth of a millisecond sooner without
//! `libgcc_s.so`, whose constructors ask the processor about itself, which under a hypervisor is slow.
//!
//! `libgcc_eh.a` is the same unwinder, and the monitor, which is linked statically, needs it anyway.

use std::path::Path;
use std::{env, fs, process};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let Some(folder) = env::var_os("OUT_DIR") else {
        eprintln!("OUT_DIR is not set: this is for cargo to run");
        process::exit(1);
    };
    // A linker script in the place of the shared library, found first.
    let script = Path::new(&folder).join("libgcc_s.so");
    if let Err(error) = fs::write(&script, "INPUT(-l:libgcc_eh.a)\n") {
        eprintln!("cannot write {}: {error}", script.display());
        process::exit(1);
    }
    println!("cargo::rustc-link-search=native={}", Path::new(&folder).display());
}
