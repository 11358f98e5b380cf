//! The sandbox as the kernel shows it: what a monitor and its guest's process still have and may do.

use super::park::keeping::kept;
use super::web::serve;
use crate::backend::Backend;
use crate::guest::{Guest, wait_until};
use crate::home::Home;
use crate::http::{Client, get};
use crate::keeper::Keeper;
use crate::process::{self, Mapping};
use crate::registry::{Case, Need, Suite};
use serde_json::json;
use std::io::ErrorKind;

pub fn suite() -> Suite {
    Suite {
        name: "sandbox",
        cases: vec![
            Case::each("filtered_and_without_new_privileges", filtered),
            Case::each("one_thread", one_thread),
            Case::each("no_environment_and_no_core_dump", nothing_inherited),
            Case::each("only_expected_descriptors", descriptors),
            Case::each("descriptors_do_not_pile_up", piling_up),
            Case::each("no_memory_is_writable_and_executable", monitor_memory),
            Case::each("a_waiting_monitor_is_confined_before_it_has_a_guest", waiting),
            Case::each("waiting_monitors_serve_guests_of_another_size", other_size),
            Case::each("no_child", no_child).needs(Need::KvmOnly),
            Case::each("the_child_is_filtered_and_traced", child_status).needs(Need::ProcessOnly),
            Case::each("the_child_has_no_descriptor", child_descriptors).needs(Need::ProcessOnly),
            Case::each("the_child_has_the_guests_memory_alone", child_memory)
                .needs(Need::ProcessOnly),
        ],
    }
}

/// Asserts the fields of a confined process's status.
#[track_caller]
fn assert_confined(pid: u32) {
    assert_eq!(process::status(pid, "Seccomp"), "2", "a filter is in force");
    assert_eq!(process::status(pid, "NoNewPrivs"), "1");
}

/// Asserts that a process leaves no core dump, neither to a file nor to a program.
#[track_caller]
fn assert_leaves_no_core_dump(pid: u32) {
    // One byte, which programs that get core dumps heed, unless even that is not to be had.
    let [_, most] = process::core_limits(std::process::id());
    let limit = if most == "0" { "0" } else { "1" };
    assert_eq!(process::core_limits(pid), [limit; 2]);
}

fn filtered(backend: Backend) {
    let (guest, address) = serve(backend);
    assert_eq!(get(address, "/").status, 200);
    assert_confined(guest.pid());
}

/// The monitors of a keeper whose guests are parked, once all of these wait in their sandboxes.
fn waiting_in_sandboxes(keeper: &Keeper, count: usize) -> Vec<u32> {
    let mut waiting = Vec::new();
    wait_until("monitors wait in their sandboxes", || {
        waiting = process::children(keeper.pid());
        let filtered = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/status"));
        let filtered = |pid: &u32| filtered(pid).is_ok_and(|text| text.contains("Seccomp:\t2"));
        waiting.len() == count && waiting.iter().all(filtered)
    });
    waiting
}

fn waiting(backend: Backend) {
    let home = Home::new(1);
    let guest = kept(backend, home.guest("web", ""), "web");
    let keeper = Keeper::start(&home, &[guest], &["--pool", "2"]);
    let address = keeper.address("web");
    keeper.wait_until_parked("web");
    let waiting = waiting_in_sandboxes(&keeper, 2);
    for &pid in &waiting {
        assert_confined(pid);
        assert_leaves_no_core_dump(pid);
        let found = process::descriptors(pid).unwrap_or_default();
        let device =
            found.iter().find(|(_, target)| target.starts_with("/dev/") && target != "/dev/null");
        assert_eq!(device, None, "devices were used and closed");
        // SAFETY: a plain system call.
        if unsafe { libc::geteuid() } == 0 {
            let root = std::fs::read_link(format!("/proc/{pid}/root")).expect("it can be seen");
            assert!(root.to_string_lossy().ends_with(" (deleted)"), "{}", root.display());
        }
        if backend == Backend::Kvm {
            const KEPT: u64 = 1 << 14 | 1 << 23;
            let has = u64::from_str_radix(&process::status(pid, "CapPrm"), 16).expect("a number");
            assert_eq!(has & !KEPT, 0, "capabilities {has:x}");
        }
    }
    assert_eq!(get(address, "/").status, 200);
    keeper.wait_for("web", "woken", 0);
    let process = keeper.process_of("web").expect("it was woken");
    assert!(waiting.contains(&process), "{process} of {waiting:?}");
    keeper.stop();
}

fn other_size(backend: Backend) {
    let home = Home::new(1);
    let guest = |name: &str, memory: &str| {
        let mut guest = kept(backend, home.guest("web", ""), name);
        guest["memory"] = json!(memory);
        guest
    };
    let guests = [guest("small", "8MiB"), guest("large", "32MiB")];
    let keeper = Keeper::start(&home, &guests, &["--pool", "1"]);
    for (round, name) in ["small", "large", "small", "small", "large"].into_iter().enumerate() {
        keeper.wait_until_parked("small");
        keeper.wait_until_parked("large");
        let waiting = waiting_in_sandboxes(&keeper, 1);
        let before = keeper.count(name, "woken");
        let page = get(keeper.address(name), &format!("/hello/{round}"));
        assert_eq!(page.text(), format!("hello {round}, from inside a Denali guest\n"));
        keeper.wait_for(name, "woken", before);
        assert_eq!(keeper.process_of(name), Some(waiting[0]), "round {round}");
    }
    keeper.stop();
}

