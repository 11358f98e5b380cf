//! The suites: what is tested, by subject.

mod batching;
mod block;
mod c_guest;
mod console;
mod console_device;
mod doorbells;
mod egress;
mod entropy_device;
mod equality;
mod events;
mod faults;
mod fleet;
mod game;
mod hostile_net;
mod image;
mod memory;
mod neighbours;
mod paging;
mod park;
mod publish_udp;
mod refusals;
mod sandbox;
mod scheduling;
mod signals;
mod snapshot;
mod socket_net;
mod store;
mod swap;
mod switch;
mod tap;
mod threads;
mod time;
mod upcalls;
mod vhost_user;
mod web;

use crate::registry::Suite;

/// Every suite.
pub fn all() -> Vec<Suite> {
    vec![
        doorbells::suite(),
        time::suite(),
        upcalls::suite(),
        threads::suite(),
        console::suite(),
        memory::suite(),
        faults::suite(),
        events::suite(),
        signals::suite(),
        web::suite(),
        hostile_net::suite(),
        egress::suite(),
        publish_udp::suite(),
        game::suite(),
        neighbours::suite(),
        sandbox::suite(),
        scheduling::suite(),
        tap::suite(),
        socket_net::suite(),
        switch::suite(),
        vhost_user::suite(),
        batching::suite(),
        block::suite(),
        console_device::suite(),
        entropy_device::suite(),
        store::suite(),
        swap::suite(),
        park::suite(),
        snapshot::suite(),
        fleet::suite(),
        paging::suite(),
        image::suite(),
        c_guest::suite(),
        equality::suite(),
        refusals::suite(),
    ]
}
