//! The smallest guest: greets on its console and ends.
#![cfg_attr(guest_image, no_std, no_main)]

ilwaco::program!(start);

/// Prints the argument string if there is one.
fn start() {
    match ilwaco::registers::arguments() {
        "" => ilwaco::println!("hello from a Denali guest"),
        text => ilwaco::println!("hello from a Denali guest: {text}"),
    }
}