fn one_thread(backend: Backend) {
    let (guest, address) = serve(backend);
    assert_eq!(get(address, "/bytes/1000000").status, 200);
    // A second one while it computed, on a busy machine, is gone soon.
    wait_until("an idle guest has one thread", || process::threads(guest.pid()).len() == 1);
}

fn nothing_inherited(backend: Backend) {
    let guest = ready(backend);
    // Where the monitor cannot be looked into, that is as good.
    match std::fs::read_to_string(format!("/proc/{}/environ", guest.pid())) {
        Ok(environment) => assert_eq!(environment.trim_matches('\0'), ""),
        Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
    }
    assert_leaves_no_core_dump(guest.pid());
}

/// A probe that waits.
fn ready(backend: Backend) -> Guest {
    let guest = backend.probe("wait-stop").start();
    guest.wait_for("ready");
    guest
}

/// Asserts that descriptors 0 to 2 are the standard streams and all others are of these kinds.
#[track_caller]
fn assert_descriptors(pid: u32, most_sockets: usize) {
    let found = process::descriptors(pid).expect("descriptors can be listed");
    let mut sockets = 0;
    for (number, target) in &found {
        let expected = match number {
            0 => target == "/dev/null",
            1 | 2 => target.starts_with("pipe:["),
            _ if target.starts_with("socket:[") => {
                sockets += 1;
                true
            }
            _ => {
                ["eventpoll", "signalfd", "timerfd"]
                    .iter()
                    .any(|kind| *target == format!("anon_inode:[{kind}]"))
                    || target.starts_with("anon_inode:kvm-v")
                    || target.starts_with("/memfd:denali-")
            }
        };
        assert!(expected, "descriptor {number} is {target}, of {found:#?}");
    }
    assert!(sockets <= most_sockets, "{found:#?}");
    // One more while a guest that has computed is watched.
    assert!(found.len() <= 11 + sockets, "{found:#?}");
}

fn descriptors(backend: Backend) {
    let guest = ready(backend);
    assert_descriptors(guest.pid(), 0);
    let (web, address) = serve(backend);
    assert_eq!(get(address, "/").status, 200);
    // Its listener; connections that have just ended may still be there.
    assert_descriptors(web.pid(), 2);
}

fn piling_up(backend: Backend) {
    let (guest, address) = serve(backend);
    let mut kept = Client::connect(address);
    assert_eq!(kept.get("/").status, 200);
    for n in 0..100 {
        let mut client = Client::connect(address);
        assert_eq!(client.get("/").status, 200);
        if n % 2 == 0 {
            client.reset();
        }
    }
    wait_until("connections that ended are closed", || {
        let found = process::descriptors(guest.pid()).unwrap_or_default();
        found.iter().filter(|(_, target)| target.starts_with("socket:[")).count() <= 2
    });
    assert_descriptors(guest.pid(), 2);
    assert_eq!(kept.get("/").status, 200);
}

fn assert_not_writable_and_executable(mappings: &[Mapping]) {
    for mapping in mappings {
        let both = mapping.access.contains('w') && mapping.access.contains('x');
        assert!(!both, "{mapping:x?}");
    }
}

fn monitor_memory(backend: Backend) {
    let guest = ready(backend);
    match process::mappings(guest.pid()) {
        Ok(mappings) => assert_not_writable_and_executable(&mappings),
        Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
    }
}

fn no_child(backend: Backend) {
    let guest = ready(backend);
    assert_eq!(process::children(guest.pid()), [0; 0]);
}

/// The process in which the guest runs.
#[track_caller]
fn child(guest: &Guest) -> u32 {
    let children = process::children(guest.pid());
    assert_eq!(children.len(), 1, "{children:?}");
    children[0]
}

fn child_status(backend: Backend) {
    let guest = ready(backend);
    let child = child(&guest);
    assert_confined(child);
    assert_leaves_no_core_dump(child);
    assert_eq!(process::status(child, "TracerPid"), guest.pid().to_string());
    assert_eq!(process::threads(child).len(), 1);
    assert_eq!(process::children(child), [0; 0]);
}

fn child_descriptors(backend: Backend) {
    let guest = ready(backend);
    match process::descriptors(child(&guest)) {
        Ok(found) => assert_eq!(found, []),
        // It is nobody's to look into but the superuser's, which is another of its promises.
        Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
    }
}

fn child_memory(backend: Backend) {
    const GUEST: std::ops::Range<u64> = 0x10_0000..16 << 20;
    // Where the kernel puts what it saves of the guest's own registers when it faults.
    const SIGNAL_STACK: std::ops::Range<u64> = 0x1000_0000_0000..0x5000_0000_0000;
    let guest = ready(backend);
    let mappings = match process::mappings(child(&guest)) {
        Ok(mappings) => mappings,
        Err(error) => return assert_eq!(error.kind(), ErrorKind::PermissionDenied),
    };
    assert_not_writable_and_executable(&mappings);
    let inside = |mapping: &Mapping, range: &std::ops::Range<u64>| {
        range.start <= mapping.start && mapping.end <= range.end
    };
    let mut signal_stacks = 0;
    for mapping in &mappings {
        if inside(mapping, &GUEST) {
            assert!(mapping.name.starts_with("/memfd:denali-"), "{mapping:x?}");
        } else if inside(mapping, &SIGNAL_STACK) {
            signal_stacks += 1;
            assert!(mapping.end - mapping.start <= 64 << 10, "{mapping:x?}");
        } else {
            assert_eq!(mapping.name, "[vsyscall]", "{mapping:x?}");
        }
    }
    assert_eq!(signal_stacks, 1, "{mappings:#x?}");
}
