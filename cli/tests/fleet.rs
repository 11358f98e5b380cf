//! Commands for guests of a supervisor, against one that gives answers by a script.

mod scripted;
mod support;
mod terminal;

use denali_abi::status::{BAD_ARGUMENTS, BAD_CONFIG, BAD_IMAGE, HOST_LACKS, MONITOR_FAILED};
use scripted::{Supervisor, cut_stream, guest, host, inspection, outcome, stream, whole};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::Output;
use std::thread;
use support::{assert_refused, denali, file, folder, run, run_with_input, stderr, stdout};

/// Runs a command against a supervisor with these answers: what it printed, and what it asked for.
fn ask(name: &str, answers: Vec<String>, arguments: &[&str]) -> (Output, Vec<String>) {
    let supervisor = Supervisor::new(folder(), name, answers);
    let output = run(&[arguments, &["--socket", name]].concat());
    (output, supervisor.requests())
}

#[test]
fn all_commands_teach_with_examples() {
    let commands = "create start stop wake remove list inspect console logs events top drain park status doctor";
    let all = stdout(&run(&["--help"]));
    for command in commands.split(' ') {
        let output = run(&[command, "--help"]);
        let text = stdout(&output);
        assert!(output.status.success() && text.contains("Examples:"), "{command}: {text}");
        assert!(text.contains(&format!("denali {command}")), "{command}: {text}");
        assert!(all.contains(&format!("\n  {command} ")), "{command}: {all}");
        if command != "doctor" {
            assert!(text.contains("--socket <PATH>") && text.contains("--json"), "{text}");
        }
    }
}

#[test]
fn where_no_supervisor_listens_is_said_what_to_type() {
    let left = folder().join("left.sock");
    drop(UnixListener::bind(&left).unwrap());
    for (socket, message) in [
        ("nobody.sock", "no supervisor listens at nobody.sock; start one (denali supervisor)"),
        ("left.sock", "no supervisor listens at left.sock; start one"),
        (&"x".repeat(200), "is too long for the path of a socket"),
    ] {
        for command in
            [&["list"][..], &["create", "a", "hello"], &["stop", "a"], &["drain"], &["top"]]
        {
            assert_refused(&[command, &["--socket", socket]].concat(), HOST_LACKS, message);
        }
    }
    let by_variable = |name: &str, value: &str| {
        let mut command = denali();
        command.env_remove("DENALI_SOCKET").env_remove("XDG_RUNTIME_DIR").env(name, value);
        stderr(&command.arg("list").output().unwrap())
    };
    let said = by_variable("DENALI_SOCKET", "/nowhere/a.sock");
    assert!(said.starts_with("denali: no supervisor listens at /nowhere/a.sock;"), "{said}");
    let said = by_variable("NOTHING", "");
    assert!(said.contains("--socket PATH or $DENALI_SOCKET"), "{said}");
}

