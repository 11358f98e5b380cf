//! Copies on networks where everybody sees who they are: they speak as themselves, beside the guest that they
//! are copies of.

use super::{copy, plain};
use crate::backend::Backend;
use crate::guest::{Guest, Run};
use crate::home::Home;
use crate::lines::Lines;
use crate::namespace::{ip, isolated, run};
use crate::registry::{Case, Need};
use crate::seqpacket::Listener;
use crate::suites::socket_net::{Peer, address_of, who_has};
use serde_json::{Value, json};
use smoltcp::wire::EthernetAddress;
use std::collections::BTreeSet;
use std::path::Path;

pub fn cases() -> Vec<Case> {
    vec![
        Case::each("copies_on_taps_have_addresses_of_their_own", taps).needs(Need::Namespaces),
        Case::each("copies_on_sockets_speak_as_themselves", sockets),
    ]
}

/// The MAC address of a guest on a network.
fn mac_of(number: u8) -> String {
    format!("02:00:00:00:00:{number:02x}")
}

/// The network card of a guest.
fn card(number: u8, backend: &Value) -> Value {
    json!({
        "mac": mac_of(number),
        "address": format!("{}/24", address_of(number)),
        "backend": backend,
    })
}

/// A guest that says who it is, with this card.
fn original(home: &Home, backend: Backend, card: &Value) -> Guest {
    let mut configuration = plain(home, "identity");
    configuration["net"] = json!([card]);
    let guest = home.run(backend, &configuration).json().start();
    guest.wait_for("ready");
    guest
}

/// A copy with a card of its own.
fn clone(backend: Backend, snapshot: &Path, card: &Value) -> Guest {
    let control = snapshot.with_extension(card["mac"].as_str().expect("a MAC address"));
    let control = format!("control={}", control.display());
    Run::copy(backend, snapshot).set(control).set(format!("net.0={card}")).json().start()
}

/// The guest at this address has it and its MAC address; so it says, and so the host has learned. Its generation.
#[track_caller]
fn assert_found(number: u8) -> u64 {
    let identity = Lines::connect((address_of(number), 80).into()).identity();
    let expected = (mac_of(number), address_of(number).to_string());
    assert_eq!((&identity.mac, &identity.ipv4), (&expected.0, &expected.1));
    let learned = run("ip", &["neigh", "show", &expected.1]);
    let learned = String::from_utf8_lossy(&learned.stdout);
    assert!(learned.contains(&expected.0), "{learned}");
    identity.generation
}

/// A guest and two copies on one bridge, all at once: each is found at its own addresses.
fn taps(backend: Backend) {
    const GUEST: u8 = 10;
    const CLONES: [u8; 2] = [11, 12];
    isolated(|| {
        ip("link add bridge0 type bridge");
        ip(&format!("address add {}/24 dev bridge0", address_of(1)));
        ip("link set bridge0 up");
        let on_tap = |number: u8| {
            ip(&format!("tuntap add tap{number} mode tap"));
            ip(&format!("link set tap{number} master bridge0 up"));
            card(number, &json!({ "tap": format!("tap{number}") }))
        };
        let home = Home::new(1);
        let _guest = original(&home, backend, &on_tap(GUEST));
        let generation = assert_found(GUEST);
        let snapshot = copy(&home, "copy");
        let _clones = CLONES.map(|number| clone(backend, &snapshot, &on_tap(number)));
        for number in CLONES {
            assert!(assert_found(number) > generation, "{number} knows that it is a copy");
        }
        assert_eq!(assert_found(GUEST), generation);
    });
}

/// Whoever answers at a cable does so as the guest of this number, and as nobody else.
#[track_caller]
fn assert_speaks_as(peer: &mut Peer<'_>, number: u8) {
    peer.ping(address_of(number), 100);
    let expected = (EthernetAddress([2, 0, 0, 0, 0, number]), address_of(number));
    assert_eq!(peer.heard(), &BTreeSet::from([expected]));
}

fn sockets(backend: Backend) {
    const GUEST: u8 = 2;
    const CLONES: [u8; 2] = [3, 4];
    let home = Home::new(1);
    let path = |number: u8| home.path(&format!("wire{number}"));
    let on_socket = |number: u8| card(number, &json!({ "socket": path(number) }));
    let listener = Listener::bind(&path(GUEST));
    let _guest = original(&home, backend, &on_socket(GUEST));
    let guests = listener.accept();
    let mut to_guest = Peer::new(&guests);
    assert_speaks_as(&mut to_guest, GUEST);
    let snapshot = copy(&home, "copy");
    for number in CLONES {
        let listener = Listener::bind(&path(number));
        let _clone = clone(backend, &snapshot, &on_socket(number));
        let clones = listener.accept();
        // It had that address once. Had it still, it would answer before it answers what comes next.
        clones.send(&who_has(address_of(GUEST)));
        assert_speaks_as(&mut Peer::new(&clones), number);
    }
    assert_speaks_as(&mut to_guest, GUEST);
}
