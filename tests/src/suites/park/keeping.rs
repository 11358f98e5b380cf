//! `denali keep`: guests that are parked while nobody wants them, and woken by what comes.

use crate::backend::Backend;
use crate::guest::{Run, denali, wait_until};
use crate::home::Home;
use crate::http::get;
use crate::keeper::Keeper;
use crate::lines::{Lines, ask};
use crate::namespace::{isolated, make_tap};
use crate::process;
use crate::registry::{Case, Need};
use denali_control::{Life, Request, Told};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    vec![
        Case::each("a_web_server_has_no_process_until_it_is_asked", web),
        Case::each("more_guests_than_monitors_wait_for", many),
        Case::each("guests_wake_without_monitors_that_wait", unprepared),
        Case::each("a_parked_guests_timer_goes_off", timer),
        Case::each("a_deadline_that_is_overdue_is_met_once", overdue),
        Case::each("who_asks_how_a_parked_guest_is_does_not_wake_it", asked),
        Case::each("a_guest_is_parked_by_a_command_and_goes_on_elsewhere", leaves),
        Case::each("a_keeper_that_stops_parks_and_the_next_one_goes_on", restarted),
        Case::each("a_keeper_without_state_stops_its_guests", stopped),
        Case::each("guests_that_end_have_nothing_left", ends),
        Case::each("a_parked_guest_is_a_copy_of_no_image_file", image),
        Case::each("a_connection_on_a_tap_lasts_while_its_guest_is_parked", tap)
            .needs(Need::Namespaces),
    ]
}

/// A guest of this name, which a keeper parks soon.
pub fn kept(backend: Backend, mut configuration: Value, name: &str) -> Value {
    configuration["name"] = json!(name);
    configuration["hypervisor"] = json!(backend.name());
    configuration["swap"]["park_after"] = json!("20ms");
    configuration["swap"]["park_horizon"] = json!("50ms");
    configuration.as_object_mut().expect("an object").remove("control");
    configuration
}

/// A probe of this name, which a keeper parks soon.
fn probe(backend: Backend, home: &Home, name: &str, arguments: &str) -> Value {
    kept(backend, home.probe(arguments), name)
}

fn web(backend: Backend) {
    let home = Home::new(2);
    let keeper = Keeper::start(&home, &[kept(backend, home.guest("web", ""), "web")], &[]);
    let address = keeper.address("web");
    for round in 0..5 {
        keeper.wait_until_parked("web");
        let process = keeper.process_of("web").expect("it had a monitor");
        assert!(!process::exists(process), "round {round}");
        let page = get(address, &format!("/hello/{round}"));
        assert_eq!(page.text(), format!("hello {round}, from inside a Denali guest\n"));
        let woken = keeper.wait_for("web", "woken", round);
        assert!(woken["micros"].as_u64() > Some(0), "{woken}");
    }
    keeper.wait_until_parked("web");
    super::super::web::assert_counting(&get(address, "/bytes/300000"), 300_000);
    keeper.stop();
    assert!(home.regions().is_empty(), "{:?}", home.regions());
}

fn serves_many(backend: Backend, pool: &str) {
    const GUESTS: usize = 5;
    let home = Home::new(1);
    let names: Vec<String> = (0..GUESTS).map(|number| format!("guest{number}")).collect();
    let guests: Vec<Value> =
        names.iter().map(|name| probe(backend, &home, name, "memory-hash 1")).collect();
    let keeper = Keeper::start(&home, &guests, &["--pool", pool]);
    for round in 1..=3 {
        names.iter().for_each(|name| keeper.wait_until_parked(name));
        // All are wanted at once.
        let mut all: Vec<Lines> =
            names.iter().map(|name| Lines::connect(keeper.address(name))).collect();
        all.iter_mut().for_each(|lines| lines.say("check"));
        for lines in &mut all {
            let answer = lines.hear();
            assert!(answer.starts_with(&format!("ok {round} {}", round + 1)), "{answer}");
        }
    }
    keeper.stop();
}

fn many(backend: Backend) {
    serves_many(backend, "2");
}

fn unprepared(backend: Backend) {
    serves_many(backend, "0");
}