#[test]
fn guests_are_created_of_a_configuration() {
    file("create.json", r#"{"image": "./sub/app.elf", "memory": "16MiB", "name": "other"}"#);
    let answer = stream([outcome("web-1", None), outcome("web-2", None)]);
    let arguments = [
        "create",
        "web",
        "create.json",
        "--count",
        "2",
        "--start",
        "--tenant",
        "alice",
        "--set",
        "memory=32MiB",
    ];
    let (output, requests) = ask("create.sock", vec![answer], &arguments);
    assert_eq!(stdout(&output), "created 2 guests\n", "{}", stderr(&output));
    assert!(output.status.success() && stderr(&output).is_empty());
    let body: Value =
        serde_json::from_str(requests[0].strip_prefix("POST /v1/guests ").unwrap()).unwrap();
    assert_eq!((&body["name"], &body["count"]), (&"web".into(), &2.into()));
    assert_eq!((&body["tenant"], &body["start"]), (&"alice".into(), &true.into()));
    assert_eq!(body["template"], Value::Null);
    let configuration = &body["configuration"];
    assert_eq!(configuration["memory"], "32MiB");
    let image = configuration["image"].as_str().unwrap();
    assert!(image.starts_with('/') && image.ends_with("/sub/app.elf"), "{image}");
}

#[test]
fn guests_are_created_as_copies() {
    file("of-web.snapshot", "for the supervisor to read");
    let one = whole("200 OK", &outcome("web", None));
    let (output, requests) =
        ask("copies.sock", vec![one], &["create", "web", "--from", "of-web.snapshot"]);
    assert_eq!(stdout(&output), "web: created\n", "{}", stderr(&output));
    let body: Value =
        serde_json::from_str(requests[0].strip_prefix("POST /v1/guests ").unwrap()).unwrap();
    assert_eq!(body["template"], folder().join("of-web.snapshot").to_str().unwrap());
    assert_eq!((&body["configuration"], &body["count"]), (&Value::Null, &1.into()));
}

#[test]
fn what_cannot_be_created_is_found_before_anybody_is_asked() {
    file("bad.json", r#"{"image": "hello", "cpus": 2}"#);
    assert_refused(&["create", "a", "bad.json"], BAD_CONFIG, "bad.json: cpus: unknown field");
    assert_refused(&["create", "a"], BAD_ARGUMENTS, "not provided: <VM.JSON|IMAGE>");
    assert_refused(&["create", "a", "hello", "--count", "0"], BAD_ARGUMENTS, "invalid value '0'");
    let missing = ["create", "a", "--from", "no.snapshot"];
    assert_refused(&missing, BAD_IMAGE, "--from no.snapshot: there is no such snapshot");
    for name in ["", "a b", "web*", &"x".repeat(65)] {
        assert_refused(&["create", name, "hello"], BAD_ARGUMENTS, "the guest's name \"");
    }
}

#[test]
fn outcomes_of_many_guests_are_summed_up() {
    let outcomes = (0..10_000).map(|number| {
        let name = format!("web-{number}");
        let failed = number % 1000 == 7;
        outcome(&name, failed.then_some((if number == 7 { 123 } else { 124 }, "no \x1b[5mroom")))
    });
    let (output, requests) = ask("sum.sock", vec![stream(outcomes)], &["start", "web-*", "b"]);
    assert_eq!(requests, [r#"POST /v1/actions {"action":"start","guests":["web-*","b"]}"#]);
    assert_eq!(output.status.code(), Some(123), "that of the first that failed");
    let said = stdout(&output);
    assert!(
        said.starts_with("started 9,990 of 10,000 guests") && said.lines().count() == 1,
        "{said}"
    );
    let told = stderr(&output);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 6, "{told}");
    assert_eq!(lines[0], "denali: web-7: no \u{fffd}[5mroom");
    assert_eq!(
        lines[5],
        "denali: 10 guests could not be started; of these, 5 more than are told here"
    );
}

#[test]
fn outcomes_are_objects_for_programs() {
    let answer = stream([outcome("a", None), outcome("b", Some((124, "no")))]);
    let (output, _) = ask("objects.sock", vec![answer], &["park", "a", "b", "--json"]);
    assert_eq!(output.status.code(), Some(124));
    let text = stdout(&output);
    let values: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&values[0]["name"], &values[1]["error"]["status"]), (&"a".into(), &124.into()));
    assert_eq!((&values[2]["event"], &values[2]["status"]), (&"error".into(), &124.into()));
}

#[test]
fn answers_that_are_none() {
    let refused =
        whole("404 Not Found", r#"{"status": 122, "message": "there is no guest \"x\""}"#);
    let cut = cut_stream([outcome("a", None), outcome("b", None)]);
    for (number, (answer, arguments, status, message)) in [
        (refused, &["stop", "x"][..], BAD_CONFIG, "denali: there is no guest \"x\"\n"),
        (
            stream::<&str>([]),
            &["stop", "x", "y*"],
            BAD_CONFIG,
            "denali: there is no guest x or y*; ",
        ),
        (
            cut,
            &["stop", "*"],
            HOST_LACKS,
            "denali: after 2 guests: the supervisor went away before ",
        ),
        (
            stream(["{\"name\": 1}"]),
            &["wake", "*"],
            MONITOR_FAILED,
            "cannot be understood: invalid type",
        ),
        (whole("200 OK", "[]"), &["inspect", "x"], MONITOR_FAILED, "cannot be understood: "),
        ("HTTP/1.1 200 OK\r\n".into(), &["list"], HOST_LACKS, "the supervisor went away "),
        ("220 mail ESMTP\r\n".into(), &["list"], MONITOR_FAILED, "it is no HTTP"),
        (whole("500 Oops", "oops"), &["drain"], MONITOR_FAILED, "status 500: oops"),
        (stream(["{"]), &["events"], MONITOR_FAILED, "cannot be understood: EOF"),
    ]
    .into_iter()
    .enumerate()
    {
        let (output, _) = ask(&format!("none-{number}.sock"), vec![answer], arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(status.into()), "{arguments:?}: {said}");
        assert!(said.contains(message) && said.lines().count() == 1, "{arguments:?}: {said}");
    }
}

#[test]
fn a_list_is_a_table_in_the_order_of_numbers() {
    let mut failed = guest("web-2", "failed");
    failed["note"] = "crashed\x1b[2J".into();
    failed["tenant"] = "alice".into();
    let lines = [guest("web-10", "parked"), failed, guest("web-1", "running")];
    let answer = || stream(lines.iter().map(Value::to_string));
    let (output, requests) = ask("list.sock", vec![answer()], &["list", "web-*"]);
    assert_eq!(requests, ["GET /v1/guests?name=web-%2A"]);
    let text = stdout(&output);
    let rows: Vec<Vec<&str>> = text.lines().map(|row| row.split_whitespace().collect()).collect();
    let names: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(names, ["NAME", "web-1", "web-2", "web-10"]);
    assert!(rows[0].contains(&"TENANT") && rows[2].contains(&"alice"), "{text}");
    assert!(
        text.contains("34,567") && text.contains("1.2 MiB") && text.contains("10.77.0.9"),
        "{text}"
    );
    assert!(text.contains("crashed\u{fffd}[2J") && !text.contains('\x1b'), "{text}");
    let ends = |word: &str| {
        text.lines().filter_map(|row| row.find(word).map(|at| at + word.len())).collect::<Vec<_>>()
    };
    assert!(ends("16 MiB").iter().all(|&at| at == ends("MEMORY")[0]), "{text}");

    let (output, _) =
        ask("list-state.sock", vec![answer()], &["list", "--state", "parked", "--json"]);
    let value: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(value, guest("web-10", "parked"));
    let (output, _) = ask("list-tenant.sock", vec![answer()], &["list", "--tenant", "alice"]);
    assert_eq!(stdout(&output).lines().count(), 2);
    let (output, _) = ask("list-none.sock", vec![answer()], &["list", "--tenant", "bob"]);
    assert_eq!((stdout(&output).as_str(), output.status.code()), ("", Some(0)));
    assert_eq!(stderr(&output), "denali: there is no such guest\n");
    assert_refused(&["logs", "a", "--tail", "0"], BAD_ARGUMENTS, "invalid value '0' for '--tail");
    assert_refused(&["list", "--state", "asleep"], BAD_ARGUMENTS, "possible values: stopped, ");
}

#[test]
fn ten_thousand_guests_are_listed() {
    let lines = (0..10_000).map(|number| guest(&format!("web-{number}"), "running").to_string());
    let (output, _) = ask("many.sock", vec![stream(lines)], &["list"]);
    let text = stdout(&output);
    assert_eq!(text.lines().count(), 10_001);
    assert!(text.lines().last().unwrap().starts_with("web-9999 "), "they are sorted");
}

#[test]
fn a_guest_is_inspected() {
    let answer = || whole("200 OK", &inspection("web/1", None, None));
    let (output, requests) = ask("inspect.sock", vec![answer()], &["inspect", "web/1"]);
    assert_eq!(requests, ["GET /v1/guests/web%2F1"]);
    let text = stdout(&output);
    for expected in
        ["running for ", "16 MiB, its monitor has 683 KiB", "as state 3", "\"image\": \"web\""]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let (output, _) = ask("inspect-json.sock", vec![answer()], &["inspect", "web/1", "--json"]);
    let value: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&value["sequence"], &value["guest"]["wakes"]), (&3.into(), &12.into()));
}

