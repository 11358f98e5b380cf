//! Takes more and more memory, and goes over it in order and all over the place.

use crate::pages::Pages;
use crate::{Checked, check};
use ilwaco::clock::Instant;
use ilwaco::println;

/// Passes over all memory, where nothing else is said.
const PASSES: u64 = 4;
/// From page to page, where they are not gone over in order: a prime number, so that each comes once.
const STRIDE: usize = 1_000_003;

/// The arguments are `MIB [PASSES]`: writes MIB MiB page by page, and prints `grown N` after each. Then goes over all of
/// it, in order and with large steps by turns: verifies each page, and changes it. Prints `pass N ok US` after each pass,
/// with the µs that it took.
pub fn run(arguments: &str) -> Checked {
    let (mib, passes) = arguments.split_once(' ').unwrap_or((arguments, ""));
    let passes = if passes.is_empty() { PASSES } else { crate::number(passes) };
    let mut pages = Pages::fill(crate::number(mib), |mib| println!("grown {mib}"))?;
    for pass in 0..passes {
        let began = Instant::now();
        let stride = if pass.is_multiple_of(2) { 1 } else { STRIDE };
        for index in 0..pages.count() {
            let page = index * stride % pages.count();
            check(pages.is_good(page), "memory changed")?;
            pages.change(page);
        }
        println!("pass {} ok {}", pass + 1, began.elapsed().as_micros());
    }
    check(pages.check().is_ok(), "memory changed")
}