/// The lines that a guest with a timer has printed, each as its four numbers.
fn ticks(path: &std::path::Path) -> Vec<[u64; 4]> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole =
        text.lines().filter(|line| line.starts_with("tick due=") && line.contains("generation="));
    let numbers = |line: &str| {
        let mut numbers = line.split(['=', ' ']).filter_map(|word| word.parse().ok());
        [0; 4].map(|_: u64| numbers.next().expect("four numbers"))
    };
    whole.map(numbers).collect()
}

fn ticking(backend: Backend, ms: u64) -> (Home, Keeper, std::path::PathBuf) {
    let home = Home::new(1);
    let guest = probe(backend, &home, "ticking", &format!("tick-report {ms}"));
    let logs = home.path("logs");
    let keeper = Keeper::start(&home, &[guest], &["--logs", logs.to_str().expect("UTF-8")]);
    (home, keeper, logs.join("ticking.log"))
}

fn timer(backend: Backend) {
    let (_home, keeper, log) = ticking(backend, 300);
    for round in 0..4 {
        let waking = keeper.wait_for("ticking", "waking", round);
        assert_eq!(waking["because"], "timer", "{waking}");
        wait_until("the guest says so", || ticks(&log).len() > round + 1);
    }
    let ticks = ticks(&log);
    assert!(ticks.iter().all(|[due, now, ..]| now >= due), "early: {ticks:?}");
    assert!(ticks.is_sorted_by(|one, next| one[0] < next[0] && one[1] < next[1]), "{ticks:?}");
    assert!(ticks.last().is_some_and(|tick| tick[3] >= 4), "a generation for each wake: {ticks:?}");
    keeper.stop();
}

/// The keeper is stopped until long after the deadline; the guest sees to it that its timer comes once.
fn overdue(backend: Backend) {
    let home = Home::new(1);
    let guest = probe(backend, &home, "waiting", "clock-stopped 400");
    let keeper = Keeper::start(&home, &[guest], &[]);
    keeper.wait_until_parked("waiting");
    keeper.signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_millis(900));
    keeper.signal(libc::SIGCONT);
    let ended = keeper.wait_for("waiting", "ended", 0);
    assert_eq!(ended["status"], 0, "{ended}");
    assert_eq!(keeper.finish().status, 0);
}

fn asked(backend: Backend) {
    let home = Home::new(1);
    let mut guest = probe(backend, &home, "guest", "memory-hash 1");
    guest["control"] = json!(home.path("control"));
    let keeper = Keeper::start(&home, &[guest], &[]);
    keeper.wait_until_parked("guest");
    for _ in 0..3 {
        let status = home.control().status();
        assert_eq!((status.life, status.resident_pages), (Life::Parked, 0), "{status:?}");
        assert!(status.stored_pages > 256, "{status:?}");
        let told = home.control().ask(&Request::SwapOut {});
        assert_eq!(told, Told::SwappedOut { pages: status.stored_pages });
        let shown = denali(["status".as_ref(), home.path("control").as_os_str()]);
        assert!(shown.status == 0 && shown.stdout.contains("parked"), "{shown:#?}");
    }
    assert_eq!(keeper.count("guest", "waking"), 0);
    assert!(ask(keeper.address("guest"), "check").starts_with("ok 1 2 "));
    keeper.stop();
}

/// Status and record of a parked guest, through the keeper; then another monitor has it.
fn leaves(backend: Backend) {
    let home = Home::new(1);
    let mut guest = kept(backend, home.parkable("memory-hash 1"), "guest");
    guest["control"] = json!(home.path("control"));
    let keeper = Keeper::start(&home, &[guest.clone()], &[]);
    keeper.wait_until_parked("guest");
    assert!(ask(keeper.address("guest"), "check").starts_with("ok 1 2 "));
    keeper.wait_until_parked("guest");
    let (control, record) = (home.path("control"), home.path("record"));
    let words = ["park".as_ref(), control.as_os_str(), "--record".as_ref(), record.as_os_str()];
    let parked = denali(words);
    assert_eq!(parked.status, 0, "{parked:#?}");
    let finished = keeper.finish();
    assert_eq!(finished.status, 0, "a keeper without guests ends: {finished:#?}");
    assert_eq!(home.regions().len(), 1);
    let guest = Run::resume(backend, &home.path("kept0.json"), &record).json().start();
    assert!(ask(guest.address(), "check").starts_with("ok 2 3 "));
}