#[test]
fn logs_are_copied_as_they_are() {
    let answer = || whole("200 OK", "one\n\u{e4} \x1b[1mtwo");
    let arguments = ["logs", "web-1", "--tail", "2", "--follow"];
    let (output, requests) = ask("logs.sock", vec![answer()], &arguments);
    assert_eq!(stdout(&output), "one\n\u{e4} \x1b[1mtwo");
    assert_eq!(requests, ["GET /v1/guests/web-1/log?tail=2&follow=1"]);
    let (output, _) = ask("logs-json.sock", vec![answer()], &["logs", "web-1", "--json"]);
    let text = stdout(&output);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["text"], lines.len()), (&"one\n".into(), 2));
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_owned();
    let (output, _) = ask("logs-cut.sock", vec![cut], &["logs", "web-1"]);
    assert_eq!((stdout(&output).as_str(), output.status.code()), ("half", Some(124)));
}

#[test]
fn events_are_told_until_the_supervisor_ends() {
    let lines = [
        r#"{"number":1,"at_ms":0,"guest":"web-1","event":"woken","micros":2100}"#,
        r#"{"number":2,"at_ms":1,"guest":"","event":"gate","decision":"web-2 waits: no memory"}"#,
    ];
    let (output, requests) = ask("events.sock", vec![stream(lines)], &["events", "web-?"]);
    assert_eq!(requests, ["GET /v1/events?guest=web-%3F"]);
    let expected = "1970-01-01 00:00:00.000  web-1: woken after 2.1 ms\n\
                    1970-01-01 00:00:00.001  host: gate: web-2 waits: no memory\n";
    assert_eq!(stdout(&output), expected);
    let (output, _) = ask("events-json.sock", vec![stream(lines)], &["events", "--json"]);
    let text = stdout(&output);
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first, serde_json::from_str::<Value>(lines[0]).unwrap());
}

