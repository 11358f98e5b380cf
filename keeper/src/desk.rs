//! Answers for guests that are parked, at their control sockets: whoever asks how one is does not wake it.

use crate::event::Reason;
use crate::guest::Guest;
use crate::keeper::Keeper;
use crate::watcher::Token;
use denali_control::{Life, Received, Request, Status, Tell, Told, receive};
use nix::sys::socket::{SockFlag, accept4};
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Most clients at a time; further ones wait in the queues of listening sockets.
const CLIENTS_MAX: usize = 64;

/// Clients of parked guests, by numbers.
#[derive(Default)]
pub(crate) struct Desk {
    clients: HashMap<u32, Client>,
    next: u32,
}

struct Client {
    guest: u32,
    socket: OwnedFd,
}

impl Desk {
    /// A guest is no longer parked: its clients are to ask its monitor.
    pub(crate) fn leave(&mut self, guest: u32) {
        if !self.clients.is_empty() {
            self.clients.retain(|_, client| client.guest != guest);
        }
    }

    fn add(&mut self, client: Client) -> u32 {
        while self.clients.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        self.clients.insert(self.next, client);
        self.next
    }
}

impl Keeper<'_> {
    /// Somebody wants to give a parked guest's monitor commands.
    pub(crate) fn accept_clients(&mut self, number: u32) {
        let guest = &self.guests[number as usize];
        let sources = guest.sources();
        let Some((index, listener)) = (0..).zip(&sources).find(|(_, source)| source.commands)
        else {
            return;
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        while self.desk.clients.len() < CLIENTS_MAX {
            let Ok(accepted) = accept4(listener.descriptor.as_raw_fd(), flags) else { break };
            // SAFETY: the descriptor was made by the call above and belongs to nobody else.
            let socket = unsafe { OwnedFd::from_raw_fd(accepted) };
            let client = self.desk.add(Client { guest: number, socket });
            let added = self.desk.clients.get(&client).map(|client| client.socket.as_fd());
            let watched = added.map(|socket| self.watcher.add(socket, Token::Client(client)));
            if watched.is_none_or(|watched| watched.is_err()) {
                self.desk.clients.remove(&client);
            }
        }
        // Where it cannot be watched, those who come wait until the guest wakes.
        let _ = self.watcher.once(listener.descriptor, Token::Source(number, index));
    }

    /// A client says something, or leaves.
    pub(crate) fn serve_client(&mut self, number: u32) {
        let Some(client) = self.desk.clients.get(&number) else { return };
        let guest = client.guest;
        let request = match receive(client.socket.as_fd(), &mut self.buffer) {
            Ok(Received::Nothing) => return,
            Ok(Received::Message(_)) => serde_json::from_slice(&self.buffer),
            Ok(Received::Gone) | Err(_) => {
                self.desk.clients.remove(&number);
                return;
            }
        };
        let told = match &request {
            Ok(request) => answer(&self.guests[guest as usize], request),
            Err(error) => Told::Refused { why: format!("not understood: {error}") },
        };
        if told.tell(client.socket.as_fd()).is_err() {
            self.desk.clients.remove(&number);
        }
        match request {
            Ok(Request::Park { .. }) if matches!(told, Told::Parked(_)) => self.leave(guest),
            Ok(Request::Snapshot {}) => self.wake(guest, Reason::Command),
            _ => {}
        }
    }
}

/// What is answered for a guest that is parked.
fn answer(guest: &Guest, request: &Request) -> Told {
    match request {
        Request::Status {} => Told::Status(Status {
            name: guest.name.to_string(),
            life: Life::Parked,
            resident_pages: 0,
            stored_pages: guest.pages,
            swapped_out: 0,
            woken: 0,
            faults: 0,
            generation: u64::from(guest.lives.max(1)),
            guest_id: guest.has_region().then(|| guest.id.to_string()),
            limit_reached: None,
        }),
        Request::SwapOut {} => Told::SwappedOut { pages: guest.pages },
        Request::Park { .. } => match guest.parked() {
            Some(parked) => Told::Parked(parked),
            None => Told::Refused { why: "it has not run yet; ask again".into() },
        },
        Request::Adopt {} => Told::Refused { why: "it has a keeper".into() },
        Request::Snapshot {} => {
            Told::Refused { why: "it was parked and is woken; ask again".into() }
        }
    }
}
