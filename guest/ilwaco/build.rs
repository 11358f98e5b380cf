//! Tells the build scripts of guest programs how to link a guest image.
//!
//! A program's build script finds the arguments, separated by the ASCII unit separator, in `DEP_ILWACO_LINK_ARGUMENTS`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=image.ld");
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let arguments = [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,-z,max-page-size=4096",
        &format!("-Wl,-T,{folder}/image.ld"),
    ];
    println!("cargo::metadata=link_arguments={}", arguments.join("\x1f"));
}
