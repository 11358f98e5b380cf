//! Guests that the host reaches at their addresses, through an interface of its own.

use super::orders::{arrivals, listen};
use super::switched::{ECHO, asking, echo, said_at_its_end};
use crate::backend::Backend;
use crate::guest::PATIENCE;
use crate::http::get;
use crate::namespace::{ip, isolated};
use crate::registry::{Case, Need};
use crate::supervisor::{Host, create};
use denali_client::{Action, GuestState};
use serde_json::json;
use std::collections::HashSet;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    let uplink = |name, body| Case::each(name, body).needs(Need::Namespaces);
    vec![
        uplink("fifty_guests_answer_each_at_its_address", fifty),
        uplink("scans_and_broadcasts_wake_nobody", scans),
        uplink("an_interface_that_cannot_be_made_is_named", refused),
        uplink("guests_reach_the_host_and_not_each_other", isolation),
    ]
}

const TUN: &str = "denali0";

fn host(backend: Backend) -> Host {
    Host::new(backend).with("network", json!({ "tun": TUN, "address": "10.96.0.1/16" }))
}

fn fifty(backend: Backend) {
    const GUESTS: u32 = 50;
    isolated(|| {
        let host = host(backend);
        let supervisor = host.start();
        let outcomes = supervisor.create(&create("web", GUESTS, host.unpublished()));
        assert!(outcomes.iter().all(|outcome| outcome.error.is_none()), "{outcomes:?}");
        let guests = supervisor.client().list(&["web-*"]).expect("it lists");
        let addresses: HashSet<_> =
            guests.map(|guest| guest.expect("a guest").address.expect("an address")).collect();
        assert_eq!(addresses.len(), GUESTS as usize);
        let answers = || {
            for address in &addresses {
                let page = get(SocketAddr::from((*address, 80)), "/");
                assert!(page.text().contains(&format!("at {address}")), "{page:?}");
            }
        };
        answers();
        supervisor.must(Action::Park, &["web-*"]);
        let parked = supervisor.client().host().expect("it tells").guests;
        assert_eq!(parked.get(&GuestState::Parked), Some(&GUESTS.into()), "{parked:?}");
        answers();
        supervisor.stop();
    });
}

fn scans(backend: Backend) {
    isolated(|| {
        let host = host(backend);
        let supervisor = host.start();
        let mut web = host.unpublished();
        web["net"][0]["backend"]["switch"] = json!({ "wakes": [80] });
        let outcomes = supervisor.create(&create("web", 3, web));
        assert!(outcomes.iter().all(|outcome| outcome.error.is_none()), "{outcomes:?}");
        supervisor.must(Action::Park, &["web-*"]);
        let events = listen(&supervisor);
        let addresses = [2, 3, 4].map(|last| [10, 96, 0, last]);
        let socket = UdpSocket::bind("10.96.0.1:0").expect("the host's address");
        socket.set_broadcast(true).expect("a socket takes options");
        for address in addresses.into_iter().chain([[10, 96, 255, 255], [255; 4]]) {
            // The host may refuse to send some of them.
            let _ = socket.send_to(b"is anybody there?", SocketAddr::from((address, 7)));
        }
        for address in addresses {
            for port in [22, 81, 8080] {
                let to = SocketAddr::from((address, port));
                assert!(TcpStream::connect_timeout(&to, Duration::from_millis(20)).is_err());
            }
        }
        // A guest that is asked for is answered after all that.
        assert_eq!(get(SocketAddr::from(([10, 96, 0, 3], 80)), "/").status, 200);
        supervisor.must(Action::Stop, &["web-2"]);
        // Others may have woken by their timers, and by nothing else.
        let woken = arrivals(&events, "web-2", GuestState::Stopped);
        assert!(woken.iter().all(|name| name == "web-2"), "{woken:?}");
        supervisor.stop();
    });
}

fn refused(backend: Backend) {
    isolated(|| {
        ip(&format!("tuntap add {TUN} mode tap"));
        let host = host(backend);
        let supervisor = host.start();
        let notice = supervisor.wait_for("", "notice", 0);
        let message = notice["message"].as_str().expect("a message");
        assert!(message.contains("network.tun: ") && message.contains(TUN), "{message}");
        // It is tried again, and works as soon as it can.
        ip(&format!("link delete {TUN}"));
        supervisor.add("web", host.unpublished());
        assert_eq!(get(SocketAddr::from(([10, 96, 0, 2], 80)), "/").status, 200);
        supervisor.stop();
    });
}

fn isolation(backend: Backend) {
    isolated(|| {
        let host = host(backend);
        let supervisor = host.start();
        let socket = UdpSocket::bind("10.96.0.1:0").expect("the host's address");
        let port = socket.local_addr().expect("an address").port();
        supervisor.add("echo", echo(&host));
        supervisor.park("echo");
        let events = listen(&supervisor);
        let words = format!("egress udp=10.96.0.1:{port}/host udp=10.96.0.2:{ECHO}/guest");
        supervisor.add("asks", asking(&host, &words));
        let mut heard = [0; 16];
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket takes time-outs");
        let (length, from) = socket.recv_from(&mut heard).expect("the guest reaches the host");
        assert_eq!((&heard[..length], from.ip()), (&b"host"[..], [10, 96, 0, 3].into()));
        socket.send_to(b"answer", from).expect("the host reaches the guest");
        let said = said_at_its_end(&host, &supervisor, "asks");
        assert!(said.contains("/host -> answer") && said.contains("/guest -> silence"), "{said}");
        let woken = arrivals(&events, "asks", GuestState::Stopped);
        assert!(woken.is_empty(), "who may not ask it does not wake it: {woken:?}");
        supervisor.stop();
    });
}
