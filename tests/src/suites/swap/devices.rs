//! Guests with devices of every kind whose memory leaves in the middle of what they do.

use crate::backend::Backend;
use crate::guest::PATIENCE;
use crate::home::Home;
use crate::http::{Client, get};
use crate::lines::Lines;
use crate::namespace::{isolated, make_tap};
use crate::registry::{Case, Need};
use crate::seqpacket::Listener;
use crate::suites::socket_net::{Peer, address_of};
use denali_control::Request;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

pub fn cases() -> Vec<Case> {
    vec![
        Case::each("registers_are_what_they_were", registers),
        Case::each("a_connection_through_the_gateway_lasts", connection),
        Case::each("a_console_goes_on", console),
        Case::each("a_disk_is_written_whole_by_a_guest_that_leaves_all_the_time", disk),
        Case::each("files_are_served_from_a_disk", files),
        Case::each("random_bytes_come_late_and_whole", entropy),
        Case::each("pings_on_a_socket_are_answered", socket),
        Case::each("a_connection_on_a_tap_lasts", tap).needs(Need::Namespaces),
    ]
}

/// The guest idles with all registers in use, is swapped out and woken by what arrives.
fn registers(backend: Backend) {
    let home = Home::new(1);
    let (_guest, address) = home.start(backend, "memory-hash 1");
    let control = home.control();
    let mut lines = Lines::connect(address);
    for round in 0..10 {
        let before = lines.check();
        lines.say("hold 100000");
        // Whether it has heard that already does not matter; mostly it has.
        std::thread::sleep(std::time::Duration::from_millis(20));
        control.out();
        lines.say("check");
        assert_eq!(lines.hear(), "ok 100000", "round {round}");
        assert!(lines.hear().ends_with(&before.sum), "round {round}");
    }
}

fn connection(backend: Backend) {
    let home = Home::new(1);
    let mut configuration = home.guest("web", "");
    configuration["memory"] = json!("32MiB");
    let guest = home.run(backend, &configuration).json().start();
    guest.wait_for("serving");
    let control = home.control();
    let mut client = Client::connect(guest.address());
    for round in 0..5 {
        super::super::web::assert_counting(&client.get("/bytes/300000"), 300_000);
        // In the middle of a request.
        client.send(format!("GET /hello/{round} HTT"));
        control.out();
        client.send("P/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(
            client.response().text(),
            format!("hello {round}, from inside a Denali guest\n")
        );
        control.out();
    }
}

fn console(backend: Backend) {
    let home = Home::new(1);
    let path = home.path("console");
    let mut configuration = home.probe("console-echo");
    configuration["net"] = json!([]);
    configuration["console"] = json!([{ "backend": { "socket": path } }]);
    let guest = home.run(backend, &configuration).start();
    guest.wait_for("ready");
    let control = home.control();
    let mut stream = UnixStream::connect(&path).expect("the monitor listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    for round in 1..=5 {
        stream.write_all(format!("line {round}").as_bytes()).expect("the console takes input");
        // Half a line is in the guest.
        control.out();
        stream.write_all(b" and more\n").expect("the console takes input");
        let mut answer = vec![0; format!("you said: line {round} and more\n").len()];
        stream.read_exact(&mut answer).expect("an answer");
        let expected = format!("you said: line {round} and more\n");
        assert_eq!(String::from_utf8_lossy(&answer), expected);
        control.out();
    }
    stream.write_all(b"quit\n").expect("the console takes input");
    assert_eq!(guest.finish().status, 0);
}

