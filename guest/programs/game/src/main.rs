//! A game server in a Denali guest: clients play over UDP, a fixed tick moves the world.
//!
//! | argument | meaning | default |
//! |---|---|---|
//! | `tick=N` | ticks per second, 20 to 60 | 30 |
//! | `port=N` | UDP port | 27910 |
//! | `clients=N` | most clients, 1 to 64 | 32 |
//! | `mode=flood` | instead of a server: sends datagrams to the gateway as fast as it can | `mode=serve` |
//!
//! While nobody plays there are no ticks, and the guest sleeps until a datagram comes. When it is asked to
//! stop it tells its clients, prints its statistics as lines `name=value`, and ends with status 0.
#![cfg_attr(guest_image, no_std, no_main)]

extern crate alloc;

mod flood;
mod mailbox;
mod options;

use alloc::string::{String, ToString};
use core::time::Duration;
use denali_game::{Server, Settings};
use ilwaco::clock::Instant;
use ilwaco::net::Error;
use ilwaco::{entropy, registers};
use mailbox::{Event, Mailbox};
use options::{Mode, Options};

ilwaco::program!(async start, devices = [net]);

/// How long a client may stay silent.
const PATIENCE: Duration = Duration::from_secs(10);

async fn start() -> Result<(), String> {
    let options = Options::parse(registers::arguments())?;
    let done = match options.mode {
        Mode::Serve => serve(&options).await,
        Mode::Flood => flood::run().await,
    };
    done.map_err(|error| error.to_string())
}

/// Serves until the guest is asked to stop.
async fn serve(options: &Options) -> Result<(), Error> {
    let mut mailbox = Mailbox::open(options.port)?;
    let mut server = Server::new(Settings {
        tick_hz: options.tick_hz,
        clients: options.clients,
        patience_ns: PATIENCE.as_nanos() as u64,
        secret: [entropy::next_u64(), entropy::next_u64()],
    });
    let address = ilwaco::net::address()?;
    let Options { tick_hz, port, clients, .. } = *options;
    ilwaco::println!("game: {tick_hz} ticks/s for up to {clients} clients on {address}:{port}");
    loop {
        match mailbox.next(server.due_ns()).await {
            Event::Datagram => mailbox.give_to(&mut server),
            Event::Due => {
                // What has come by now counts for this tick.
                mailbox.give_all_to(&mut server);
                server.advance(Instant::now().as_ns(), mailbox.outgoing());
            }
            Event::Stop => break,
        }
        mailbox.send().await;
    }
    server.stop(mailbox.outgoing());
    mailbox.send().await;
    // The socket still has them: they leave when the network has its turn, before the socket is closed.
    ilwaco::yield_now().await;
    ilwaco::println!("{}", server.status());
    Ok(())
}
