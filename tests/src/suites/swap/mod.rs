//! Guests whose memory leaves while they idle, and comes back.

mod devices;
mod failing;
mod limited;
mod meanwhile;
mod stored;

use crate::backend::Backend;
use crate::control::Control;
use crate::guest::{Guest, wait_until};
use crate::home::Home;
use crate::lines::Lines;
use crate::process;
use crate::registry::{Case, Need, Suite};
use denali_control::Life;
use serde_json::json;
use std::collections::BTreeSet;

pub fn suite() -> Suite {
    let mut suite = Suite {
        name: "swap",
        cases: vec![
            Case::each("memory_is_what_it_was_after_twenty_rounds", |it| rounds(it, 1)),
            Case::each("memory_is_what_it_was_after_rounds_over_three_disks", |it| rounds(it, 3)),
            Case::each("a_large_guest_leaves_and_comes_back", large),
            Case::each("the_host_gets_the_memory", memory),
            Case::each("an_idle_guest_leaves_by_itself", idles),
            Case::each("a_guest_that_computes_stays", computes),
            Case::each("a_pager_is_there_while_pages_are_missed", pager)
                .needs(Need::KvmOnly)
                .needs(Need::Userfaultfd),
            Case::each("random_numbers_are_new_after_a_wake", entropy),
        ],
    };
    suite.cases.extend(stored::cases());
    suite.cases.extend(meanwhile::cases());
    suite.cases.extend(devices::cases());
    suite.cases.extend(failing::cases());
    suite.cases.extend(limited::cases());
    suite
}

/// Pages of a MiB.
const PER_MIB: u64 = 256;

/// More pages than one thread writes; nothing of the other is left.
fn large(backend: Backend) {
    let home = Home::new(2);
    let mut configuration = home.probe("memory-hash 48");
    configuration["memory"] = json!("64MiB");
    let (guest, address) = home.start_as(backend, &configuration);
    let control = home.control();
    let mut lines = Lines::connect(address);
    for _ in 0..3 {
        lines.order("dirty", 500);
        let before = lines.check();
        let out = control.out();
        assert!(out.stored_pages >= 48 * PER_MIB, "{out:?}");
        let threads = process::threads(guest.pid());
        assert!(threads.iter().all(|name| name != "sealer"), "{threads:?}");
        assert_eq!(lines.check().sum, before.sum);
    }
    guest.signal(libc::SIGTERM);
    assert_eq!(guest.finish().status, 0);
}

/// The guest changes memory, leaves, and finds all of it when it is asked. It may come back by itself too,
/// to acknowledge what was said.
fn rounds(backend: Backend, stripes: usize) {
    let home = Home::new(stripes);
    let mut configuration = home.probe("memory-hash 4");
    if stripes > 1 {
        configuration["swap"]["unit"] = json!("4KiB");
    }
    let (guest, address) = home.start_as(backend, &configuration);
    let control = home.control();
    let mut lines = Lines::connect(address);
    for round in 1..=20 {
        lines.order("dirty", 30);
        let before = lines.check();
        let out = control.out();
        assert!(out.stored_pages >= 4 * PER_MIB, "{out:?}");
        assert_eq!((out.resident_pages, out.woken), (1, out.swapped_out - 1), "{out:?}");
        assert!(out.swapped_out >= round && out.generation == out.woken + 1, "{out:?}");
        // In some rounds it needs a part only, before it needs all.
        let in_part = round % 3 == 0;
        if in_part {
            lines.order("touch", 10);
            lines.order("dirty", 10);
        }
        let after = lines.check();
        assert!(after.count == 2 * round && after.generation > before.generation, "{after:?}");
        assert!(in_part || after.sum == before.sum, "{before:?} {after:?}");
        let status = control.status();
        assert_eq!((status.life, status.woken), (Life::Running, status.swapped_out), "{status:?}");
        assert_eq!(status.generation, after.generation);
        assert!(status.resident_pages >= 4 * PER_MIB, "{status:?}");
    }
    guest.signal(libc::SIGTERM);
    assert_eq!(guest.finish().status, 0);
}