#[test]
fn top_is_one_picture_where_it_cannot_change() {
    let sample = |packets: u64| {
        let mut hot = guest("web-2", "running");
        hot["packets"] = packets.into();
        let guests = [guest("web-1", "parked"), hot].map(|guest| guest.to_string());
        [whole("200 OK", &host(1, 1_700_000_000_000)), stream(guests)]
    };
    let answers = || sample(100).into_iter().chain(sample(1_000_100)).collect::<Vec<_>>();
    let (output, requests) = ask("top.sock", answers(), &["top", "web-*"]);
    assert_eq!(requests[..2], ["GET /v1/host", "GET /v1/guests?name=web-%2A"]);
    let text = stdout(&output);
    for expected in
        ["denali 0.1.0  up ", "memory ", "swap ", ". parked 40  # running 1", "gate   2 wait"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains('\x1b'), "{text}");
    // The one that had packets meanwhile comes first.
    let names: Vec<&str> =
        text.lines().filter(|line| line.starts_with("web-")).map(|line| &line[..5]).collect();
    assert_eq!(names, ["web-2", "web-1"], "{text}");
    let (output, _) = ask("top-json.sock", answers(), &["top", "--once", "--json"]);
    let value: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(value["hottest"].as_array().unwrap().len(), 1);
    assert_eq!(value["hottest"][0]["guest"]["name"], "web-2");
    assert!(value["hottest"][0]["packets_per_s"].as_f64().unwrap() > 0.0);
    assert_eq!((&value["wakes_per_s"], &value["host"]["wakes"]), (&0.0.into(), &500.into()));
}

