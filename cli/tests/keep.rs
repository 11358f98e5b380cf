//! Guests that are kept, parked and asked, as far as no guest is needed for it; the rest is tested from outside.

mod support;

use denali_abi::status::{BAD_ARGUMENTS, BAD_CONFIG, HOST_LACKS};
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use support::{assert_refused, file, folder, run, stderr, stdout};

/// A folder that only this user can write.
fn private_folder(name: &str) {
    let path = folder().join(name);
    fs::create_dir_all(&path).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn commands_for_guests_teach_with_examples() {
    for command in ["keep", "status", "swap-out", "park", "resume", "snapshot"] {
        let output = run(&[command, "--help"]);
        let text = stdout(&output);
        assert!(output.status.success() && text.contains("Examples:"), "{command}: {text}");
        assert!(text.contains(&format!("denali {command} ")), "{command}: {text}");
    }
    let text = stdout(&run(&["--help"]));
    for command in ["keep", "status", "swap-out", "park", "resume", "snapshot", "doctor"] {
        assert!(text.contains(&format!("\n  {command} ")), "{command}: {text}");
    }
}

#[test]
fn command_lines_without_what_they_need() {
    for (arguments, message) in [
        (&["keep"][..], "required arguments were not provided: <VM.JSON>"),
        (&["status"], "required arguments were not provided: <SOCK|NAME>"),
        (&["resume", "vm.json"], "required arguments were not provided: --record <FILE>"),
        (&["snapshot", "vm.sock"], "required arguments were not provided: <FILE>"),
        (&["keep", "vm.json", "--pool", "few"], "invalid value 'few' for '--pool <N>'"),
    ] {
        assert_refused(arguments, BAD_ARGUMENTS, message);
    }
}

#[test]
fn a_keeper_refuses_guests_that_it_cannot_keep() {
    private_folder("swap");
    file("plain-guest.json", r#"{"image": "hello", "hypervisor": "process"}"#);
    let no_key = r#"{"image": "hello", "hypervisor": "process", "swap": {"stripes": ["swap"]}}"#;
    file("no-key.json", no_key);
    assert_refused(&["keep", "missing.json"], BAD_CONFIG, "missing.json: there is no such file");
    for (name, message) in [
        ("plain-guest.json", "plain-guest.json: swap: is missing; with --state, "),
        ("no-key.json", "no-key.json: swap.key: is missing; with --state, name the host's key"),
    ] {
        assert_refused(&["keep", name, "--state", "state"], BAD_CONFIG, message);
    }
    let twice = ["keep", "no-key.json", "no-key.json"];
    assert_refused(&twice, BAD_CONFIG, "name: \"hello\" is another guest's too");
    let left = fs::read_dir(folder().join("swap")).unwrap().count();
    assert_eq!(left, 0, "no region is left of guests that never ran");

    file("a-file", "");
    let arguments = ["keep", "no-key.json", "--state", "a-file"];
    assert_refused(&arguments, HOST_LACKS, "--state: cannot make a-file");
    let arguments = ["keep", "no-key.json", "--logs", "a-file/logs"];
    assert_refused(&arguments, HOST_LACKS, "--logs a-file/logs: cannot be made");
}

#[test]
fn a_keeper_runs_guests_to_their_ends() {
    for (name, word) in [("one", "a"), ("other", "b")] {
        let text = format!(
            r#"{{"name": "{name}", "image": "hello", "hypervisor": "process", "args": "{word}"}}"#
        );
        file(&format!("keep-{name}.json"), text);
    }
    let arguments = ["keep", "keep-one.json", "keep-other.json", "--logs", "logs", "--json"];
    let output = run(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for name in ["one", "other"] {
        let of_guest = events.iter().filter(|event| event["name"] == name);
        let kinds: Vec<&str> = of_guest.map(|event| event["event"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["started", "ended"], "{text}");
    }
    let ended = events.iter().find(|event| event["event"] == "ended").unwrap();
    assert_eq!((&ended["status"], &ended["signal"]), (&0.into(), &Value::Null));
    let log = fs::read_to_string(folder().join("logs/other.log")).unwrap();
    assert_eq!(log, "hello from a Denali guest: b\n");
    let said = stdout(&run(&["keep", "keep-one.json"]));
    assert!(said.contains("one: started, as process ") && said.contains("one: ended: "), "{said}");
}

#[test]
fn guests_that_cannot_be_asked() {
    let missing = "no.sock: there is no such socket; is \"control\" in the guest's configuration";
    for arguments in [&["status", "no.sock"][..], &["swap-out", "no.sock"], &["park", "no.sock"]] {
        assert_refused(arguments, HOST_LACKS, missing);
    }
    let path = folder().join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert_refused(&["status", "left.sock"], HOST_LACKS, "left.sock: nobody listens there");
    // What was to be made is not left behind.
    assert_refused(&["park", "no.sock", "--record", "no.record"], HOST_LACKS, missing);
    assert_refused(&["snapshot", "no.sock", "no.snapshot"], HOST_LACKS, missing);
    assert!(!folder().join("no.record").exists() && !folder().join("no.snapshot").exists());
    file("there", "");
    let message = "--record there: exists; choose another file";
    assert_refused(&["park", "no.sock", "--record", "there"], HOST_LACKS, message);
    assert_refused(&["snapshot", "no.sock", "there"], HOST_LACKS, "there: exists; choose another");
}

#[test]
fn records_that_are_none() {
    private_folder("swap-of-records");
    let text = r#"{"image": "hello", "swap": {"stripes": ["swap-of-records"]}}"#;
    file("parked.json", text);
    let record = |text: &str| file("record", text);
    let resume = ["resume", "parked.json", "--record", "record"];
    record("{}");
    assert_refused(&resume, BAD_CONFIG, "--record record: is no record of a parked guest: missing");
    let fields = |id: &str, sequence: u64| {
        format!(
            r#"{{"guest_id": "{id}", "sequence": {sequence}, "root": "{}", "deadline_ns": null,
                "deadline_real_ns": null, "pages": 3}}"#,
            "0".repeat(64)
        )
    };
    record(&fields("x", 1));
    assert_refused(&resume, BAD_CONFIG, "--record record: names no guest, or no state of one");
    record(&fields(&"0".repeat(32), 0));
    assert_refused(&resume, BAD_CONFIG, "--record record: names no guest, or no state of one");
    record(&fields(&"0".repeat(32), 1));
    assert_refused(&resume, HOST_LACKS, "swap-of-records has no region of guest 00000000");
    let missing = ["resume", "parked.json", "--record", "no-such-record"];
    assert_refused(&missing, BAD_CONFIG, "--record no-such-record: ");
}

#[test]
fn the_doctor_looks_at_everything() {
    let output = run(&["doctor", "--json"]);
    let text = stdout(&output);
    let findings: Vec<Value> = serde_json::Deserializer::from_str(&text)
        .into_iter::<Value>()
        .next()
        .and_then(|list| list.unwrap().as_array().cloned())
        .unwrap();
    let severe = findings.iter().any(|finding| finding["verdict"] == "severe");
    assert_eq!(output.status.success(), !severe, "{text}");
    for what in [
        "/dev/kvm",
        "/dev/userfaultfd",
        "io_uring",
        "host's swap",
        "core dumps",
        "kernel.pid_max",
        "memory",
        "/dev/net/tun",
        "control groups",
    ] {
        let finding = findings.iter().find(|finding| finding["what"] == what);
        assert!(finding.is_some_and(|finding| finding["text"].is_string()), "{what}: {text}");
    }
    // More guests than any host has room for, in a folder that is none.
    let output = run(&["doctor", "--guests", "1000000", "--swap", "no-such-folder", "--json"]);
    assert_eq!(output.status.code(), Some(HOST_LACKS.into()));
    let text = stdout(&output);
    assert!(
        text.contains("kernel.pid_max=") && text.contains("install -d -m 0700 no-such"),
        "{text}"
    );
    file("host.json", r#"{"max_running": 7, "swap": {"stripes": ["nowhere"]}}"#);
    let text = stdout(&run(&["doctor", "--config", "host.json"]));
    assert!(text.contains("enough for 7 guests") && text.contains("/nowhere "), "{text}");
    assert_refused(&["doctor", "--config", "no.json"], BAD_CONFIG, "no.json: cannot be read");
    let table = stdout(&run(&["doctor"]));
    assert!(table.lines().all(|line| !line.trim().is_empty()) && table.contains("descriptors "));
}