fn restarted(backend: Backend) {
    let home = Home::new(2);
    let state = home.path("state");
    let state = ["--state", state.to_str().expect("UTF-8")];
    let guests = [
        kept(backend, home.parkable("memory-hash 1"), "first"),
        kept(backend, home.parkable("memory-hash 2"), "second"),
    ];
    let keeper = Keeper::start(&home, &guests, &state);
    keeper.wait_until_parked("first");
    keeper.stop();
    assert_eq!(home.regions().len(), 4, "what is parked stays: {:?}", home.regions());
    for round in 1..=3 {
        let keeper = Keeper::start(&home, &[], &state);
        for name in ["first", "second"] {
            let answer = ask(keeper.address(name), "check");
            assert!(answer.starts_with(&format!("ok {round} ")), "{answer}");
        }
        // Connections stand against parking; once they are gone, it may run or be parked when it stops.
        keeper.wait_until_parked("first");
        keeper.wait_until_parked("second");
        keeper.stop();
    }
}

fn stopped(backend: Backend) {
    let home = Home::new(1);
    let guests = [
        probe(backend, &home, "first", "memory-hash 1"),
        probe(backend, &home, "second", "wait-stop"),
    ];
    let keeper = Keeper::start(&home, &guests, &[]);
    keeper.wait_until_parked("first");
    keeper.wait_until_parked("second");
    keeper.signal(libc::SIGTERM);
    let (first, second) =
        (keeper.wait_for("first", "ended", 0), keeper.wait_for("second", "ended", 0));
    assert_eq!((&first["status"], &second["status"]), (&json!(0), &json!(3)));
    assert_eq!(keeper.finish().status, 0);
    assert!(home.regions().is_empty(), "{:?}", home.regions());
}

fn ends(backend: Backend) {
    let home = Home::new(1);
    let guests = [
        probe(backend, &home, "exits", "exit 7"),
        probe(backend, &home, "crashes", "ud2"),
        probe(backend, &home, "idles", "idle 400"),
    ];
    let keeper = Keeper::start(&home, &guests, &[]);
    for (name, status) in [("exits", 7), ("crashes", 121), ("idles", 0)] {
        let ended = keeper.wait_for(name, "ended", 0);
        assert_eq!(ended["status"], status, "{ended}");
    }
    let finished = keeper.finish();
    assert_eq!(finished.status, 0, "{finished:#?}");
    assert!(home.regions().is_empty(), "{:?}", home.regions());
}

/// The keeper has the image, whatever becomes of its file.
fn image(backend: Backend) {
    let home = Home::new(1);
    let path = home.path("own.elf");
    let state = home.path("state");
    let state = ["--state", state.to_str().expect("UTF-8")];
    for cut in [false, true] {
        fs::copy(denali_images::PROBE_PATH, &path).expect("room for an image");
        let name = if cut { "cut" } else { "overwritten" };
        let mut guest = kept(backend, home.parkable("memory-hash 1"), name);
        guest["image"] = json!(path);
        let keeper = Keeper::start(&home, &[guest], &state);
        keeper.wait_until_parked(name);
        super::images::spoil(&path, cut);
        assert!(ask(keeper.address(name), "check").starts_with("ok 1 "));
        keeper.wait_until_parked(name);
        assert!(ask(keeper.address(name), "check").starts_with("ok 2 "));
        keeper.wait_until_parked(name);
        keeper.stop();
        let keeper = Keeper::start(&home, &[], &state);
        assert!(ask(keeper.address(name), "check").starts_with("ok 3 "));
        keeper.wait_until_parked(name);
        keeper.stop();
        fs::remove_dir_all(home.path("state")).expect("the state can be removed");
    }
}

fn tap(backend: Backend) {
    isolated(|| {
        make_tap("tap0", "10.81.0.1/24");
        let home = Home::new(1);
        let mut guest = probe(backend, &home, "echo", "tcp-echo 7");
        guest["net"] = json!([{ "address": "10.81.0.2/24", "backend": { "tap": "tap0" } }]);
        let keeper = Keeper::start(&home, &[guest], &[]);
        keeper.wait_for("echo", "started", 0);
        let mut lines = Lines::connect("10.81.0.2:7".parse().expect("an address"));
        for text in ["one", "two"] {
            assert_eq!(lines.ask(text), text);
            keeper.wait_until_parked("echo");
        }
        std::thread::sleep(Duration::from_secs(5));
        keeper.wait_until_parked("echo");
        assert_eq!(lines.ask("much later"), "much later");
        keeper.stop();
    });
}
