//! What a guest may reach outside: nothing by default, what its rules say otherwise, and never more.

use crate::backend::Backend;
use crate::dns::NameServer;
use crate::guest::{Finished, Run, wait_until};
use crate::namespace::{ip, isolated};
use crate::registry::{Case, Need, Suite};
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::thread;

/// The host's loopback as guests see it.
const HOST: &str = "10.0.2.2";

/// An address that is nobody's, for tests whose network is their own (RFC 5737).
const PUBLIC: &str = "203.0.113.7";

pub fn suite() -> Suite {
    let isolated = |name, body| Case::each(name, body).needs(Need::Namespaces);
    Suite {
        name: "egress",
        cases: vec![
            Case::each("nothing_by_default", default),
            Case::each("the_hosts_loopback_by_port", host),
            Case::each("addresses_by_range_and_port", ranges),
            Case::each("datagrams", datagrams),
            Case::each("files_from_a_server_of_others", python).needs(Need::Program("python3")),
            isolated("names_lead_to_their_addresses", names),
            Case::each("names_do_not_lead_inside", rebinding),
            isolated("metadata_services_are_out_of_reach", metadata),
            Case::each("a_guest_that_floods_the_way_out", flood),
            isolated("the_broker_ends_with_its_guest", broker_ends),
        ],
    }
}

/// A run of the probe that reaches out, with these rules and whatever else the back end is given.
fn reach(backend: Backend, words: &str, rules: &str, more: &str) -> Run {
    let device = format!(r#"net=[{{"backend":{{"user":{{"egress":[{rules}]{more}}}}}}}]"#);
    backend.probe(&format!("egress {words}")).option("--set").option(device)
}

fn rule(to: &str, port: u16, protocol: &str) -> String {
    format!(r#"{{"to":"{to}","ports":{port},"protocol":"{protocol}"}}"#)
}

/// What the guest says came of a word.
#[track_caller]
fn result<'a>(output: &'a str, word: &str) -> &'a str {
    let line = output.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(" -> "));
    line.unwrap_or_else(|| panic!("nothing came of {word}:\n{output}"))
}

#[track_caller]
fn assert_refused(output: &str, word: &str) {
    let result = result(output, word);
    assert_eq!(result, "error: the connection was refused or reset", "{word}");
}

/// A server that sends back what it gets, in capitals, to each of its clients; its port.
fn shouting() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let served = listener.try_clone().expect("a second descriptor");
    thread::spawn(move || {
        for stream in served.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut text = String::new();
            if stream.read_to_string(&mut text).is_ok() {
                // The client may be gone.
                let _ = stream.write_all(text.to_uppercase().as_bytes());
            }
        }
    });
    (listener, port)
}

/// The same for datagrams.
fn shouting_datagrams(address: &str) -> u16 {
    let socket = UdpSocket::bind((address, 0)).expect("a free port");
    let port = socket.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            buffer.make_ascii_uppercase();
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    port
}

/// A listener whose clients, of which there must be none, would be noticed.
fn out_of_bounds() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket can be non-blocking");
    let port = listener.local_addr().expect("it is bound").port();
    (listener, port)
}

fn default(backend: Backend) {
    let (listener, port) = out_of_bounds();
    let datagrams = shouting_datagrams("127.0.0.1");
    let words = [
        format!("tcp={HOST}:{port}/x"),
        format!("tcp=127.0.0.1:{port}/x"),
        format!("tcp={PUBLIC}:443/x"),
        format!("udp={HOST}:{datagrams}/x"),
        "name=example.com".to_owned(),
    ];
    let output = reach(backend, &words.join(" "), "", "").expect(0);
    for word in &words[..3] {
        assert_refused(&output, word);
    }
    assert_eq!(result(&output, &words[3]), "silence");
    assert_eq!(result(&output, &words[4]), "error: there is no name server to ask");
    assert!(listener.accept().is_err(), "somebody came");
}

fn host(backend: Backend) {
    let ((_server, port), (other, elsewhere)) = (shouting(), out_of_bounds());
    let words = [
        format!("tcp={HOST}:{port}/hello"),
        format!("tcp={HOST}:{elsewhere}/hello"),
        format!("tcp=127.0.0.1:{port}/hello"),
        format!("tcp={PUBLIC}:{port}/hello"),
        format!("udp={HOST}:{port}/hello"),
        format!("tcp={HOST}:{port}/again"),
    ];
    let output = reach(backend, &words.join(" "), &rule("host", port, "tcp"), "").json().expect(0);
    let counters = device_counters(&output);
    let output = console(&output);
    assert_eq!((result(&output, &words[0]), result(&output, &words[5])), ("HELLO", "AGAIN"));
    for word in &words[1..4] {
        assert_refused(&output, word);
    }
    assert_eq!(result(&output, &words[4]), "silence");
    assert!(other.accept().is_err(), "somebody came");
    assert_eq!(counters["egress_connects"], 2);
    assert_eq!(counters["egress_refused"], 4);
}

