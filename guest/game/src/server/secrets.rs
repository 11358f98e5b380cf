//! Cookies and tokens: numbers that only who receives datagrams at an address can know.
//!
//! A cookie is computed from the address, so that the server remembers nothing about who only said
//! hello, and no datagram with a forged sender makes it remember anything.

use super::Peer;
use crate::siphash::{Key, siphash};

/// ns for which cookies are the same; one is good for at least as long, and at most twice.
const EPOCH_NS: u64 = 10_000_000_000;

/// What the same key is used for.
const COOKIE: u64 = 1;
const TOKEN: u64 = 2;

/// Makes cookies and tokens.
#[derive(Debug)]
pub(super) struct Secrets {
    key: Key,
    /// Tokens given.
    count: u64,
}

impl Secrets {
    pub(super) fn new(key: Key) -> Self {
        Self { key, count: 0 }
    }

    /// The cookie of a peer that sent this nonce.
    pub(super) fn cookie(&self, now_ns: u64, peer: Peer, nonce: u64) -> u64 {
        self.cookie_of(now_ns / EPOCH_NS, peer, nonce)
    }

    /// Whether a cookie is the peer's, and not too old.
    pub(super) fn knows(&self, now_ns: u64, peer: Peer, nonce: u64, cookie: u64) -> bool {
        let epoch = now_ns / EPOCH_NS;
        [epoch, epoch.wrapping_sub(1)].iter().any(|&it| self.cookie_of(it, peer, nonce) == cookie)
    }

    /// A token that was not given before.
    pub(super) fn token(&mut self, peer: Peer, nonce: u64) -> u64 {
        self.count += 1;
        siphash(self.key, &[TOKEN, number(peer), nonce, self.count])
    }

    fn cookie_of(&self, epoch: u64, peer: Peer, nonce: u64) -> u64 {
        siphash(self.key, &[COOKIE, number(peer), nonce, epoch])
    }
}

fn number(peer: Peer) -> u64 {
    u64::from(u32::from_be_bytes(peer.address)) << 16 | u64::from(peer.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_good_for_its_peer_its_nonce_and_some_time() {
        let secrets = Secrets::new([1, 2]);
        let peer = Peer { address: [10, 0, 0, 1], port: 4000 };
        let now = 25_000_000_000;
        let cookie = secrets.cookie(now, peer, 7);
        assert!(secrets.knows(now, peer, 7, cookie));
        assert!(secrets.knows(now + EPOCH_NS, peer, 7, cookie));
        assert!(!secrets.knows(now + 2 * EPOCH_NS, peer, 7, cookie));
        assert!(!secrets.knows(now, peer, 8, cookie));
        assert!(!secrets.knows(now, Peer { port: 4001, ..peer }, 7, cookie));
        assert!(!secrets.knows(now, Peer { address: [10, 0, 0, 2], ..peer }, 7, cookie));
        assert!(!Secrets::new([1, 3]).knows(now, peer, 7, cookie));
    }

    #[test]
    fn tokens_differ() {
        let mut secrets = Secrets::new([1, 2]);
        let peer = Peer { address: [10, 0, 0, 1], port: 4000 };
        assert_ne!(secrets.token(peer, 7), secrets.token(peer, 7));
    }
}
