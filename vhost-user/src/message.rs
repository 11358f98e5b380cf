//! Messages of the vhost-user protocol as bytes: requests are built, replies are judged.

use vhost::vhost_user::message::{FrontendReq, VhostUserHeaderFlag};
use vm_memory::ByteValued;

/// Bytes of a message's header: request, flags, size of the body.
pub(crate) const HEADER: usize = 12;

/// Most bytes of a reply's body that is accepted; configuration spaces are the largest.
pub(crate) const BODY_MAX: usize = 512;

/// Version of the protocol, in the low two bits of a header's flags.
const VERSION: u32 = 1;

/// A request, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// What is asked for.
    pub code: FrontendReq,
    /// Header and body.
    pub bytes: Vec<u8>,
}

impl Request {
    /// A request with `body`, whose parts follow each other.
    pub(crate) fn new(code: FrontendReq, body: &[&[u8]]) -> Self {
        let size: usize = body.iter().map(|part| part.len()).sum();
        let mut bytes = Vec::with_capacity(HEADER + size);
        for word in [code.into(), VERSION, size as u32] {
            bytes.extend_from_slice(&u32::to_ne_bytes(word));
        }
        body.iter().for_each(|part| bytes.extend_from_slice(part));
        Self { code, bytes }
    }

    /// A request with one of the protocol's structures as its body.
    pub(crate) fn with<T: ByteValued>(code: FrontendReq, body: &T) -> Self {
        Self::new(code, &[body.as_slice()])
    }

    /// The request with a reply asked for that says whether it was obeyed.
    pub(crate) fn acknowledged(mut self) -> Self {
        let flags = VERSION | VhostUserHeaderFlag::NEED_REPLY.bits();
        self.bytes[4..8].copy_from_slice(&flags.to_ne_bytes());
        self
    }
}

/// A reply's header, as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    code: u32,
    flags: u32,
    /// Bytes of the body.
    pub size: usize,
}

impl Header {
    /// The header in these bytes.
    pub(crate) fn parse(bytes: [u8; HEADER]) -> Self {
        let word = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Self { code: word(0), flags: word(4), size: word(8) as usize }
    }

    /// Whether this is a reply to `code` with a body of an acceptable size.
    pub(crate) fn answers(&self, code: FrontendReq) -> bool {
        let reply = VhostUserHeaderFlag::REPLY.bits();
        self.code == u32::from(code)
            && self.flags & (VhostUserHeaderFlag::VERSION.bits() | reply) == VERSION | reply
            && self.size <= BODY_MAX
    }
}

/// The structure that is the whole of `body`, if it has that size.
pub(crate) fn parse<T: ByteValued + Default>(body: &[u8]) -> Option<T> {
    if body.len() != size_of::<T>() {
        return None;
    }
    let mut value = T::default();
    value.as_mut_slice().copy_from_slice(body);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vhost::vhost_user::message::VhostUserU64;

    #[test]
    fn requests_have_the_protocols_layout() {
        let request = Request::with(FrontendReq::SET_FEATURES, &VhostUserU64::new(0x0102));
        assert_eq!(request.bytes[..12], [2, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0]);
        assert_eq!(request.bytes[12..], [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(request.acknowledged().bytes[4..8], [9, 0, 0, 0]);
    }

    #[test]
    fn only_replies_to_what_was_asked_are_accepted() {
        let header = |code: u32, flags: u32, size: u32| {
            let words = [code, flags, size].map(u32::to_ne_bytes);
            Header::parse(words.concat().try_into().unwrap())
        };
        assert!(header(1, 5, 8).answers(FrontendReq::GET_FEATURES));
        assert!(!header(2, 5, 8).answers(FrontendReq::GET_FEATURES), "another request");
        assert!(!header(1, 1, 8).answers(FrontendReq::GET_FEATURES), "no reply");
        assert!(!header(1, 6, 8).answers(FrontendReq::GET_FEATURES), "another version");
        assert!(!header(1, 5, 513).answers(FrontendReq::GET_FEATURES), "too large");
        assert!(!header(1, 5, u32::MAX).answers(FrontendReq::GET_FEATURES));
    }

    #[test]
    fn bodies_have_exactly_the_size_of_their_structure() {
        assert_eq!(parse::<VhostUserU64>(&[1, 0, 0, 0, 0, 0, 0, 0]).map(|v| v.value), Some(1));
        assert!(parse::<VhostUserU64>(&[1; 7]).is_none());
        assert!(parse::<VhostUserU64>(&[1; 9]).is_none());
    }
}
