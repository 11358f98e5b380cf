//! A switch in a process of its own, with its supervisor and guests as the tests play them.

// Each test program uses its own part.
#![allow(dead_code)]

pub mod bytes;
pub mod stack;

use bytes::{Ends, HEADER};
use denali_switch::protocol::{Ask, Counters, Port, PortNumber, Told, VERSION};
use denali_switch::{Client, Options, client};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;
use tempfile::TempDir;

/// How long is waited for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long is waited for what must not come.
pub const MOMENT: Duration = Duration::from_millis(200);

/// The gateway.
pub const GATEWAY: Ends = Ends { mac: [2, 0, 0, 0, 0, 1], address: [10, 99, 0, 1] };

/// Addresses of the guest of a port.
pub fn ends(number: u8) -> Ends {
    Ends { mac: [2, 0, 1, 0, 0, number], address: [10, 99, 0, 10 + number] }
}

/// The port of a guest in a group.
pub fn port(number: u8, group: u32) -> Port {
    let Ends { mac, address } = ends(number);
    let (number, address) = (number.into(), Ipv4Addr::from(address));
    Port { number, address, mac, group, wakes: Vec::new(), rate: 0 }
}

pub fn options() -> Options {
    Options::new(GATEWAY.address.into(), 16, GATEWAY.mac)
}

/// Whether there is something to be read, or comes in time.
pub fn readable(what: impl AsFd, patience: Duration) -> bool {
    let mut polled = [PollFd::new(what.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(patience).unwrap();
    poll(&mut polled, patience).unwrap() > 0
}

/// A switch and its supervisor.
pub struct Rig {
    pub process: Child,
    pub client: Client,
    pub table: client::Table,
    folder: TempDir,
    /// Ports that are wanted, or whose guests are gone, as far as was told.
    pub wanted: BTreeSet<PortNumber>,
    pub gone: BTreeSet<PortNumber>,
}

impl Rig {
    /// Starts a switch with these ports.
    pub fn new(options: &Options, uplink: Option<&OwnedFd>, ports: &[Port]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("switch");
        let control = client::control_socket(&path).unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_denali-switch"));
        let process = client::start(program, &control, uplink, options).unwrap();
        drop(control);
        let (client, table) = hello(&path, 0);
        let (wanted, gone) = Default::default();
        let rig = Self { process, client, table, folder, wanted, gone };
        rig.client.set(ports).unwrap();
        rig
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("switch")
    }

    /// Another supervisor takes over.
    pub fn replace_supervisor(&mut self, ports: u32) {
        (self.client, self.table) = hello(&self.path(), ports);
        (self.wanted, self.gone) = Default::default();
    }

    /// What the switch says next.
    #[track_caller]
    pub fn hear(&mut self) -> Told {
        assert!(readable(&self.client, PATIENCE), "the switch says something");
        let (told, _) = self.client.receive().unwrap().expect("the switch is there");
        match &told {
            Told::Wanted { ports } => self.wanted.extend(ports),
            Told::Gone { ports } => self.gone.extend(ports),
            Told::Problem { message } => panic!("{message}"),
            _ => {}
        }
        told
    }

    /// What was counted, when all that was asked for before is done.
    #[track_caller]
    pub fn counters(&mut self) -> Counters {
        self.client.ask(&Ask::Counters {}, None).unwrap();
        loop {
            if let Told::Counters { counters } = self.hear() {
                return counters;
            }
        }
    }

    /// Waits until counters are as they should be.
    #[track_caller]
    pub fn until(&mut self, what: impl Fn(&Counters) -> bool) -> Counters {
        let start = std::time::Instant::now();
        loop {
            let counters = self.counters();
            if what(&counters) {
                return counters;
            }
            assert!(start.elapsed() < PATIENCE, "{counters:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until a port is wanted.
    #[track_caller]
    pub fn until_wanted(&mut self, port: PortNumber) {
        while !self.wanted.remove(&port) {
            self.hear();
        }
    }

    /// Waits until a port's guest is gone.
    #[track_caller]
    pub fn until_gone(&mut self, port: PortNumber) {
        while !self.gone.remove(&port) {
            self.hear();
        }
    }

    /// Connects a guest.
    pub fn connect(&mut self, number: u8) -> Guest {
        let kind = SockType::SeqPacket;
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, flags).unwrap();
        let ask = Ask::Connect { port: number.into() };
        self.client.ask(&ask, Some(theirs.as_fd())).unwrap();
        Guest { ends: ends(number), socket: ours }
    }

    /// What the switch complains of.
    #[track_caller]
    pub fn complaint(&mut self) -> String {
        assert!(readable(&self.client, PATIENCE), "the switch says something");
        match self.client.receive().unwrap().expect("the switch is there") {
            (Told::Problem { message }, _) => message,
            other => panic!("{other:?}"),
        }
    }

    /// Asks for a control socket's path, for a client of its own.
    pub fn another_client(&self) -> Client {
        Client::connect(&self.path()).unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A client that is greeted.
fn hello(path: &Path, expected: u32) -> (Client, client::Table) {
    let mut client = Client::connect(path).unwrap();
    client.ask(&Ask::Hello { version: VERSION }, None).unwrap();
    let (told, passed) = client.receive().unwrap().expect("the switch is there");
    assert_eq!(told, Told::Hello { version: VERSION, ports: expected });
    (client, client::Table::map(&passed.expect("the table")).unwrap())
}

/// A guest that is connected.
pub struct Guest {
    pub ends: Ends,
    pub socket: OwnedFd,
}

impl Guest {
    /// Sends a frame with complete checksums.
    pub fn send(&self, frame: &[u8]) {
        self.send_message(&[&[0; HEADER], frame].concat());
    }

    /// Sends a message as it is.
    pub fn send_message(&self, message: &[u8]) {
        nix::unistd::write(&self.socket, message).unwrap();
    }

    /// The next message, if one comes in time.
    pub fn receive_within(&self, patience: Duration) -> Option<Vec<u8>> {
        if !readable(&self.socket, patience) {
            return None;
        }
        let mut bytes = vec![0; 2000];
        let length = nix::unistd::read(&self.socket, &mut bytes).unwrap();
        bytes.truncate(length);
        Some(bytes)
    }

    /// The next frame.
    #[track_caller]
    pub fn receive(&self) -> Vec<u8> {
        let message = self.receive_within(PATIENCE).expect("a frame comes");
        assert!(message.len() > HEADER, "the switch is there");
        bytes::completed(&message)
    }

    /// Sends a datagram with this text.
    pub fn say(&self, to: Ends, text: &str) {
        self.send(&bytes::datagram(self.ends, to, [1000, 2000], text.as_bytes()));
    }

    /// The text of the next datagram.
    #[track_caller]
    pub fn hear(&self) -> String {
        String::from_utf8(self.receive()[42..].to_vec()).unwrap()
    }

    /// Nothing comes.
    #[track_caller]
    pub fn hears_nothing(&self) {
        assert_eq!(self.receive_within(MOMENT), None);
    }

    /// The descriptor's number, for messages.
    pub fn number(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}
