//! Links the program as a guest image, if that is what is being built.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_CFG_GUEST_IMAGE").is_some() {
        let arguments =
            std::env::var("DEP_ILWACO_LINK_ARGUMENTS").expect("ilwaco says how to link");
        for argument in arguments.split('\x1f') {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
