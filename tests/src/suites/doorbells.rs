//! Doorbells, virtual registers, the clock, idling, upcalls, and the state of the processor.

use crate::backend::Backend;
use crate::guest::wait_until;
use crate::process;
use crate::registry::{Case, Suite};
use std::collections::HashMap;
use std::time::Duration;

pub fn suite() -> Suite {
    Suite {
        name: "doorbells",
        cases: vec![
            Case::each("terminate_gives_the_low_8_bits", terminate),
            Case::each("a_panic_ends_with_101", panic),
            Case::each("registers_tell_about_the_machine", registers),
            Case::each("registers_name_the_devices", devices),
            Case::each("entropy_differs_between_guests", entropy),
            Case::each("devices_that_are_not_there_read_as_0", no_device),
            Case::each("the_clock_is_the_hosts", clock),
            Case::each("idle_sleeps_until_the_deadline", idle),
            Case::each("idle_many_times", idle_many),
            Case::each("idle_returns_when_something_is_pending", idle_pending),
            Case::each("an_idle_guest_never_wakes_up", no_wakeups),
            Case::each("doorbells_change_no_register", doorbells),
            Case::each("upcalls_resume_exactly", upcalls),
            Case::each("an_upcall_ends_idle", upcall_idle),
        ],
    }
}

/// The `name=value` lines of a guest's output.
fn values(output: &str) -> HashMap<&str, &str> {
    output.lines().filter_map(|line| line.split_once('=')).collect()
}

fn terminate(backend: Backend) {
    for (value, status) in
        [(0_u64, 0), (1, 1), (7, 7), (118, 118), (255, 255), (256, 0), (0xffff_ff2a, 42)]
    {
        assert_eq!(backend.probe(&format!("exit {value}")).expect(status), "");
    }
}

fn panic(backend: Backend) {
    let said = backend.probe("panic").expect(101);
    assert!(said.contains("as asked") && said.contains("main.rs"), "{said}");
}

fn registers(backend: Backend) {
    let output = backend.probe("registers").memory("24MiB").expect(0);
    let values = values(&output);
    assert_eq!(values["abi_version"], "1");
    assert_eq!(values["boot_abi_version"], "1");
    assert_eq!(values["memory_size"], (24 << 20).to_string());
    let khz: u64 = values["cpu_khz"].parse().expect("a number");
    assert!((100_000..20_000_000).contains(&khz), "{khz} kHz");
    assert_ne!(values["generation"], "0");
    assert_eq!(values["entropy"].len(), 64);
    assert!(values["image"].starts_with("0x200000.."), "{}", values["image"]);
    assert!(!values.contains_key("device"), "{output}");
}

fn devices(backend: Backend) {
    let run = backend.probe("registers").option("--publish").option("0:80");
    let output = run.option("--set").option("net.0.name=front").expect(0);
    assert!(output.contains("\ndevice=0 kind=1 name=front\n"), "{output}");
}

fn entropy(backend: Backend) {
    let one = backend.probe("registers").expect(0);
    let other = backend.probe("registers").expect(0);
    assert_ne!(values(&one)["entropy"], values(&other)["entropy"]);
}

fn no_device(backend: Backend) {
    backend.probe("no-device").expect(0);
}

fn clock(backend: Backend) {
    let now = || (now_ns(libc::CLOCK_BOOTTIME), now_ns(libc::CLOCK_REALTIME));
    let before = now();
    let output = backend.probe("clock").expect(0);
    let after = now();
    let value = |name: &str| values(&output)[name].parse::<u64>().expect("a number");
    // The host's clocks may be adjusted meanwhile, by far less than this.
    let slack = 100_000_000;
    for (name, from, to) in [("monotonic", before.0, after.0), ("realtime", before.1, after.1)] {
        let shown = value(name);
        assert!((from - slack..to + slack).contains(&shown), "{name}: {from} {shown} {to}");
    }
}

fn now_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is valid during the call.
    let done = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(done, 0, "every Linux has this clock");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn idle(backend: Backend) {
    for ms in [0, 1, 60] {
        let output = backend.probe(&format!("idle {ms}")).expect(0);
        let slept: u64 = values(&output)["slept"].parse().expect("a number");
        assert!(slept >= ms * 1000, "slept {slept} us of {ms} ms");
    }
}

fn idle_many(backend: Backend) {
    backend.probe("idle-many 100").expect(0);
}

fn idle_pending(backend: Backend) {
    backend.probe("idle-pending").expect(0);
}

/// Counts context switches of a guest that waits: after it has gone to sleep there are none.
fn no_wakeups(backend: Backend) {
    let guest = backend.probe("wait-stop").start();
    guest.wait_for("ready");
    let switches = || process::status(guest.pid(), "voluntary_ctxt_switches");
    wait_until("the guest sleeps without a wake-up for half a second", || {
        let before = switches();
        std::thread::sleep(Duration::from_millis(500));
        before == switches()
    });
}

fn doorbells(backend: Backend) {
    backend.probe("fpu 2000").expect(0);
}

fn upcalls(backend: Backend) {
    backend.probe("upcall-resume").expect(0);
}

fn upcall_idle(backend: Backend) {
    backend.probe("upcall-idle").expect(0);
}
