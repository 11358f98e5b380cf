//! Guests on the switch: real ones, which the host reaches over its uplink and over published ports.

use crate::backend::Backend;
use crate::guest::{Guest, PATIENCE, Run};
use crate::http;
use crate::namespace::isolated;
use crate::registry::{Case, Need, Suite};
use crate::seqpacket::Listener;
use denali_switch::protocol::{Ask, Port, Told, VERSION};
use denali_switch::{Client, Options, client, tun};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::Child;
use tempfile::TempDir;

pub fn suite() -> Suite {
    let with_uplink = |name, body| Case::each(name, body).needs(Need::Namespaces);
    Suite {
        name: "switch",
        cases: vec![
            with_uplink("the_host_reaches_each_guest_at_its_own_address", each_at_its_own),
            with_uplink("a_request_waits_for_a_guest_that_is_not_there_yet", waits),
            Case::each("a_published_port_leads_to_its_guest_without_root", published),
        ],
    }
}

/// The gateway, whose subnet has 2^20 addresses.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);

fn options() -> Options {
    Options::new(GATEWAY, 12, [2, 0, 0, 0, 0, 1])
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 64, 0, 10 + number)
}

fn web(number: u8) -> SocketAddr {
    SocketAddr::from((address(number), 80))
}

/// A switch and its supervisor.
struct Switch {
    process: Child,
    client: Client,
    folder: TempDir,
}

impl Switch {
    /// A switch with three ports.
    fn start(uplink: bool) -> Self {
        let uplink = uplink.then(|| tun::open("uplink", &options()).expect("an uplink"));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("switch");
        let control = client::control_socket(&path).expect("a socket");
        let program = Path::new(denali_images::SWITCH_PATH);
        let process = client::start(program, &control, uplink.as_ref(), &options());
        let process = process.expect("the switch starts");
        let client = Client::connect(&path).expect("the switch listens");
        client.ask(&Ask::Hello { version: VERSION }, None).expect("it hears");
        let ports = (0..3).map(|number| Port {
            number: number.into(),
            address: address(number),
            mac: [2, 0, 1, 0, 0, number],
            group: 0,
            wakes: Vec::new(),
            rate: 0,
        });
        client.set(&ports.collect::<Vec<_>>()).expect("it hears");
        let mut switch = Self { process, client, folder };
        assert!(matches!(switch.hear(), Told::Hello { version: VERSION, .. }));
        switch
    }

    fn hear(&mut self) -> Told {
        let number = self.client.as_fd().as_raw_fd();
        let mut polled = libc::pollfd { fd: number, events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid structure.
        let ready = unsafe { libc::poll(&raw mut polled, 1, PATIENCE.as_millis() as i32) };
        assert!(ready > 0, "the switch says something");
        self.client.receive().expect("it is understood").expect("the switch is there").0
    }

    /// Starts a web server at a port of the switch.
    fn connect(&self, backend: Backend, number: u8) -> Guest {
        let path = self.folder.path().join(format!("wire{number}"));
        // There may have been one before.
        let _ = std::fs::remove_file(&path);
        let listener = Listener::bind(&path);
        let net = format!(
            r#"net=[{{"mac":"02:00:01:00:00:{number:02x}","address":"{}/12","gateway":"{GATEWAY}",
                "backend":{{"socket":{path:?}}}}}]"#,
            address(number)
        );
        let guest = Run::new(backend, "web").set(net).json().start();
        let cable = listener.accept();
        let ask = Ask::Connect { port: number.into() };
        self.client.ask(&ask, Some(cable.as_fd())).expect("the switch hears");
        guest
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn each_at_its_own(backend: Backend) {
    isolated(|| {
        let switch = Switch::start(true);
        let guests = [0, 1, 2].map(|number| switch.connect(backend, number));
        for guest in &guests {
            guest.wait_for("serving");
        }
        for _ in 0..20 {
            for number in 0..3 {
                let response = http::get(web(number), "/");
                assert_eq!(response.status, 200);
                assert!(!response.body.is_empty());
            }
        }
        // Bytes of a connection in large numbers, with checksums that nobody computes.
        let mut client = http::Client::connect(web(1));
        for _ in 0..50 {
            assert_eq!(client.get("/").status, 200);
        }
    });
}

fn waits(backend: Backend) {
    isolated(|| {
        let mut switch = Switch::start(true);
        std::thread::scope(|scope| {
            let request = scope.spawn(|| http::get(web(2), "/").status);
            assert_eq!(switch.hear(), Told::Wanted { ports: vec![2] });
            let mut guest = switch.connect(backend, 2);
            assert_eq!(request.join().expect("it is answered"), 200);
            guest.signal_until_it_ends(libc::SIGTERM);
            guest.finish();
            assert_eq!(switch.hear(), Told::Gone { ports: vec![2] });
            let request = scope.spawn(|| http::get(web(2), "/").status);
            assert_eq!(switch.hear(), Told::Wanted { ports: vec![2] });
            let _guest = switch.connect(backend, 2);
            assert_eq!(request.join().expect("it is answered"), 200);
        });
    });
}

fn published(backend: Backend) {
    let mut switch = Switch::start(false);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("an address");
    let ask = Ask::Publish { port: 1, guest_port: 80, udp: false };
    switch.client.ask(&ask, Some(listener.as_fd())).expect("the switch hears");
    drop(listener);
    std::thread::scope(|scope| {
        let request = scope.spawn(move || http::get(at, "/").status);
        assert_eq!(switch.hear(), Told::Wanted { ports: vec![1] });
        let guest = switch.connect(backend, 1);
        assert_eq!(request.join().expect("it is answered"), 200);
        let mut client = http::Client::connect(at);
        for _ in 0..50 {
            assert_eq!(client.get("/").status, 200);
        }
        drop(guest);
    });
}
