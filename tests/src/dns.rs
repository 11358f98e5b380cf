//! A name server for tests, on a free port of 127.0.0.1: it knows few names and remembers who asked.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Bytes of a message's header.
const HEADER: usize = 12;

/// A name server; it goes on to the end of the tests.
pub struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    /// Starts a server that knows these names, and that no others exist.
    pub fn start(known: &[(&str, Ipv4Addr)]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let known: HashMap<String, Ipv4Addr> =
            known.iter().map(|(name, address)| ((*name).to_owned(), *address)).collect();
        let remembered = Arc::clone(&asked);
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let Some(name) = name_in(&buffer[..length]) else { continue };
                let answer = answer(&buffer[..length], known.get(&name).copied());
                remembered.lock().unwrap_or_else(PoisonError::into_inner).push(name);
                // Who asked may be gone.
                let _ = socket.send_to(&answer, from);
            }
        });
        Self { address, asked }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The names that it was asked for.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The name that a question is about, in lower case.
fn name_in(question: &[u8]) -> Option<String> {
    let mut labels = Vec::new();
    let mut rest = question.get(HEADER..)?;
    while let Some((&length @ 1.., after)) = rest.split_first() {
        let (label, after) = after.split_at_checked(usize::from(length))?;
        labels.push(String::from_utf8_lossy(label).to_lowercase());
        rest = after;
    }
    Some(labels.join("."))
}

/// The answer: an address, or that there is no such name.
fn answer(question: &[u8], address: Option<Ipv4Addr>) -> Vec<u8> {
    const NO_SUCH_NAME: u8 = 3;
    let mut message = question.to_vec();
    message[2] |= 0x80;
    match address {
        None => message[3] = NO_SUCH_NAME,
        Some(address) => {
            message[7] = 1;
            // The question's name; type A, class IN, a minute, four bytes.
            message.extend([0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            message.extend(address.octets());
        }
    }
    message
}
