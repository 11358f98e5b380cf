//! The program itself: how it begins and ends, whom it listens to, and what it has given up.

mod common;

use common::bytes::Ends;
use common::{Rig, options, port};
use denali_switch::protocol::{Ask, MESSAGE_MAX, PORTS_MAX, Port, Told};
use denali_switch::{Client, client, message};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::Pid;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A line of /proc/PID/status.
fn status(rig: &Rig, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{}/status", rig.process.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.expect("the line is there").trim().to_owned()
}

#[test]
fn it_is_filtered_and_without_privileges_and_has_its_descriptors_only() {
    let rig = Rig::new(&options(), None, &[port(0, 0)]);
    assert_eq!(status(&rig, "Seccomp"), "2");
    assert_eq!(status(&rig, "NoNewPrivs"), "1");
    assert_eq!(status(&rig, "CapPrm"), "0000000000000000");
    assert_eq!(status(&rig, "CapEff"), "0000000000000000");
    assert_eq!(status(&rig, "Threads"), "1");
    let folder = format!("/proc/{}/fd", rig.process.id());
    let open = fs::read_dir(folder).unwrap().map(|entry| {
        let target = fs::read_link(entry.unwrap().path()).unwrap();
        target.to_string_lossy().split([':', '(']).next().unwrap().trim().to_owned()
    });
    let mut open: Vec<String> = open.collect();
    open.sort();
    let null = ["/dev/null"; 3];
    let own = ["/memfd", "anon_inode", "anon_inode", "socket", "socket"];
    assert_eq!(open, [&null[..], &own].concat());
    let limits = fs::read_to_string(format!("/proc/{}/limits", rig.process.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert!(["0", "1"].contains(&line.split_whitespace().nth(4).unwrap()), "{line}");
    // A session of its own, so that the terminal's signals are not for it.
    let session = nix::unistd::getsid(Some(Pid::from_raw(rig.process.id() as i32))).unwrap();
    assert_eq!(session.as_raw(), rig.process.id() as i32);
}

#[test]
fn it_ends_when_it_is_told_to_and_on_sigterm() {
    let mut rig = Rig::new(&options(), None, &[]);
    rig.client.ask(&Ask::End {}, None).unwrap();
    assert!(rig.process.wait().unwrap().success());
    let mut rig = Rig::new(&options(), None, &[]);
    kill(Pid::from_raw(rig.process.id() as i32), Signal::SIGTERM).unwrap();
    assert!(rig.process.wait().unwrap().success());
    assert!(rig.client.receive().unwrap().is_none());
}

#[test]
fn it_says_why_it_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let control = client::control_socket(&folder.path().join("switch")).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_denali-switch"));
    let said = |control: &OwnedFd, uplink: Option<&OwnedFd>| {
        client::start(program, control, uplink, &options()).unwrap_err().to_string()
    };
    let other = OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    assert!(said(&other, None).contains("the control socket is no Unix socket"));
    assert!(said(&control, Some(&other)).contains("the uplink is no TUN interface"));
    let (one, _) = nix::unistd::pipe().unwrap();
    assert!(said(&one, None).contains("the control socket"));
    let mut wrong = options();
    wrong.mtu = 1;
    let error = client::start(program, &control, None, &wrong).unwrap_err();
    assert!(error.to_string().starts_with("mtu"));
    assert!(client::start(Path::new("/nonexistent"), &control, None, &options()).is_err());
}

#[test]
fn who_does_not_know_the_protocol_is_not_listened_to() {
    let rig = Rig::new(&options(), None, &[port(0, 0)]);
    let mut other = rig.another_client();
    other.ask(&Ask::Hello { version: 2 }, None).unwrap();
    let (told, passed) = other.receive().unwrap().unwrap();
    assert!(matches!(told, Told::Problem { message } if message.contains("version 2")));
    assert!(passed.is_none() && other.receive().unwrap().is_none());
    let mut other = rig.another_client();
    other.ask(&Ask::End {}, None).unwrap();
    let (told, _) = other.receive().unwrap().unwrap();
    assert!(matches!(told, Told::Problem { message } if message.contains("hello")));
    assert!(other.receive().unwrap().is_none());
}

#[test]
fn what_cannot_be_done_is_said_and_the_rest_is_done() {
    let mut rig = Rig::new(&options(), None, &[port(0, 0)]);
    let same = Port { number: 1, ..port(0, 0) };
    rig.client.set(&[same, port(2, 0)]).unwrap();
    assert!(rig.complaint().contains("port 1: address is another port's"));
    assert_eq!(rig.counters().ports, 2);
    rig.client.ask(&Ask::Connect { port: 0 }, None).unwrap();
    assert!(rig.complaint().contains("port 0: its socket: none came along"));
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    rig.client.ask(&Ask::Connect { port: 0 }, Some(tcp.as_fd())).unwrap();
    assert!(rig.complaint().contains("SOCK_SEQPACKET"));
    rig.client.ask(&Ask::Connect { port: 9 }, Some(tcp.as_fd())).unwrap();
    assert!(rig.complaint().contains("no such port"));
    let publish = |port, guest_port, udp| Ask::Publish { port, guest_port, udp };
    rig.client.ask(&publish(0, 80, true), Some(tcp.as_fd())).unwrap();
    assert!(rig.complaint().contains("no UDP socket"));
    rig.client.ask(&publish(0, 0, false), Some(tcp.as_fd())).unwrap();
    assert!(rig.complaint().contains("guest_port is 0"));
    for nonsense in [&b"?"[..], b"{}", b"{\"ask\":\"set\"}", b"{\"ask\":\"end\",\"now\":1}"] {
        message::send(&rig.client, nonsense, None).unwrap();
        assert!(rig.complaint().starts_with("not understood"));
    }
    message::send(&rig.client, &vec![b' '; MESSAGE_MAX + 1], None).unwrap();
    assert!(rig.complaint().contains("more than 64 KiB"));
    assert_eq!(rig.counters().connected, 0);
}

#[test]
fn very_many_ports_take_little_memory_each_and_are_told_of() {
    let mut rig = Rig::new(&options_wide(), None, &[]);
    let kib = |rig: &Rig| status(rig, "RssAnon").split(' ').next().unwrap().parse::<u64>().unwrap();
    let before = kib(&rig);
    let count = 100_000;
    rig.client.set(&(0..count).map(numbered).collect::<Vec<_>>()).unwrap();
    assert_eq!(rig.counters().ports, u64::from(count));
    let each = (kib(&rig) - before) * 1024 / u64::from(count);
    println!("{each} bytes for each port");
    assert!(each <= 128, "{each} bytes");
    rig.client.ask(&Ask::Remove { ports: vec![0, count - 1] }, None).unwrap();
    assert_eq!(rig.counters().ports, u64::from(count) - 2);
    assert!(rig.table.get(PORTS_MAX - 1).is_some());
}

fn options_wide() -> denali_switch::Options {
    denali_switch::Options::new(Ipv4Addr::new(10, 64, 0, 1), 12, [2, 0, 0, 0, 0, 1])
}

#[test]
fn ten_thousand_guests_are_connected_at_once() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    // Some are left to the other tests of this process.
    let count = u32::try_from(most.saturating_sub(500)).unwrap_or(u32::MAX).min(10_000);
    let mut rig = Rig::new(&options_wide(), None, &[]);
    rig.client.set(&(0..count).map(numbered).collect::<Vec<_>>()).unwrap();
    let guests: Vec<OwnedFd> = (0..count).map(|number| connected(&rig, number)).collect();
    let counters = rig.counters();
    assert_eq!(counters.connected, u64::from(count));
    for (number, guest) in (0..).zip(&guests) {
        let port = numbered(number);
        let ends = Ends { mac: port.mac, address: port.address.octets() };
        let asks = common::bytes::arp(1, ends, [10, 64, 0, 1]);
        nix::unistd::write(guest, &[&[0; 12][..], &asks].concat()).unwrap();
    }
    for (number, guest) in (0..).zip(&guests) {
        let mut bytes = [0; 100];
        assert_eq!(nix::unistd::read(guest, &mut bytes), Ok(12 + 42));
        assert_eq!(bytes[12..18], numbered(number).mac);
    }
    let descriptors = fs::read_dir(format!("/proc/{}/fd", rig.process.id())).unwrap().count();
    assert!(descriptors <= count as usize + 10, "one for each guest, not {descriptors}");
    drop(guests);
    rig.until(|it| it.connected == 0);
}

