//! Several guests at once: what happens to one is nothing to the others.

use super::web::{assert_counting, serve};
use crate::backend::Backend;
use crate::http::{Client, get};
use crate::registry::{Case, Suite};

pub fn suite() -> Suite {
    Suite {
        name: "neighbours",
        cases: vec![
            Case::each("a_crash_next_door", crash),
            Case::each("a_busy_loop_next_door", busy),
            Case::each("twenty_guests", many),
            Case::both("one_of_each_back_end", one_of_each),
        ],
    }
}

fn crash(backend: Backend) {
    let (_guest, address) = serve(backend);
    let mut client = Client::connect(address);
    for command in ["stack-overflow", "unknown-port", "write-null", "syscall"] {
        assert_eq!(client.get("/").status, 200);
        assert_eq!(backend.probe(command).finish().status, 121);
    }
    let (other, other_address) = serve(backend);
    assert_eq!(get(other_address, "/").status, 200);
    other.signal(libc::SIGKILL);
    assert_eq!(other.finish().signal, Some(libc::SIGKILL));
    assert_counting(&client.get("/bytes/100000"), 100_000);
}

fn busy(backend: Backend) {
    let spinning = backend.probe("spin").start();
    spinning.wait_for("ready");
    let (_guest, address) = serve(backend);
    for _ in 0..20 {
        assert_counting(&get(address, "/bytes/10000"), 10_000);
    }
}

fn many(backend: Backend) {
    let guests: Vec<_> = (0..20)
        .map(|n| backend.web().option("--arg").option(format!("guest number {n}")).start())
        .collect();
    for (n, guest) in guests.iter().enumerate() {
        let page = get(guest.address(), "/");
        assert!(page.text().contains(&format!("<strong>guest number {n}</strong>")));
    }
    for guest in guests {
        guest.signal(libc::SIGTERM);
        assert_eq!(guest.finish().status, 0);
    }
}

fn one_of_each() {
    let served = Backend::ALL.map(serve);
    for (_, address) in &served {
        assert_counting(&get(*address, "/bytes/100000"), 100_000);
    }
    let [(first, _), (_second, second_address)] = served;
    first.signal(libc::SIGKILL);
    drop(first);
    assert_eq!(get(second_address, "/").status, 200);
}