fn ranges(backend: Backend) {
    let ((_server, port), (other, elsewhere)) = (shouting(), out_of_bounds());
    let words = [
        format!("tcp=127.0.0.1:{port}/hello"),
        format!("tcp=127.0.0.1:{elsewhere}/hello"),
        format!("tcp=127.0.0.2:{elsewhere}/hello"),
        format!("tcp={HOST}:{port}/hello"),
    ];
    let rules = rule("127.0.0.0/31", port, "tcp");
    let output = reach(backend, &words.join(" "), &rules, "").expect(0);
    assert_eq!(result(&output, &words[0]), "HELLO");
    for word in &words[1..] {
        assert_refused(&output, word);
    }
    // A range that is wider than the loopback's does not include it.
    for wide in ["0.0.0.0/0", "126.0.0.0/7"] {
        let output = reach(backend, &words[0], &rule(wide, port, "tcp"), "").expect(0);
        assert_refused(&output, &words[0]);
    }
    assert!(other.accept().is_err(), "somebody came");
}

fn datagrams(backend: Backend) {
    let (port, other) = (shouting_datagrams("127.0.0.1"), shouting_datagrams("127.0.0.1"));
    let words = [
        format!("udp={HOST}:{port}/hello"),
        format!("udp={HOST}:{other}/hello"),
        format!("tcp={HOST}:{port}/hello"),
        format!("udp={HOST}:{port}/again"),
    ];
    let output = reach(backend, &words.join(" "), &rule("host", port, "udp"), "").expect(0);
    assert_eq!((result(&output, &words[0]), result(&output, &words[3])), ("HELLO", "AGAIN"));
    assert_eq!(result(&output, &words[1]), "silence");
    assert_refused(&output, &words[2]);
}