/// KiB of memory that a process has for itself or shares with its guest.
fn kib(pid: u32) -> u64 {
    let of = |field| {
        let text = process::status(pid, field);
        text.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number of KiB")
    };
    of("RssAnon") + of("RssShmem")
}

fn memory(backend: Backend) {
    const MIB: u64 = 8;
    let home = Home::new(1);
    let (guest, address) = home.start(backend, &format!("memory-hash {MIB}"));
    let control = home.control();
    let mut lines = Lines::connect(address);
    let mut processes = process::children(guest.pid());
    processes.push(guest.pid());
    let kib = || processes.iter().map(|&pid| kib(pid)).sum::<u64>();
    for _ in 0..3 {
        lines.check();
        let there = kib();
        wait_until("the memory is gone", || {
            control.out();
            kib() + ((MIB - 1) << 10) < there
        });
    }
}

fn idles(backend: Backend) {
    let home = Home::new(1);
    let mut configuration = home.probe("memory-hash 1");
    configuration["swap"]["after"] = json!("200ms");
    let (guest, address) = home.start_as(backend, &configuration);
    let mut lines = Lines::connect(address);
    for round in 1..=3 {
        let told = |event: &str| guest.stdout().matches(&format!(r#""event":"{event}""#)).count();
        wait_until("its memory leaves", || told("swapped_out") == round);
        lines.check();
        wait_until("it is told that it is back", || told("woken") == round);
    }
}

/// Nobody takes memory from under a guest that computes; what is asked for is refused.
fn computes(backend: Backend) {
    let home = Home::new(1);
    let mut configuration = home.probe("spin");
    configuration["swap"]["after"] = json!("1ms");
    let (mut guest, _) = home.start_as(backend, &configuration);
    let control = home.control();
    for _ in 0..3 {
        let told = control.ask(&denali_control::Request::SwapOut {});
        let why = "the guest does not idle".to_owned();
        assert_eq!(told, denali_control::Told::Refused { why });
    }
    assert_eq!(control.status().swapped_out, 0);
    guest.signal_until_it_ends(libc::SIGTERM);
    assert_eq!(guest.finish().status, 143);
}

/// Only while a guest runs of which pages are out, there is a second thread that brings them.
fn pager(backend: Backend) {
    let home = Home::new(1);
    let (guest, address) = home.start(backend, "memory-hash 8");
    let control = home.control();
    let mut lines = Lines::connect(address);
    let pagers = || process::threads(guest.pid()).iter().filter(|name| *name == "pager").count();
    assert_eq!(pagers(), 0);
    for round in 0..3 {
        held(&guest, &control);
        control.swap_out();
        assert_eq!(pagers(), 0, "nothing is brought back while the guest rests");
        guest.signal(libc::SIGUSR2);
        lines.order("touch", 1);
        assert_eq!(pagers(), 1, "most pages are out still");
        lines.check();
        if round == 2 {
            wait_until("the pager ends when all pages are back", || pagers() == 0);
        }
    }
    control.out();
    let faults = control.status().faults;
    assert!(faults >= PER_MIB, "{faults} pages came because they were touched");
}

/// Holds the guest: whatever is for it, its memory leaves and stays out.
fn held(guest: &Guest, control: &Control) {
    guest.signal(libc::SIGUSR2);
    wait_until("it is held", || control.status().life == Life::Held);
}

/// A guest that was out takes new entropy, as one does that may be a copy.
fn entropy(backend: Backend) {
    let home = Home::new(1);
    let (_guest, address) = home.start(backend, "identity");
    let control = home.control();
    let mut lines = Lines::connect(address);
    let (mut seen, mut last) = (BTreeSet::new(), 0);
    for _ in 0..5 {
        let identity = lines.identity();
        assert!(identity.generation > last, "{identity:?}");
        assert!(seen.insert(identity.random.clone()), "{identity:?}");
        last = identity.generation;
        control.out();
    }
}
