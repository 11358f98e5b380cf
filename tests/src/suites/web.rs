//! The web server in a guest, reached through published ports by well-behaved clients.

use crate::backend::Backend;
use crate::guest::Guest;
use crate::http::{Client, Response, get};
use crate::registry::{Case, Need, Suite};
use serde_json::Value;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

pub fn suite() -> Suite {
    Suite {
        name: "web",
        cases: vec![
            Case::each("get_head_and_errors", methods),
            Case::each("keep_alive", keep_alive),
            Case::each("pipelined_requests_are_answered_in_order", pipelined),
            Case::each("bodies_from_the_guest_are_whole", bytes),
            Case::each("bodies_to_the_guest_are_whole", posts),
            Case::each("stats_show_virtual_registers", stats),
            Case::each("concurrent_connections", concurrent),
            Case::each("sequential_connections", sequential),
            Case::each("a_request_in_pieces", pieces),
            Case::each("a_half_closed_client_is_answered", half_close),
            Case::each("ipv6_and_several_ports", ipv6).needs(Need::Ipv6),
            Case::each("jumbo_and_small_packets", packets),
            Case::each("curl", curl).needs(Need::Program("curl")),
            Case::each("its_status_is_0_when_stopped_under_load", stopped),
        ],
    }
}

/// A web server that serves, and where.
#[track_caller]
pub fn serve(backend: Backend) -> (Guest, SocketAddr) {
    let guest = backend.web().option("--arg").option("<tests>").start();
    let address = guest.address();
    guest.wait_for("serving");
    (guest, address)
}

/// What `/stats` says.
#[track_caller]
pub fn read_stats(address: SocketAddr) -> Value {
    serde_json::from_str(get(address, "/stats").text()).expect("/stats is JSON")
}

/// Asserts that a body is the first `length` bytes of the numbers 0 to 255 again and again.
#[track_caller]
pub fn assert_counting(response: &Response, length: usize) {
    assert_eq!((response.status, response.body.len()), (200, length));
    let wrong = response.body.iter().enumerate().position(|(n, &byte)| byte != n as u8);
    assert_eq!(wrong, None, "the first byte that differs");
}

fn methods(backend: Backend) {
    let (_guest, address) = serve(backend);
    let mut client = Client::connect(address);
    let page = client.get("/");
    assert_eq!(page.status, 200);
    assert!(page.text().contains("Answered from inside a Denali guest"));
    assert!(page.text().contains("&lt;tests&gt;"), "arguments are escaped: {}", page.text());
    assert!(page.header("content-type").is_some_and(|value| value.starts_with("text/html")));
    assert!(page.header("date").is_some_and(|value| value.ends_with(" GMT")));
    client.send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
    let head = client.response_without_body();
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-length"), Some(&*page.body.len().to_string()));
    // The next response follows at once: HEAD had no body.
    assert_eq!(client.get("/no/such/page").status, 404);
    client.send("DELETE / HTTP/1.1\r\nHost: test\r\n\r\n");
    let refused = client.response();
    assert!(matches!(refused.status, 405 | 501), "{refused:?}");
    assert_eq!(client.get("/hello/you").text(), "hello you, from inside a Denali guest\n");
    let mut other = Client::connect(address);
    other.send("GET / HTTP/1.1\r\nthis is no header field\r\n\r\n");
    assert_eq!(other.response().status, 400);
    assert!(other.ends_in_order(), "a client that speaks nonsense is let go");
}

fn keep_alive(backend: Backend) {
    let (_guest, address) = serve(backend);
    let mut client = Client::connect(address);
    for round in 0..200 {
        let expected = format!("hello {round}, from inside a Denali guest\n");
        assert_eq!(client.get(&format!("/hello/{round}")).text(), expected);
    }
    client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert_eq!(client.response().status, 200);
    assert!(client.ends_in_order());
}

fn pipelined(backend: Backend) {
    const REQUESTS: usize = 200;
    let (_guest, address) = serve(backend);
    let mut client = Client::connect(address);
    let request = |n: usize| format!("GET /hello/{n} HTTP/1.1\r\nHost: test\r\n\r\n");
    client.send((0..REQUESTS).map(request).collect::<String>());
    for n in 0..REQUESTS {
        let expected = format!("hello {n}, from inside a Denali guest\n");
        assert_eq!(client.response().text(), expected);
    }
}

fn bytes(backend: Backend) {
    let (_guest, address) = serve(backend);
    let mut client = Client::connect(address);
    for length in [0, 1, 1459, 1460, 1461, 65_536, 1_000_003, 8 << 20] {
        assert_counting(&client.get(&format!("/bytes/{length}")), length);
    }
    assert_eq!(client.get("/bytes/many").status, 400);
}