/// A web server that nobody here wrote.
fn python(backend: Backend) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("file.txt"), "what is in the file").expect("a file");
    let port = out_of_bounds().1;
    let mut server = Command::new("python3")
        .args(["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("python3 starts");
    wait_until("the server listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let word = format!("tcp={HOST}:{port}/GET_/file.txt_HTTP/1.0||");
    let output = reach(backend, &word, &rule("host", port, "tcp"), "").finish();
    server.kill().expect("the server runs");
    server.wait().expect("the server ends");
    assert_eq!(output.status, 0, "{output:?}");
    assert!(output.stdout.contains("200 OK"), "{output:?}");
    assert!(output.stdout.contains("what is in the file"), "{output:?}");
}

fn names(backend: Backend) {
    isolated(|| {
        ip(&format!("address add {PUBLIC}/32 dev lo"));
        let public: std::net::Ipv4Addr = PUBLIC.parse().expect("an address");
        let server = NameServer::start(&[("api.example.com", public), ("a.example.org", public)]);
        let allowed = shouting_datagrams(PUBLIC);
        let listener = TcpListener::bind((PUBLIC, 0)).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let accepting = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            // A stream that is closed before all was read would be reset.
            stream.read_to_end(&mut Vec::new()).expect("the client ends");
            stream.write_all(b"welcome").expect("the client is there");
        });
        let words = [
            format!("tcp={PUBLIC}:{port}/early"),
            format!("tcp=API.example.com:{port}/hello"),
            format!("udp=a.example.org:{allowed}/hello"),
            format!("tcp=api.example.com:{allowed}/wrong"),
            "name=example.org".to_owned(),
            "name=www.api.example.com".to_owned(),
            "name=missing.example.org".to_owned(),
            "name=-.example.org".to_owned(),
        ];
        let rules = [rule("api.example.com", port, "tcp"), rule("*.example.org", allowed, "udp")];
        let more = format!(r#","resolver":"{}""#, server.address());
        let output = reach(backend, &words.join(" "), &rules.join(","), &more).expect(0);
        assert_refused(&output, &words[0]);
        assert_eq!(result(&output, &words[1]), "welcome");
        assert_eq!(result(&output, &words[2]), "HELLO");
        assert_refused(&output, &words[3]);
        for word in &words[4..6] {
            assert_eq!(result(&output, word), "error: this name may not be asked for");
        }
        assert_eq!(result(&output, &words[6]), "error: this name means no address");
        accepting.join().expect("a client was served");
        assert!(server.asked().iter().all(|name| name != "example.org"), "{:?}", server.asked());
    });
}

/// A name that is allowed, and whose owner says that it means the host itself.
fn rebinding(backend: Backend) {
    let (listener, port) = out_of_bounds();
    let server = NameServer::start(&[
        ("evil.example.com", [127, 0, 0, 1].into()),
        ("gateway.example.com", [10, 0, 2, 2].into()),
    ]);
    let words = [
        format!("tcp=evil.example.com:{port}/hello"),
        format!("tcp=gateway.example.com:{port}/hello"),
        "name=evil.example.com".to_owned(),
    ];
    let more = format!(r#","resolver":"{}""#, server.address());
    let rules = rule("*.example.com", port, "tcp");
    let output = reach(backend, &words.join(" "), &rules, &more).expect(0);
    assert_refused(&output, &words[0]);
    assert_refused(&output, &words[1]);
    assert_eq!(result(&output, &words[2]), "127.0.0.1");
    assert!(listener.accept().is_err(), "somebody came");
}

/// All addresses do not include those where clouds keep a machine's credentials.
fn metadata(backend: Backend) {
    isolated(|| {
        ip("address add 169.254.169.254/32 dev lo");
        let listener = TcpListener::bind("169.254.169.254:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket can be non-blocking");
        let port = listener.local_addr().expect("it is bound").port();
        let word = format!("tcp=169.254.169.254:{port}/GET_/");
        let output = reach(backend, &word, &rule("0.0.0.0/0", port, "tcp"), "").expect(0);
        assert_refused(&output, &word);
        assert!(listener.accept().is_err(), "somebody came");
        let explicit = rule("169.254.0.0/16", port, "tcp");
        let guest = reach(backend, &word, &explicit, "").start();
        wait_until("a client comes", || listener.accept().is_ok());
        assert_eq!(guest.finish().status, 0);
    });
}

/// A guest that tries everything as fast as it can: it is refused, and neighbours are served.
fn flood(backend: Backend) {
    let ((_server, port), (other, _)) = (shouting(), out_of_bounds());
    let rules = rule("host", port, "tcp");
    let flood = reach(backend, "flood=300", &rules, "").start();
    let word = format!("tcp={HOST}:{port}/hello");
    let output = reach(backend, &word, &rules, "").expect(0);
    assert_eq!(result(&output, &word), "HELLO");
    let Finished { status, stdout, stderr, .. } = flood.finish();
    assert_eq!(status, 0, "{stdout}{stderr}");
    assert_eq!(result(&stdout, "flood=300"), "300 refused");
    assert!(other.accept().is_err(), "somebody came");
}

/// However the guest ends.
fn broker_ends(backend: Backend) {
    isolated(|| {
        let rules = rule("host", 9, "tcp");
        let device = format!(r#"net=[{{"backend":{{"user":{{"egress":[{rules}]}}}}}}]"#);
        for signal in [libc::SIGKILL, libc::SIGTERM] {
            let guest = backend.probe("wait-stop").option("--set").option(&device).start();
            guest.wait_for("ready");
            assert_eq!(brokers(), 1);
            guest.signal(signal);
            guest.finish();
            wait_until("the broker ends", || brokers() == 0);
        }
        backend.probe("exit 0").option("--set").option(&device).expect(0);
        wait_until("the broker ends", || brokers() == 0);
    });
}

/// Brokers that run in this thread's network.
fn brokers() -> usize {
    let network = |process: &str| std::fs::metadata(format!("/proc/{process}/ns/net"));
    let own = network("thread-self").expect("this thread has a network").ino();
    let processes = std::fs::read_dir("/proc").expect("there is /proc").flatten();
    let names = processes.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|process| {
            let name = std::fs::read_to_string(format!("/proc/{process}/comm"));
            let is_broker = name.is_ok_and(|name| name.trim_end() == "denali-broker");
            is_broker && network(process).is_ok_and(|it| it.ino() == own)
        })
        .count()
}

/// What the guest's console said, from events.
fn console(events: &str) -> String {
    let events = events.lines().filter_map(|line| serde_json::from_str(line).ok());
    events
        .filter(|event: &serde_json::Value| event["event"] == "console")
        .filter_map(|event| event["text"].as_str().map(str::to_owned))
        .collect()
}

/// The counters of the network device at the guest's end.
fn device_counters(events: &str) -> serde_json::Value {
    let events = events.lines().filter_map(|line| serde_json::from_str(line).ok());
    let mut ends = events.filter(|event: &serde_json::Value| event["devices"].is_object());
    ends.next().map(|end| end["devices"]["net0"].clone()).expect("the guest's end is told")
}
