//! Guests on tap interfaces: programs that others made talk to them from the host's side.

use crate::backend::Backend;
use crate::guest::{Guest, Run, program};
use crate::http;
use crate::namespace::{ip, isolated, make_tap, run};
use crate::registry::{Case, Need, Suite};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

pub fn suite() -> Suite {
    let on_tap = |name, body| Case::each(name, body).needs(Need::Namespaces);
    Suite {
        name: "tap",
        cases: vec![
            on_tap("iperf3_moves_large_segments", iperf).needs(Need::Program("iperf3")),
            on_tap("a_website_for_wrk_and_curl", website)
                .needs(Need::Program("wrk"))
                .needs(Need::Program("curl")),
            on_tap("pings", pings).needs(Need::Program("ping")),
            on_tap("large_packets_where_both_sides_take_them", jumbo),
            on_tap("a_tap_that_is_taken_away_leaves_the_guest_running", removed),
            Case::once("taps_that_cannot_be_opened", refused).needs(Need::Namespaces),
            Case::once("a_tap_of_ones_own_needs_no_root", own_tap).needs(Need::Namespaces),
        ],
    }
}

/// Address of the host and of the guest on a test's tap.
const HOST: &str = "10.78.0.1/24";
const GUEST: &str = "10.78.0.2";

/// Starts an image on a tap of its own.
fn on_tap(backend: Backend, image: &str) -> Guest {
    make_tap("tap0", HOST);
    configured(Run::new(backend, image)).memory("64MiB").json().start()
}