fn posts(backend: Backend) {
    let (_guest, address) = serve(backend);
    let mut client = Client::connect(address);
    for length in [0, 1, 1500, 60_000] {
        let body: Vec<u8> = (0..length).map(|n: u32| (n * 7 % 253) as u8).collect();
        assert_eq!(client.post("/echo", &body).body, body);
    }
    let digest: Value = serde_json::from_str(client.post("/digest", b"123456789").text()).unwrap();
    assert_eq!((&digest["bytes"], &digest["crc32"]), (&9.into(), &"cbf43926".into()));
    let too_large =
        client.try_send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n\r\n");
    too_large.expect("the head is taken");
    assert_eq!(client.response().status, 413);
}

fn stats(backend: Backend) {
    let (_guest, address) = serve(backend);
    let first = read_stats(address);
    let second = read_stats(address);
    let of = |stats: &Value, name: &str| stats[name].as_u64().unwrap_or_else(|| panic!("{name}"));
    assert_eq!(of(&first, "memory_size"), 16 << 20);
    assert_eq!(of(&first, "abi_version"), 1);
    for counter in ["exits", "interrupts_raised", "interrupts_delivered", "batches", "requests"] {
        assert!(of(&first, counter) > 0 && of(&second, counter) > of(&first, counter), "{second}");
    }
    assert!(of(&second, "monotonic_ns") > of(&first, "monotonic_ns"));
    assert!(of(&second, "interrupts_delivered") <= of(&second, "interrupts_raised"));
    assert!(of(&second, "batches") <= of(&second, "interrupts_delivered"));
}

fn concurrent(backend: Backend) {
    const CLIENTS: usize = 64;
    let (_guest, address) = serve(backend);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(address)).collect();
    for round in 0..5 {
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(format!("GET /bytes/{} HTTP/1.1\r\nHost: test\r\n\r\n", 1000 * n + round));
        }
        for (n, client) in clients.iter_mut().enumerate() {
            assert_counting(&client.response(), 1000 * n + round);
        }
    }
    assert_eq!(read_stats(address)["connections_open"], CLIENTS + 1);
}

fn sequential(backend: Backend) {
    let (_guest, address) = serve(backend);
    for n in 0..500 {
        let expected = format!("hello {n}, from inside a Denali guest\n");
        assert_eq!(get(address, &format!("/hello/{n}")).text(), expected);
    }
    assert_eq!(read_stats(address)["connections"], 501);
}

fn pieces(backend: Backend) {
    let (_guest, address) = serve(backend);
    let mut client = Client::connect(address);
    for byte in b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n12345" {
        client.send([*byte]);
    }
    assert_eq!(client.response().body, b"12345");
}

fn half_close(backend: Backend) {
    let (_guest, address) = serve(backend);
    let mut client = Client::connect(address);
    client.send("GET /bytes/300000 HTTP/1.1\r\nHost: test\r\n\r\n");
    client.end_sending();
    assert_counting(&client.response(), 300_000);
    assert!(client.ends_in_order(), "the guest ends its side too");
}

fn ipv6(backend: Backend) {
    let run = backend.web();
    let run = run.option("--publish").option("[::1]:0:80").option("--publish").option("0:80");
    let guest = run.start();
    let addresses = guest.addresses(3);
    guest.wait_for("serving");
    assert!(addresses[1].is_ipv6(), "{addresses:?}");
    for address in addresses {
        assert_eq!(get(address, "/hello/x").status, 200, "{address}");
    }
}

fn packets(backend: Backend) {
    for mtu in ["576", "9000", "65535"] {
        let guest = backend.web().option("--set").option(format!("net.0.mtu={mtu}")).start();
        let address = guest.address();
        guest.wait_for("serving");
        assert_counting(&get(address, "/bytes/500000"), 500_000);
        let body = vec![b'x'; 50_000];
        assert_eq!(Client::connect(address).post("/echo", &body).body, body, "mtu {mtu}");
    }
}

fn curl(backend: Backend) {
    let (_guest, address) = serve(backend);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "60", "--noproxy", "*"]);
    curl.args([format!("http://{address}/"), format!("http://{address}/hello/curl")]);
    let output = curl.stdin(Stdio::null()).output().expect("curl starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("Answered from inside") && text.contains("hello curl, from"), "{text}");
}

fn stopped(backend: Backend) {
    let (guest, address) = serve(backend);
    let mut client = Client::connect(address);
    client.send("GET /bytes/1000000000 HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.response_without_body().status, 200);
    guest.signal(libc::SIGTERM);
    let reader = std::thread::spawn(move || client.ends_in_order());
    assert_eq!(guest.finish().status, 0);
    reader.join().expect("the client does not panic");
}
