//! Interrupts in batches and one by one: guests get the same, in as many or as few interrupts as configured.

use crate::backend::Backend;
use crate::guest::{Finished, Run, wait_until};
use crate::http::Client;
use crate::process;
use crate::registry::{Case, Suite};
use crate::suites::web::assert_counting;
use serde_json::Value;
use std::fs::File;
use std::net::UdpSocket;
use std::time::Duration;

/// Batching off, as a configuration says it.
const OFF: &str = "interrupts.window=0";

/// Batching as it is by default.
const ON: &str = "interrupts.window=adaptive";

pub fn suite() -> Suite {
    Suite {
        name: "batching",
        cases: vec![
            Case::each("what_came_at_once_is_one_batch_or_many", datagrams),
            Case::each("pages_are_the_same_without_batches", pages),
            Case::each("requests_of_disks_complete_one_by_one", requests),
        ],
    }
}

/// The last event of a guest that ended in order.
#[track_caller]
fn end(finished: &Finished) -> Value {
    assert_eq!(finished.status, 0, "{finished:?}");
    finished.end()
}

/// A number of the guest's last event.
#[track_caller]
fn number(end: &Value, path: &str) -> u64 {
    end.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path}: {end:#}"))
}

/// Datagrams wait while the monitor is stopped, so that it finds all of them at once.
fn datagrams(backend: Backend) {
    /// As many as the guest's socket has room for.
    const AT_ONCE: u8 = 12;
    const BURSTS: u8 = 20;
    let frames = u64::from(AT_ONCE) * u64::from(BURSTS);
    for (setting, batches) in
        [(OFF, frames * 9 / 10..u64::MAX), (ON, u64::from(BURSTS)..frames / 2)]
    {
        let run = backend.probe("udp-echo 5000").option("--publish").option("0:5000/udp");
        let guest = run.set(setting).json().start();
        guest.wait_for("ready");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.connect(guest.address()).expect("an address of this host");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
        for burst in 0..BURSTS {
            guest.signal(libc::SIGSTOP);
            wait_until("the monitor is stopped", || process::is_stopped(guest.pid()));
            for number in 0..AT_ONCE {
                socket.send(&[burst, number]).expect("the host takes it");
            }
            guest.signal(libc::SIGCONT);
            for number in 0..AT_ONCE {
                let mut answer = [0; 16];
                let length = socket.recv(&mut answer).expect("an answer");
                assert_eq!(answer[..length], [burst, number], "in order, with {setting}");
            }
        }
        guest.signal(libc::SIGTERM);
        let end = end(&guest.finish());
        assert_eq!(number(&end, "/devices/net0/bytes_to_guest"), 2 * frames);
        let posted = number(&end, "/counters/batches");
        assert!(batches.contains(&posted), "{setting}: {posted} batches, {frames} frames: {end:#}");
    }
}

fn pages(backend: Backend) {
    for setting in [OFF, "interrupts.window=1ms", ON] {
        let guest = backend.web().set(setting).json().start();
        guest.wait_for("serving");
        let address = guest.address();
        let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(address)).collect();
        let request = |n: usize| format!("GET /hello/{n} HTTP/1.1\r\nHost: test\r\n\r\n");
        for client in &mut clients {
            client.send((0..50).map(request).collect::<String>());
        }
        for client in &mut clients {
            for n in 0..50 {
                let expected = format!("hello {n}, from inside a Denali guest\n");
                assert_eq!(client.response().text(), expected, "{setting}");
            }
            assert_counting(&client.get("/bytes/300000"), 300_000);
            let body: Vec<u8> = (0..50_000_u32).map(|n| (n * 7 % 253) as u8).collect();
            assert_eq!(client.post("/echo", &body).body, body, "{setting}");
        }
        guest.signal(libc::SIGTERM);
        end(&guest.finish());
    }
}

fn requests(backend: Backend) {
    const BYTES: u64 = 8 << 20;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("disk.img");
    File::create(&path).and_then(|file| file.set_len(BYTES)).expect("room for a disk");
    let run = |io: &str, arguments: &str, setting: &str| {
        let disk = format!(r#"block=[{{"backend":{{"file":{{"path":{path:?},"io":"{io}"}}}}}}]"#);
        let run = Run::new(backend, denali_images::DISK_PATH).set(disk).set(setting);
        end(&run.option("--arg").option(arguments).json().finish())
    };
    for io in ["auto", "sync"] {
        run(io, "write 7", OFF);
        run(io, "verify 7", OFF);
        run(io, "verify 7", ON);
        let off = run(io, "random-read 32 4096 1", OFF);
        let (reads, batches) =
            (number(&off, "/devices/block0/reads"), number(&off, "/counters/batches"));
        assert!(batches >= reads * 9 / 10, "{io}: {batches} batches, {reads} reads");
        assert_eq!(number(&off, "/devices/block0/held"), 0);
    }
    let on = run("sync", "random-read 32 4096 1", ON);
    let (reads, batches) = (number(&on, "/devices/block0/reads"), number(&on, "/counters/batches"));
    assert!(batches <= reads / 2, "{batches} batches, {reads} reads");
}
