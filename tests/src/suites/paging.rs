//! Guests that have less memory than they use: pages leave while the guest runs.

use crate::backend::Backend;
use crate::guest::{denali, wait_until};
use crate::home::Home;
use crate::lines::Lines;
use crate::process;
use crate::registry::{Case, Need, Suite};
use serde_json::{Value, json};

pub fn suite() -> Suite {
    let paged = |name, body| Case::each(name, body).needs(Need::KvmOnly).needs(Need::Userfaultfd);
    Suite {
        name: "paging",
        cases: vec![
            paged("a_guest_uses_four_times_the_memory_it_has", grows),
            paged("a_guest_with_a_limit_leaves_and_comes_back", leaves),
            Case::once("what_cannot_be_paged_is_refused", refused),
            Case::once("memory_that_a_back_end_shares_is_not_paged", shared),
        ],
    }
}

/// KiB that may be resident at once.
const LIMIT_KIB: u64 = 16 << 10;

fn limited(mut configuration: Value) -> Value {
    configuration["memory"] = json!("96MiB");
    configuration["resident_limit"] = json!("16MiB");
    configuration
}

fn grows(backend: Backend) {
    let home = Home::new(2);
    let mut configuration = limited(home.probe("grow 64 2"));
    configuration["net"] = json!([]);
    let mut guest = home.run(backend, &configuration).start();
    let mut most = 0;
    while guest.is_running() {
        let text = std::fs::read_to_string(format!("/proc/{}/status", guest.pid()));
        let text = text.unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        most = most.max(kib.unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let finished = guest.finish();
    assert_eq!(finished.status, 0, "{finished:#?}");
    assert!(finished.stdout.contains("grown 64") && finished.stdout.contains("pass 2 ok"));
    // The monitor has something for itself too, and for pages on their way.
    assert!(most <= LIMIT_KIB + (8 << 10), "{most} KiB were resident");
}

fn leaves(backend: Backend) {
    let home = Home::new(1);
    let (guest, address) = home.start_as(backend, &limited(home.probe("memory-hash 32")));
    let control = home.control();
    let mut lines = Lines::connect(address);
    for _ in 0..2 {
        lines.order("dirty", 100);
        let before = lines.check();
        let there = control.status();
        assert!(there.resident_pages * 4 <= LIMIT_KIB + 1024, "{there:?}");
        control.out();
        let after = lines.check();
        assert_eq!(after.sum, before.sum);
    }
    assert!(process::threads(guest.pid()).iter().any(|name| name == "pager"));
    guest.signal(libc::SIGTERM);
    let mut guest = guest;
    wait_until("the guest stops", || !guest.is_running());
    assert_eq!(guest.finish().status, 0);
}

/// One line that names the field says why the guest does not start, whether it is started or only checked.
#[track_caller]
fn assert_refused(home: &Home, configuration: &Value, why: &str) {
    const BAD_CONFIG: i32 = 122;
    let path = home.write("vm.json", configuration);
    for command in ["check", "run"] {
        let finished = denali([command.as_ref(), path.as_os_str()]);
        assert_eq!((finished.status, &*finished.stdout), (BAD_CONFIG, ""), "{finished:#?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:#?}");
        assert!(finished.stderr.contains(": resident_limit: "), "{finished:#?}");
        assert!(finished.stderr.contains(why), "{why}: {finished:#?}");
    }
}

fn refused() {
    let home = Home::new(1);
    let mut limited = limited(home.probe("exit 0"));
    limited["hypervisor"] = json!("process");
    assert_refused(&home, &limited, "needs KVM");
    limited.as_object_mut().expect("an object").remove("swap");
    assert_refused(&home, &limited, "needs \"swap\"");
}

/// With `swap` or without, for disks and network cards.
fn shared() {
    let home = Home::new(1);
    let device = json!([{ "backend": { "vhost-user": home.path("backend") } }]);
    for (kind, swaps) in [("net", true), ("net", false), ("block", true), ("block", false)] {
        let mut configuration = limited(home.probe("exit 0"));
        configuration[kind] = device.clone();
        if !swaps {
            configuration.as_object_mut().expect("an object").remove("swap");
        }
        assert_refused(&home, &configuration, &format!("{kind}[0].backend"));
    }
}
