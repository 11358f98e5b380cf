//! Clients and guests on the network that do not behave: neither harms the monitor or the others.

use super::web::{assert_counting, read_stats, serve};
use crate::backend::Backend;
use crate::guest::wait_until;
use crate::http::{Client, get};
use crate::process;
use crate::registry::{Case, Suite};
use std::time::Duration;

pub fn suite() -> Suite {
    Suite {
        name: "hostile_net",
        cases: vec![
            Case::each("clients_that_reset", reset),
            Case::each("clients_that_go_away_without_a_word", vanish),
            Case::each("a_client_that_does_not_read", slow_reader),
            Case::each("more_connections_than_allowed_wait", max_connections),
            Case::each("a_port_nobody_listens_on_in_the_guest", refused),
            Case::each("a_guest_without_a_driver", no_driver),
            Case::each("a_guest_that_only_computes", computing),
            Case::each("a_guest_that_crashes_resets_its_clients", crashing),
        ],
    }
}

/// Waits until the guest has only the connection that asks.
#[track_caller]
fn wait_until_alone(address: std::net::SocketAddr) {
    wait_until("connections are closed", || read_stats(address)["connections_open"] == 1);
}

fn reset(backend: Backend) {
    let (_guest, address) = serve(backend);
    for n in 0..20 {
        let mut client = Client::connect(address);
        match n % 4 {
            // At once, in a request, after one, and in a response.
            0 => {}
            1 => client.send("GET / HT"),
            2 => client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n"),
            _ => {
                client.send("GET /bytes/100000000 HTTP/1.1\r\nHost: test\r\n\r\n");
                assert_eq!(client.response_without_body().status, 200);
            }
        }
        client.reset();
    }
    assert_counting(&get(address, "/bytes/100000"), 100_000);
    wait_until_alone(address);
}

fn vanish(backend: Backend) {
    let (_guest, address) = serve(backend);
    for n in 0..20 {
        let mut client = Client::connect(address);
        if n % 2 == 0 {
            client.send("GET /bytes/100000000 HTTP/1.1\r\nHost: test\r\n\r\n");
            assert_eq!(client.response_without_body().status, 200);
        }
        drop(client);
    }
    wait_until_alone(address);
}

/// The guest holds what the client does not take, the others go on, and in the end all is there.
fn slow_reader(backend: Backend) {
    const LENGTH: usize = 30 << 20;
    let (guest, address) = serve(backend);
    let mut slow = Client::connect(address);
    slow.send(format!("GET /bytes/{LENGTH} HTTP/1.1\r\nHost: test\r\n\r\n"));
    for _ in 0..50 {
        assert_counting(&get(address, "/bytes/50000"), 50_000);
    }
    assert!(slow.has_bytes());
    // What waits for the client, waits in bounded buffers: far less than the response.
    let kib = process::status(guest.pid(), "RssAnon");
    let kib: u64 = kib.trim_end_matches(" kB").trim().parse().expect("a number");
    assert!(kib < 16 << 10, "the monitor holds {kib} KiB");
    assert_counting(&slow.response(), LENGTH);
}

fn max_connections(backend: Backend) {
    let limit = "net.0.backend.user.max_connections=3";
    let guest = backend.web().option("--set").option(limit).start();
    let address = guest.address();
    guest.wait_for("serving");
    let mut first: Vec<_> = (0..3).map(|_| Client::connect(address)).collect();
    for client in &mut first {
        assert_eq!(client.get("/").status, 200);
    }
    let mut waiting = Client::connect(address);
    waiting.send("GET /hello/late HTTP/1.1\r\nHost: test\r\n\r\n");
    for client in &mut first {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(!waiting.has_bytes(), "a fourth connection is served");
    first.pop();
    assert_eq!(waiting.response().status, 200);
}

fn refused(backend: Backend) {
    let guest = backend.web().option("--publish").option("0:81").start();
    let addresses = guest.addresses(2);
    guest.wait_for("serving");
    for _ in 0..10 {
        // The reset may come at any moment from here on.
        let Ok(mut client) = Client::try_connect(addresses[1]) else { continue };
        let _ = client.try_send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        assert!(client.try_response(true).is_err(), "nobody is there to answer");
    }
    assert_eq!(get(addresses[0], "/").status, 200);
}

/// A guest that never starts its network card: clients wait, and the monitor stays in charge.
fn no_driver(backend: Backend) {
    let guest = backend.probe("wait-stop").option("--publish").option("0:80").start();
    let address = guest.address();
    guest.wait_for("ready");
    let mut clients: Vec<_> = (0..20).map(|_| Client::connect(address)).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    std::thread::sleep(Duration::from_millis(200));
    assert!(clients.iter().all(|client| !client.has_bytes()));
    guest.signal(libc::SIGTERM);
    assert_eq!(guest.finish().status, 3);
    for client in &mut clients {
        assert!(client.try_response(true).is_err(), "nobody has answered");
    }
}

fn computing(backend: Backend) {
    let mut guest = backend.probe("spin").option("--publish").option("0:80").start();
    let address = guest.address();
    guest.wait_for("ready");
    let mut client = Client::connect(address);
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    std::thread::sleep(Duration::from_millis(100));
    guest.signal_until_it_ends(libc::SIGINT);
    assert_eq!(guest.finish().status, 130);
    assert!(client.try_response(true).is_err());
}

fn crashing(backend: Backend) {
    let (guest, address) = serve(backend);
    let mut client = Client::connect(address);
    assert_eq!(client.get("/").status, 200);
    guest.signal(libc::SIGKILL);
    assert_eq!(guest.finish().signal, Some(libc::SIGKILL));
    assert!(client.try_response(true).is_err());
    assert!(std::net::TcpStream::connect(address).is_err(), "the port is free again");
}