/// A port of a wide subnet.
fn numbered(number: u32) -> Port {
    let [_, high, middle, low] = number.to_be_bytes();
    Port {
        number,
        address: Ipv4Addr::from_bits(0x0a40_0002 + number),
        mac: [2, 1, 0, high, middle, low],
        group: 0,
        wakes: Vec::new(),
        rate: 0,
    }
}

/// Connects the guest of a port; its end.
fn connected(rig: &Rig, port: u32) -> OwnedFd {
    let (kind, flags) = (SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
    let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, flags).unwrap();
    rig.client.ask(&Ask::Connect { port }, Some(theirs.as_fd())).unwrap();
    ours
}

#[test]
fn a_switch_with_nothing_to_do_rests() {
    let slow = Port { rate: 10, ..port(2, 0) };
    let mut options = options();
    options.policy = denali_switch::Policy::Open;
    let mut rig = Rig::new(&options, None, &[port(0, 0), port(1, 0), slow, port(3, 0)]);
    let [a, full, too_fast] = [0, 1, 2].map(|number| rig.connect(number));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let publish = Ask::Publish { port: 3, guest_port: 80, udp: false };
    rig.client.ask(&publish, Some(listener.as_fd())).unwrap();
    // One takes nothing, one has sent too much, one is not there, and a client waits for it too.
    let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    for number in 0..1000 {
        a.say(full.ends, &number.to_string());
        if number < 50 {
            too_fast.say(a.ends, &number.to_string());
            a.say(common::ends(3), &number.to_string());
        }
    }
    rig.until(|it| it.connections == 1 && it.dropped.full > 0);
    let used = || {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", rig.process.id())).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = used();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let ms = (used() - before) / 1_000_000;
    assert!(ms < 100, "{ms} ms of the processor in half a second");
}

#[test]
fn a_supervisor_that_asks_without_reading_holds_up_nobody() {
    let mut rig = Rig::new(&options(), None, &[port(0, 0), port(1, 0)]);
    let a = rig.connect(0);
    let mut asked = 0_u64;
    let flags = nix::fcntl::OFlag::O_NONBLOCK;
    nix::fcntl::fcntl(&rig.client, nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
    while rig.client.ask(&Ask::Counters {}, None).is_ok() {
        asked += 1;
        assert!(asked < 1_000_000, "the switch reads no more while nobody reads its answers");
    }
    a.send(&common::bytes::arp(1, a.ends, common::GATEWAY.address));
    assert_eq!(a.receive()[6..12], common::GATEWAY.mac);
    for _ in 0..asked {
        assert!(common::readable(&rig.client, common::PATIENCE));
        let told = rig.client.receive().unwrap().unwrap().0;
        assert!(matches!(told, Told::Counters { .. }));
    }
}

#[test]
fn a_client_whose_switch_ends_hears_of_it() {
    let mut rig = Rig::new(&options(), None, &[]);
    let mut other: Client = rig.another_client();
    rig.process.kill().unwrap();
    rig.process.wait().unwrap();
    assert!(other.receive().unwrap().is_none());
}