/// Connects the guest's card to the tap.
fn configured(run: Run) -> Run {
    run.set(format!(r#"net=[{{"address":"{GUEST}/24","backend":{{"tap":"tap0"}}}}]"#))
}

/// Ends the guest; what its card has counted.
fn counters(mut guest: Guest) -> Value {
    guest.signal_until_it_ends(libc::SIGTERM);
    let finished = guest.finish();
    let ended = finished.stdout.lines().rev().find_map(|line| {
        let event: Value = serde_json::from_str(line).ok()?;
        (event["event"] == "ended").then_some(event)
    });
    ended.unwrap_or_else(|| panic!("no last event: {finished:#?}"))["devices"]["net0"].clone()
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no {name} in {value}"))
}

fn iperf(backend: Backend) {
    const BYTES: u64 = 40_000_000;
    isolated(|| {
        let guest = on_tap(backend, "iperf");
        guest.wait_for("listening");
        for options in [&[][..], &["-R"], &["-P", "4"], &["--bidir"], &["-R", "-P", "3"]] {
            let bytes = BYTES.to_string();
            let words = [&["-c", GUEST, "-n", &bytes, "--json"], options].concat();
            let output = run("iperf3", &words);
            let report: Value = serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|error| panic!("{options:?}: {error}: {output:?}"));
            assert!(output.status.success(), "{options:?}: {report:#}");
            let received = |direction: &str| report["end"][direction]["bytes"].as_u64();
            let both = ["sum_received", "sum_received_bidir_reverse"].map(received);
            let bytes: u64 = both.into_iter().flatten().sum();
            // The rest was on its way when the client had sent, or got, enough.
            assert!(bytes >= BYTES / 2, "{options:?}: {report:#}");
        }
        let refused = run("iperf3", &["-c", GUEST, "-u", "-n", "1000"]);
        assert!(!refused.status.success(), "UDP is not served, and said so: {refused:?}");
        let counted = counters(guest);
        for direction in ["receive", "transmit"] {
            let count = |what: &str| number(&counted, &format!("{direction}_{what}"));
            assert!(count("bytes") > 2 * BYTES, "{direction}: {counted}");
            assert_eq!(count("errors"), 0, "{direction}: {counted}");
            // Acknowledgements are frames too, and small ones.
            assert!(count("packets") > 2 * count("frames"), "{direction}: {counted}");
        }
    });
}

fn website(backend: Backend) {
    isolated(|| {
        let guest = on_tap(backend, "web");
        guest.wait_for("serving");
        let url = |path: &str| format!("http://{GUEST}{path}");
        let output = run("curl", &["-sS", "--fail", &url("/bytes/3000000")]);
        assert!(output.status.success(), "{output:?}");
        let address = format!("{GUEST}:80").parse().expect("an address");
        let direct = http::get(address, "/bytes/3000000");
        assert!(direct.body == output.stdout, "both got the same");
        super::web::assert_counting(&direct, 3_000_000);
        let load = run("wrk", &["-t1", "-c20", "-d2", &url("/")]);
        let report = String::from_utf8_lossy(&load.stdout).into_owned();
        assert!(load.status.success() && report.contains("Requests/sec"), "{load:?}");
        for trouble in ["Non-2xx", "Socket errors"] {
            assert!(!report.contains(trouble), "{report}");
        }
        assert_eq!(number(&counters(guest), "tap_write_errors"), 0);
    });
}

fn jumbo(backend: Backend) {
    isolated(|| {
        make_tap("tap0", HOST);
        ip("link set tap0 mtu 9000");
        let guest = configured(Run::new(backend, "web")).set("net.0.mtu=9000").json().start();
        guest.wait_for("serving");
        let address = format!("{GUEST}:80").parse().expect("an address");
        super::web::assert_counting(&http::get(address, "/bytes/500000"), 500_000);
        let counted = counters(guest);
        let largest = number(&counted, "transmit_bytes") / number(&counted, "transmit_packets");
        assert!(largest > 1500, "{counted}");
    });
}

fn pings(backend: Backend) {
    isolated(|| {
        let guest = on_tap(backend, "web");
        guest.wait_for("serving");
        for size in ["56", "1400"] {
            let ping = run("ping", &["-c", "3", "-i", "0.2", "-s", size, GUEST]);
            assert!(ping.status.success(), "{ping:?}");
        }
    });
}

fn removed(backend: Backend) {
    isolated(|| {
        let mut guest = on_tap(backend, "web");
        guest.wait_for("serving");
        ip("link delete tap0");
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(guest.is_running());
        let ticks = || crate::process::cpu_ticks(guest.pid());
        let before = ticks();
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(ticks() - before < 10, "it does not spin");
        let finished = counters(guest);
        assert_eq!(number(&finished, "tap_gone"), 1);
    });
}

fn refused() {
    isolated(|| {
        let backend = Backend::Process;
        let fails = |name: &str, says: &str| {
            let net = format!(r#"net=[{{"backend":{{"tap":"{name}"}}}}]"#);
            let finished = Run::new(backend, "hello").set(net).finish();
            assert_eq!(finished.status, 124, "{finished:#?}");
            assert!(finished.stderr.contains(says), "{finished:#?}");
            assert_eq!(finished.stderr.lines().count(), 1, "{finished:#?}");
        };
        ip("link add bridge0 type bridge");
        fails("bridge0", "is no tap interface");
        let guest = on_tap(backend, "web");
        guest.wait_for("serving");
        fails("tap0", "in use by another program");
    });
}

/// A user who is not root uses the tap made for it, and no other.
fn own_tap() {
    const USER: u32 = 65_534;
    isolated(|| {
        ip(&format!("tuntap add mine mode tap user {USER}"));
        ip("tuntap add roots mode tap user 0");
        open_tun_to_all();
        let folder = tempfile::tempdir().expect("a folder");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).expect("the folder can be opened to all");
        let copy = folder.path().join("denali");
        std::fs::copy(program(), &copy).expect("the program can be copied");
        let start = |tap: &str| {
            let net = format!(r#"net=[{{"backend":{{"tap":"{tap}"}}}}]"#);
            let words = ["run", "hello", "--hypervisor", "process", "--set", &net];
            let mut command = Command::new(&copy);
            command.args(words).current_dir("/").uid(USER).gid(USER);
            command.output().expect("the program starts")
        };
        let own = start("mine");
        assert!(own.status.success(), "{own:?}");
        for name in ["roots", "missing"] {
            let other = start(name);
            let said = String::from_utf8_lossy(&other.stderr).into_owned();
            assert_eq!(other.status.code(), Some(124), "{said}");
            assert!(said.contains(&format!("no tap interface \"{name}\"")), "{said}");
        }
    });
}

/// Sees to it that /dev/net/tun has its usual mode, in a mount namespace of this thread.
fn open_tun_to_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = folder.path().join("tun");
    let node = node.to_str().expect("a path in UTF-8");
    // SAFETY: moves this thread, which ends with the test, into a new namespace.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
    for (program, words) in [
        ("mount", &["--make-rprivate", "/"][..]),
        ("mknod", &["-m", "666", node, "c", "10", "200"]),
        ("mount", &["--bind", node, "/dev/net/tun"]),
    ] {
        let output = run(program, words);
        assert!(output.status.success(), "{program} {words:?}: {output:?}");
    }
}
