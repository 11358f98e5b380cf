//! What the commands do when all is well.

mod support;

use serde_json::Value;
use std::path::Path;
use std::process::Output;
use support::{denali, file, folder, run, run_with_input, stderr, stdout};

/// The events of this kind in what `--json` wrote.
fn events(output: &Output, kind: &str) -> Vec<Value> {
    let text = stdout(output);
    let events = text.lines().map(|line| serde_json::from_str(line).unwrap());
    events.filter(|event: &Value| event["event"] == kind).collect()
}

#[test]
fn run_becomes_the_monitor_and_its_status_is_the_exit_status() {
    file("plain.json", r#"{"image": "hello", "hypervisor": "process"}"#);
    let output = run(&["run", "plain.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "hello from a Denali guest\n");
    assert!(stderr(&output).is_empty(), "{}", stderr(&output));
}

#[test]
fn options_change_the_configuration() {
    let options = "run - --set net.0.mtu=9000 --memory 32MiB --arg --verbose --publish 0:8080 \
                   --publish 0:8081 --hypervisor process --report report.json --json --arg";
    let mut arguments: Vec<_> = options.split_whitespace().collect();
    arguments.push("a b");
    let output = run_with_input(&arguments, br#"{"image": "hello", "name": "x"}"#);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let [started] = &events(&output, "started")[..] else { panic!("{}", stdout(&output)) };
    assert_eq!((&started["name"], &started["memory"]), (&"x".into(), &(32 << 20).into()));
    assert_eq!(started["hypervisor"], "process");
    assert_eq!(events(&output, "console")[0]["text"], "hello from a Denali guest: --verbose a b\n");
    let ports: Vec<_> =
        events(&output, "published").iter().map(|event| event["guest_port"].clone()).collect();
    assert_eq!(ports, [8080, 8081]);
    assert!(folder().join("report.json").exists());
}

#[test]
fn published_ports_are_named() {
    let arguments = ["run", "hello", "--publish", "0:80", "--hypervisor", "process"];
    let said = stderr(&run(&arguments));
    assert!(said.contains(" leads to port 80 of the guest"), "{said}");
    let output = run(&[&arguments[..], &["--json"]].concat());
    let [event] = &events(&output, "published")[..] else { panic!("{}", stdout(&output)) };
    assert_eq!(event["guest_port"], 80);
    let host = event["host"].as_str().unwrap();
    assert!(host.starts_with("127.0.0.1:") && host != "127.0.0.1:0", "{host}");
}

#[test]
fn relative_images_are_found_beside_their_configuration() {
    std::fs::create_dir_all(folder().join("sub")).unwrap();
    file("sub/vm.json", r#"{"image": "./app.elf", "hypervisor": "process"}"#);
    file("sub/app.elf", denali_images::find("hello").unwrap().bytes);
    let output = run(&["run", "sub/vm.json", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let started = &events(&output, "started")[0];
    assert_eq!((&started["image"], &started["name"]), (&"sub/./app.elf".into(), &"app".into()));
}

#[test]
fn check_says_what_would_run() {
    file("check.json", r#"{"image": "hello", "hypervisor": "process", "args": "a\nb"}"#);
    let output = run(&["check", "check.json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for expected in ["name        hello", "memory      16MiB", "arguments   \"a\\nb\"", "process"] {
        assert!(text.contains(expected), "{text}");
    }
    let output = run(&["check", "check.json", "--json"]);
    let findings: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(findings["image"]["abi_version"], 1);
    assert_eq!(findings["memory_size"], 16 << 20);
    assert!(findings["image"]["segments"].as_array().is_some_and(|list| !list.is_empty()));
}

#[test]
fn check_knows_what_memory_and_devices_the_image_needs() {
    support::assert_refused(
        &["check", "hello", "--memory", "2052KiB"],
        denali_abi::status::BAD_CONFIG,
        "--memory 2052KiB: memory: image hello: needs ",
    );
    support::assert_refused(
        &["check", "web"],
        denali_abi::status::BAD_IMAGE,
        "image web: wants a net device; add one to \"net\" in the configuration",
    );
}

#[test]
fn sample_configurations_are_sound() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../resources/vms");
    let mut count = 0;
    for entry in std::fs::read_dir(samples).unwrap() {
        let path = entry.unwrap().path().display().to_string();
        let output = run(&["check", &path, "--hypervisor", "process"]);
        assert!(output.status.success(), "{}", stderr(&output));
        count += 1;
    }
    assert!(count >= 2);
}

#[test]
fn schema_lists_every_field_and_allows_no_other() {
    let schema: Value = serde_json::from_str(&stdout(&run(&["schema"]))).unwrap();
    let fields = schema["properties"].as_object().unwrap();
    let devices = ["net", "block", "console", "entropy"];
    let others = ["name", "image", "memory", "args", "hypervisor", "interrupts", "idle", "cpu"];
    let swapping = ["swap", "resident_limit", "control"];
    for field in others.into_iter().chain(devices).chain(swapping) {
        assert!(fields[field]["description"].is_string(), "{field}");
    }
    assert_eq!(fields.len(), 15);
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn images_and_version_are_for_people_and_programs() {
    let text = stdout(&run(&["images"]));
    assert!(text.contains("hello") && text.contains("web"), "{text}");
    let list: Value = serde_json::from_str(&stdout(&run(&["images", "--json"]))).unwrap();
    let names = list.as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap());
    assert!(names.is_sorted() && list.to_string().contains("\"hello\""), "{list}");
    let version: Value = serde_json::from_str(&stdout(&run(&["version", "--json"]))).unwrap();
    assert_eq!(version["abi_version"], 1);
    assert!(stdout(&run(&["version"])).starts_with("denali 0."));
}

#[test]
fn help_teaches_with_examples_and_statuses() {
    for arguments in [&["--help"][..], &["run", "--help"]] {
        let output = run(arguments);
        assert!(output.status.success());
        let text = stdout(&output);
        assert!(text.contains("Examples:") && text.contains("Exit statuses:"), "{text}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = denali().arg("schema").stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}