#[test]
fn draining_waits_until_the_supervisor_has_ended() {
    let ok = |body: String| whole("200 OK", &body);
    let ends = whole("503 Service Unavailable", r#"{"status": 124, "message": "it ends"}"#);
    let answers =
        vec![ok(host(3, 1)), whole("202 Accepted", ""), ok(host(2, 1)), ok(host(0, 1)), ends];
    let (output, requests) = ask("drain.sock", answers, &["drain"]);
    assert!(
        stdout(&output).starts_with("drained: 3 guests left memory in "),
        "{}",
        stdout(&output)
    );
    assert_eq!(requests[1], "POST /v1/drain");
    // A supervisor that has ended, or that was replaced by another one, has drained.
    let answers = vec![ok(host(3, 1)), whole("202 Accepted", "")];
    let (output, _) = ask("drain-ended.sock", answers, &["drain", "--json"]);
    assert_eq!(stdout(&output), "{\"drained\":true,\"guests\":3}\n", "{}", stderr(&output));
    let answers = vec![ok(host(3, 1)), whole("202 Accepted", ""), ok(host(3, 2))];
    let (output, _) = ask("drain-other.sock", answers, &["drain"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let answers = vec![ok(host(3, 1)), whole("202 Accepted", "")];
    let (output, _) = ask("drain-no-wait.sock", answers, &["drain", "--no-wait"]);
    assert_eq!(stdout(&output), "the supervisor parks 3 guests, and ends\n");
}

#[test]
fn a_console_carries_bytes_both_ways() {
    let path = folder().join("of-guest.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let of_guest = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"login: ").unwrap();
        let mut typed = String::new();
        stream.read_to_string(&mut typed).unwrap();
        stream.write_all(b"bye\n").unwrap();
        typed
    });
    let answer = whole("200 OK", &inspection("db", Some(&path), None));
    let supervisor = Supervisor::new(folder(), "console.sock", vec![answer]);
    // Without a terminal, Ctrl-] is a byte like others.
    let output = run_with_input(&["console", "db", "--socket", "console.sock"], b"root\n\x1d");
    assert_eq!(stdout(&output), "login: bye\n", "{}", stderr(&output));
    assert_eq!(of_guest.join().unwrap(), "root\n\x1d");
    assert!(stderr(&output).contains("has hung up"), "{}", stderr(&output));
    assert_eq!(supervisor.requests(), ["GET /v1/guests/db"]);
}

#[test]
fn a_guest_without_a_console_shows_its_log() {
    let answers = vec![whole("200 OK", &inspection("db", None, None)), whole("200 OK", "ready\n")];
    let (output, requests) = ask("no-console.sock", answers, &["console", "db"]);
    assert_eq!(stdout(&output), "ready\n");
    assert!(stderr(&output).contains("db: has no console device"), "{}", stderr(&output));
    assert_eq!(requests[1], "GET /v1/guests/db/log?tail=20&follow=1");
    let gone = whole("200 OK", &inspection("db", Some(&folder().join("gone.sock")), None));
    let (output, _) = ask("gone-console.sock", vec![gone], &["console", "db"]);
    assert_eq!(output.status.code(), Some(HOST_LACKS.into()));
    assert!(stderr(&output).contains("db: its console "), "{}", stderr(&output));
}

#[test]
fn one_command_serves_guests_of_both_kinds() {
    // A path is a control socket, whatever a supervisor has; a name is the supervisor's.
    assert_refused(&["park", "./web"], HOST_LACKS, "./web: there is no such socket");
    assert_refused(
        &["park", "a.sock", "b.sock"],
        BAD_ARGUMENTS,
        "a.sock: is a control socket, whose",
    );
    assert_refused(
        &["park", "web", "--cut"],
        BAD_ARGUMENTS,
        "--cut: is for guests that run by themselves",
    );
    let done = || stream([outcome("web.sock", None)]);
    let (output, requests) = ask("both.sock", vec![done()], &["park", "web.sock"]);
    assert_eq!(stdout(&output), "web.sock: parked\n", "{}", stderr(&output));
    assert_eq!(requests, [r#"POST /v1/actions {"action":"park","guests":["web.sock"]}"#]);

    // What only monitors know is asked of them, by way of the supervisor.
    let control = folder().join("of-monitor.sock");
    let known = |control| whole("200 OK", &inspection("web-1", None, control));
    let (output, requests) =
        ask("swap-out.sock", vec![known(Some(control.as_path()))], &["swap-out", "web-1"]);
    assert_eq!(output.status.code(), Some(HOST_LACKS.into()));
    assert!(
        stderr(&output).contains("of-monitor.sock: there is no such socket"),
        "{}",
        stderr(&output)
    );
    assert_eq!(requests, ["GET /v1/guests/web-1"]);
    let answers = vec![stream([guest("web-1", "running").to_string()]), known(None)];
    let (output, _) = ask("status.sock", answers, &["status", "web-*"]);
    assert_eq!(output.status.code(), Some(BAD_CONFIG.into()));
    assert!(stderr(&output).contains("web-1: has no control socket"), "{}", stderr(&output));
    let (output, _) = ask("status-none.sock", vec![stream::<&str>([])], &["status", "web-*"]);
    assert!(stderr(&output).contains("there is no guest web-*"), "{}", stderr(&output));
    assert!(fs::metadata(&control).is_err());
}