/// Runs a guest to its end, and has its memory leave whenever it may; what it printed.
#[track_caller]
fn run_restless(home: &Home, backend: Backend, configuration: &Value) -> String {
    let mut guest = home.run(backend, configuration).json().start();
    let control = home.control();
    while guest.is_running() {
        // A guest that has just ended answers no more.
        control.try_ask(&Request::SwapOut {});
    }
    let finished = guest.finish();
    assert_eq!(finished.status, 0, "{finished:#?}");
    let out = finished.stdout.matches(r#""event":"swapped_out""#).count();
    assert!(out > 1, "{finished:#?}");
    finished.stdout
}

/// A slow disk lets the guest idle while its requests wait.
fn disk(backend: Backend) {
    const SECTORS: u64 = 2048;
    let home = Home::new(1);
    let path = home.path("disk.img");
    File::create(&path).and_then(|file| file.set_len(SECTORS * 512)).expect("room for a disk");
    for arguments in ["write 7", "verify 7", "random-write 8 4096 1", "write 7"] {
        let mut configuration = home.guest(denali_images::DISK_PATH, arguments);
        configuration["net"] = json!([]);
        configuration["block"] = json!([{
            "rate_limit": { "bandwidth": { "size": "128KiB", "refill_time": 50 } },
            "backend": { "file": { "path": path } },
        }]);
        run_restless(&home, backend, &configuration);
    }
    let written = fs::read(&path).expect("the disk");
    let word = |number: u64| number.wrapping_add(7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let expected: Vec<u8> = (0..SECTORS * 64).flat_map(|n| word(n).to_le_bytes()).collect();
    assert!(written == expected, "the disk has what was written");
}

fn files(backend: Backend) {
    let home = Home::new(1);
    let (folder, image) = (home.path("site"), home.path("site.img"));
    fs::create_dir(&folder).expect("a folder");
    let content: Vec<u8> = (0..600_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    fs::write(folder.join("file.bin"), &content).expect("a file");
    crate::suites::store::pack(&folder, &image);
    let mut configuration = home.guest("web", "");
    configuration["block"] =
        json!([{ "read_only": true, "backend": { "file": { "path": image } } }]);
    let guest = home.run(backend, &configuration).json().start();
    guest.wait_for("serving the files");
    let (control, address) = (home.control(), guest.address());
    for _ in 0..5 {
        control.out();
        assert!(get(address, "/file.bin").body == content);
    }
}

/// The device lets a thousand bytes pass at once; the guest waits for more.
fn entropy(backend: Backend) {
    let home = Home::new(1);
    let mut configuration = home.probe("entropy-device 3000");
    configuration["net"] = json!([]);
    configuration["entropy"] =
        json!([{ "rate_limit": { "bandwidth": { "size": 1000, "refill_time": 300 } } }]);
    let output = run_restless(&home, backend, &configuration);
    assert!(output.contains("bytes=3000"), "{output}");
}

fn socket(backend: Backend) {
    let home = Home::new(1);
    let path = home.path("wire");
    let listener = Listener::bind(&path);
    let mut configuration = home.guest("web", "");
    configuration["net"] = json!([{
        "mac": "02:00:00:00:00:02",
        "address": format!("{}/24", address_of(2)),
        "backend": { "socket": path },
    }]);
    let guest = home.run(backend, &configuration).json().start();
    let cable = listener.accept();
    guest.wait_for("serving");
    let control = home.control();
    let mut peer = Peer::new(&cable);
    for bytes in [8, 500, 1400, 56, 1] {
        let out = control.out();
        peer.ping(address_of(2), bytes);
        assert_eq!(control.status().woken, out.woken + 1);
    }
}

fn tap(backend: Backend) {
    isolated(|| {
        make_tap("tap0", "10.80.0.1/24");
        let home = Home::new(1);
        let mut configuration = home.probe("tcp-echo 7");
        configuration["net"] = json!([{ "address": "10.80.0.2/24", "backend": { "tap": "tap0" } }]);
        let guest = home.run(backend, &configuration).start();
        guest.wait_for("ready");
        let control = home.control();
        let mut lines = Lines::connect("10.80.0.2:7".parse().expect("an address"));
        for round in 1..=5 {
            assert_eq!(lines.ask(&format!("round {round}")), format!("round {round}"));
            control.out();
        }
        assert_eq!(lines.ask("the end"), "the end");
    });
}
