//! Finds out whether this machine has a qemu-storage-daemon, so that tests which need it are counted as
//! ignored, with the reason, where there is none. Looked at once for each build folder.

use std::process::{Command, Stdio};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(no_storage_daemon)");
    let found = Command::new("qemu-storage-daemon").arg("--version").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        println!("cargo::rustc-cfg=no_storage_daemon");
    }
}
