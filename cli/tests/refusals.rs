//! Every bad input that is found before the monitor runs: its exit status and its one line.

mod support;

use denali_abi::status::{BAD_ARGUMENTS, BAD_CONFIG, BAD_IMAGE, HOST_LACKS};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use support::{assert_refused, denali, file, folder, run, run_with_input, stderr, stdout};

#[test]
fn command_lines_that_make_no_sense() {
    for (arguments, message) in [
        (&["run"][..], "required arguments were not provided: <VM.JSON|IMAGE>"),
        (&["rum", "hello"], "unrecognized subcommand 'rum'"),
        (&["run", "hello", "--memroy", "1MiB"], "a similar argument exists: '--memory'"),
        (&["run", "hello", "--hypervisor", "xen"], "possible values: auto, kvm, process"),
        (&[], "there is no command"),
    ] {
        assert_refused(arguments, BAD_ARGUMENTS, message);
    }
}

#[test]
fn configurations_that_are_wrong() {
    file("malformed.json", "{\n  \"image\": \"hello\",\n}");
    file("unknown.json", r#"{"image": "hello", "cpus": 2}"#);
    file("nested.json", r#"{"image": "hello", "net": [{"backend": {"user": {"x": 1}}}]}"#);
    file("type.json", r#"{"image": "hello", "args": 7}"#);
    file("unit.json", r#"{"image": "hello", "memory": "16M"}"#);
    file("large.json", r#"{"image": "hello", "memory": "5GiB"}"#);
    file("small.json", r#"{"image": "hello", "memory": "64KiB"}"#);
    for command in ["run", "check"] {
        for (name, message) in [
            ("malformed.json", "malformed.json: not valid JSON: trailing comma at line 3 column 1"),
            ("unknown.json", "unknown.json: cpus: unknown field"),
            ("nested.json", "nested.json: net[0].backend.user.x: unknown field"),
            ("type.json", "type.json: args: 7 where a string is wanted"),
            ("unit.json", "unit.json: memory: \"16M\" has no unit of KiB, MiB or GiB"),
            ("large.json", "large.json: memory: 5GiB is more than the 4GiB a guest can have"),
            ("small.json", "small.json: memory: 64KiB is less than"),
            ("missing.json", "missing.json: there is no such file"),
        ] {
            assert_refused(&[command, name], BAD_CONFIG, message);
        }
        assert_refused(&[command, "hello", "--set", "memory"], BAD_CONFIG, "--set memory: has no");
        assert_refused(
            &[command, "hello", "--memory", "1TB"],
            BAD_CONFIG,
            "--memory 1TB: memory: ",
        );
        assert_refused(&[command, "hello", "--publish", "x"], BAD_CONFIG, "--publish x: net[0].");
    }
    let output = run_with_input(&["run", "-"], b"{");
    assert_eq!(output.status.code(), Some(BAD_CONFIG.into()));
    assert!(stderr(&output).starts_with("denali: standard input: not valid JSON: "));
}

#[test]
fn images_that_cannot_be_opened() {
    file("image.json", r#"{"image": "sub/app.elf"}"#);
    file("empty.elf", "");
    for command in ["run", "check"] {
        for (target, message) in [
            ("image.json", "image.json: image: sub/app.elf: there is no such file; check the path"),
            ("./missing.elf", "denali: ./missing.elf: there is no such file"),
            ("empty.elf", "denali: empty.elf: is empty"),
            ("./", "denali: ./: is a folder, not an image file"),
            ("helo", "\"helo\" is no built-in image; there are game, hello, iperf, web;"),
        ] {
            assert_refused(&[command, target], BAD_IMAGE, message);
        }
    }
}

#[test]
fn check_looks_into_the_image() {
    file("text.elf", "this is a text, and not a short one");
    assert_refused(&["check", "text.elf"], BAD_IMAGE, "image text.elf: not an ELF file");
    assert_refused(&["check", env!("CARGO_BIN_EXE_denali")], BAD_IMAGE, "dynamically linked");
}

#[test]
fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let publish = format!("{port}:80");
    file(
        "port.json",
        format!(
            r#"{{"image": "hello", "net": [{{"backend": {{"user": {{"publish": ["{publish}"]}}}}}}]}}"#
        ),
    );
    let message = format!("net[0].backend.user.publish[0]: port {port} of 127.0.0.1 is in use");
    assert_refused(&["run", "port.json"], HOST_LACKS, &format!("port.json: {message}"));
    assert_refused(&["run", "hello", "--publish", &publish], HOST_LACKS, &message);
}

#[test]
fn a_report_file_that_cannot_be_written() {
    assert_refused(
        &["run", "hello", "--report", "no-such-folder/report.json"],
        HOST_LACKS,
        "--report no-such-folder/report.json: cannot be written",
    );
}

#[test]
fn kvm_without_a_usable_device() {
    let output = match Access::of_device() {
        // This user may not use the device, or there is none.
        Access::Refused => run(&["run", "hello", "--hypervisor", "kvm"]),
        // The superuser may; a user called nobody may not.
        Access::RefusedTo(user) => {
            let mut command = denali();
            command.args(["run", "hello", "--hypervisor", "kvm"]).uid(user).gid(user);
            let Ok(output) = command.output() else {
                println!("skipped: user {user} may not start programs in {}", folder().display());
                return;
            };
            output
        }
        Access::Granted => {
            println!(
                "skipped: /dev/kvm can be used here, and only the superuser can test that not"
            );
            return;
        }
    };
    let line = stderr(&output);
    assert_eq!(output.status.code(), Some(HOST_LACKS.into()), "{line}");
    assert!(line.contains("hypervisor: \"kvm\" is asked for, but /dev/kvm "), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
}

/// What can be tested about a `/dev/kvm` that is not usable.
enum Access {
    Refused,
    RefusedTo(u32),
    Granted,
}

impl Access {
    fn of_device() -> Self {
        use std::os::unix::fs::MetadataExt;
        const NOBODY: u32 = 65534;
        let device = Path::new("/dev/kvm");
        let open = std::fs::OpenOptions::new().read(true).write(true).open(device);
        match (open, device.metadata()) {
            (Err(_), _) | (_, Err(_)) => Self::Refused,
            // SAFETY: `geteuid` only reads this process's credentials.
            (Ok(_), Ok(kvm)) if kvm.mode() & 0o006 == 0 && unsafe { libc::geteuid() } == 0 => {
                Self::RefusedTo(NOBODY)
            }
            (Ok(_), Ok(_)) => Self::Granted,
        }
    }
}

#[test]
fn failures_are_events_with_json_output() {
    for (arguments, status) in [
        (&["run", "missing.json", "--json"][..], BAD_CONFIG),
        (&["check", "./missing.elf", "--json"], BAD_IMAGE),
        (&["run", "--json"], BAD_ARGUMENTS),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(status.into()));
        let event: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(event["event"], "error");
        assert_eq!(event["status"], status);
        let message = event["message"].as_str().unwrap();
        assert_eq!(stderr(&output), format!("denali: {message}\n"));
    }
}
