//! Finds out whether this machine has a KVM that this user may use, so that tests which need it are
//! counted as ignored, with the reason, where there is none. Looked at once for each build folder.

use std::fs::File;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(no_kvm)");
    if File::options().read(true).write(true).open("/dev/kvm").is_err() {
        println!("cargo::rustc-cfg=no_kvm");
    }
}
