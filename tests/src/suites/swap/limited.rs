//! Guests that have no more pages than their region has room for: those that want more are held, and none is lost.

use super::super::park::keeping::kept;
use crate::backend::Backend;
use crate::control::Control;
use crate::guest::{Guest, Run, denali, wait_until};
use crate::home::Home;
use crate::keeper::Keeper;
use crate::lines::Lines;
use crate::process;
use crate::registry::{Case, Need};
use denali_control::{Life, Request, Status, Told};
use serde_json::{Value, json};

/// Status of a monitor whose guest was parked.
const PARKED: i32 = 120;

/// Pages that a guest may have.
const PAGES: u32 = 4096;

pub(super) fn cases() -> Vec<Case> {
    let held = |name, body| Case::each(name, body).needs(Need::KvmOnly).needs(Need::Userfaultfd);
    vec![
        held("a_guest_that_wants_more_than_its_limit_is_held_until_it_is_to_end", ends),
        held("a_guest_held_by_its_limit_goes_on_as_a_copy_with_a_larger_one", copied),
        held("a_guest_held_by_its_limit_is_parked_and_held_again", parked),
        held("a_guest_with_both_limits_is_held_by_the_larger_one", both),
        held("a_guest_within_its_limit_leaves_and_comes_back", within),
        held("a_monitor_that_has_waited_counts_its_guests_pages", waited),
        held("a_monitor_that_has_waited_holds_its_guest_by_its_limit", waited_full),
        held("a_guest_without_a_limit_has_no_pager", free),
        Case::each("a_guest_beyond_its_limit_that_cannot_be_held_stays_in_memory", stays)
            .needs(Need::ProcessOnly),
    ]
}

/// A guest with 96 MiB of memory, of which it may use 16.
fn limited(mut configuration: Value) -> Value {
    configuration["memory"] = json!("96MiB");
    configuration["swap"]["limit"] = json!("16MiB");
    configuration["net"] = json!([]);
    configuration
}

/// Waits until the guest is held because it has all its pages.
#[track_caller]
fn wait_until_full(control: &Control) -> Status {
    let mut found = None;
    wait_until("it is held", || {
        let status = control.status();
        let full = status.limit_reached == Some(PAGES);
        found = Some(status).filter(|_| full);
        full
    });
    found.expect("it was awaited")
}

/// Has a guest that is held end: it gets what it wants, and has lost nothing.
#[track_caller]
fn end(mut guest: Guest) {
    guest.signal(libc::SIGTERM);
    wait_until("the guest ends", || !guest.is_running());
    let finished = guest.finish();
    assert_eq!(finished.status, 0, "{finished:#?}");
    assert!(finished.stdout.contains("grown 32") && finished.stdout.contains("pass 2 ok"));
}

fn ends(backend: Backend) {
    let home = Home::new(1);
    let guest = home.run(backend, &limited(home.probe("grow 32 2"))).json().start();
    let control = home.control();
    let status = wait_until_full(&control);
    assert_eq!((status.life, status.resident_pages), (Life::Held, u64::from(PAGES)), "{status:?}");
    guest.wait_for(r#""event":"held","limit_pages":4096"#);
    // It stays so, computes nothing, and its monitor answers.
    let ticks = process::cpu_ticks(guest.pid());
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(control.status(), status);
    assert!(process::cpu_ticks(guest.pid()) <= ticks + 3, "it waits busily");
    assert!(!guest.stdout().contains("grown 32"));
    end(guest);
}

fn copied(backend: Backend) {
    let home = Home::new(1);
    let guest = home.run(backend, &limited(home.probe("grow 32 2"))).json().start();
    wait_until_full(&home.control());
    let (control, path) = (home.path("control"), home.path("copy"));
    let finished = denali(["snapshot".as_ref(), control.as_os_str(), path.as_os_str()]);
    assert_eq!(finished.status, 0, "{finished:#?}");
    let other = format!("control={}", home.path("other").display());
    let copy = Run::copy(backend, &path).set(other).set("swap.limit=64MiB").finish();
    assert_eq!(copy.status, 0, "{copy:#?}");
    assert!(copy.stdout.contains("grown 32") && copy.stdout.contains("pass 2 ok"), "{copy:#?}");
    // The guest itself is held as before.
    wait_until_full(&home.control());
    end(guest);
}

fn parked(backend: Backend) {
    let home = Home::new(1);
    let guest = home.run(backend, &limited(home.parkable("grow 32 2"))).json().start();
    wait_until_full(&home.control());
    let (control, record) = (home.path("control"), home.path("record"));
    let words = ["park".as_ref(), control.as_os_str(), "--record".as_ref(), record.as_os_str()];
    let finished = denali(words);
    assert_eq!(finished.status, 0, "{finished:#?}");
    assert_eq!(guest.finish().status, PARKED);
    let guest = Run::resume(backend, &home.path("vm.json"), &record).json().start();
    wait_until_full(&home.control());
    end(guest);
}

fn both(backend: Backend) {
    let home = Home::new(1);
    let mut configuration = limited(home.probe("grow 32 2"));
    configuration["resident_limit"] = json!("8MiB");
    let guest = home.run(backend, &configuration).start();
    let status = wait_until_full(&home.control());
    guest.wait_for_error("held: it has used all 4096 pages of swap.limit");
    assert!(status.resident_pages <= u64::from(PAGES) / 2, "{status:?}");
    // What has to stay in memory then does: there is no room for it elsewhere.
    end(guest);
}

fn within(backend: Backend) {
    let home = Home::new(1);
    let mut configuration = limited(home.probe("memory-hash 8"));
    configuration["net"] = home.probe("")["net"].clone();
    let (guest, address) = home.start_as(backend, &configuration);
    let control = home.control();
    let mut lines = Lines::connect(address);
    for _ in 0..3 {
        lines.order("dirty", 100);
        let before = lines.check();
        control.out();
        assert_eq!(lines.check().sum, before.sum);
    }
    assert_eq!(control.status().limit_reached, None);
    guest.signal(libc::SIGTERM);
    assert_eq!(guest.finish().status, 0);
}

/// Its sandbox, and what it hears of pages through, were there before the guest.
fn waited(backend: Backend) {
    let home = Home::new(1);
    let mut configuration = limited(home.probe("memory-hash 10"));
    configuration["net"] = home.probe("")["net"].clone();
    let keeper = Keeper::start(&home, &[kept(backend, configuration, "limited")], &["--pool", "1"]);
    let mut known = None;
    for round in 0..3 {
        keeper.wait_until_parked("limited");
        let before = keeper.count("limited", "woken");
        let mut lines = Lines::connect(keeper.address("limited"));
        let sum = lines.check().sum;
        assert_eq!(known.get_or_insert(sum.clone()), &sum, "round {round}");
        keeper.wait_for("limited", "woken", before);
        let process = keeper.process_of("limited").expect("it runs");
        let threads = process::threads(process);
        assert!(threads.iter().any(|name| name == "pager"), "{threads:?}");
    }
    keeper.stop();
}

fn waited_full(backend: Backend) {
    let home = Home::new(1);
    let guest = kept(backend, limited(home.probe("grow 32 2")), "full");
    let keeper = Keeper::start(&home, &[guest], &["--pool", "1"]);
    keeper.wait_for_words("full: held: it has used all 4096 pages of swap.limit");
    keeper.wait_for("full", "started", 0);
    let status = process::status(keeper.process_of("full").expect("it runs"), "Seccomp");
    assert_eq!(status, "2", "it is in its sandbox");
    // It is let go to end.
    keeper.stop();
    assert!(home.regions().is_empty(), "{:?}", home.regions());
}

fn free(backend: Backend) {
    let home = Home::new(1);
    let (guest, _) = home.start(backend, "memory-hash 1");
    let threads = process::threads(guest.pid());
    assert!(threads.iter().all(|name| name != "pager"), "{threads:?}");
}

fn stays(backend: Backend) {
    let home = Home::new(1);
    let mut configuration = limited(home.probe("memory-hash 24"));
    configuration["net"] = home.probe("")["net"].clone();
    let (guest, address) = home.start_as(backend, &configuration);
    let control = home.control();
    let mut lines = Lines::connect(address);
    let before = lines.check();
    // As often as it is asked.
    for _ in 0..2 {
        let mut why = String::new();
        wait_until("the guest idles", || match control.ask(&Request::SwapOut {}) {
            Told::Refused { why: text } => {
                why = text;
                !why.contains("does not idle")
            }
            other => panic!("there is no room for it: {other:?}"),
        });
        assert!(why.contains("stays in memory"), "{why}");
        assert_eq!(lines.check().sum, before.sum);
    }
    guest.signal(libc::SIGTERM);
    assert_eq!(guest.finish().status, 0);
}
