//! Names: asks the name server that the device table gives what addresses a name means.

use super::{Error, Ipv4Address, UdpSocket};
use crate::{entropy, registers, time};
use alloc::vec::Vec;
use core::time::Duration;
use denali_abi::boot::KIND_NET;

/// Port of name servers.
const PORT: u16 = 53;
/// Bytes of a message's header.
const HEADER: usize = 12;
/// Most bytes of a message.
const MESSAGE_MAX: usize = 512;
/// Most characters of a name, and of each part between dots.
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;
/// Times the name server is asked before it counts as silent, and how long it has each time.
const ATTEMPTS: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(3);

/// The IPv4 addresses that `name` means, at least one. An address in dotted form means itself.
///
/// # Errors
/// [`Error::NoNameServer`] if the guest may ask nobody; [`Error::BadName`] if no host can have the name;
/// [`Error::NameRefused`] if it may not be asked for; [`Error::NoSuchName`]; [`Error::NoAnswer`]; those
/// of [`UdpSocket::open`].
pub async fn resolve(name: &str) -> Result<Vec<Ipv4Address>, Error> {
    if let Ok(address) = name.parse::<Ipv4Address>() {
        return Ok(alloc::vec![address]);
    }
    let server = name_server().ok_or(Error::NoNameServer)?;
    let mut buffer = [0; MESSAGE_MAX];
    for _ in 0..ATTEMPTS {
        // A new port and number each time: late and forged answers match neither.
        let socket = UdpSocket::open()?;
        let id = entropy::next_u64() as u16;
        let question = Question::new(name, id).ok_or(Error::BadName)?;
        socket.send_to(&question.message, (server, PORT)).await?;
        let answer = time::timeout(PATIENCE, async {
            loop {
                let (length, from) = socket.receive_from(&mut buffer).await;
                let expected = from.addr == server.into() && from.port == PORT;
                if let Some(answer) = question.read_answer(&buffer[..length]).filter(|_| expected) {
                    return answer;
                }
            }
        });
        match answer.await {
            Ok(Answer::Failed) | Err(_) => {}
            Ok(Answer::Refused) => return Err(Error::NameRefused),
            Ok(Answer::Addresses(found)) if found.is_empty() => return Err(Error::NoSuchName),
            Ok(Answer::Addresses(found)) => return Ok(found),
        }
    }
    Err(Error::NoAnswer)
}

/// The name server of the first network card.
fn name_server() -> Option<Ipv4Address> {
    let card = registers::current(registers::devices(KIND_NET).next()?);
    let server = Ipv4Address::from(card.name_server);
    (!server.is_unspecified()).then_some(server)
}

/// A question for IPv4 addresses.
struct Question {
    message: Vec<u8>,
}

/// What a name server says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The addresses of the name, maybe none.
    Addresses(Vec<Ipv4Address>),
    /// It does not answer such a question.
    Refused,
    /// It could not find out.
    Failed,
}

impl Question {
    /// Asks for `name` under the number `id`; `None` if no host can have the name.
    fn new(name: &str, id: u16) -> Option<Self> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() || name.len() > NAME_MAX {
            return None;
        }
        let mut message = Vec::with_capacity(HEADER + name.len() + 6);
        message.extend(id.to_be_bytes());
        // Recursion desired; one question, nothing else.
        message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in name.split('.') {
            if label.is_empty() || label.len() > LABEL_MAX {
                return None;
            }
            message.push(label.len() as u8);
            message.extend(label.as_bytes());
        }
        // The root; type A, class IN.
        message.extend([0, 0, 1, 0, 1]);
        Some(Self { message })
    }

    /// Reads a message; `None` if it does not answer this question.
    fn read_answer(&self, message: &[u8]) -> Option<Answer> {
        const RESPONSE: u8 = 0x80;
        const NAME_ERROR: u8 = 3;
        const REFUSED: u8 = 5;
        let question = &self.message[HEADER..];
        let asked = message.get(HEADER..HEADER + question.len())?;
        let one_question = message[4..6] == [0, 1];
        let same = message[..2] == self.message[..2] && asked.eq_ignore_ascii_case(question);
        if !same || !one_question || message[2] & RESPONSE == 0 {
            return None;
        }
        match message[3] & 0xf {
            0 => {}
            NAME_ERROR => return Some(Answer::Addresses(Vec::new())),
            REFUSED => return Some(Answer::Refused),
            _ => return Some(Answer::Failed),
        }
        let count = u16::from_be_bytes([message[6], message[7]]);
        let mut rest = &message[HEADER + question.len()..];
        let mut found = Vec::new();
        for _ in 0..count {
            // What is cut off is left out: some addresses are as good as all.
            let Some((address, after)) = read_record(rest) else { break };
            found.extend(address);
            rest = after;
        }
        Some(Answer::Addresses(found))
    }
}

/// Reads a record: its address, if it is one, and what comes after it.
fn read_record(bytes: &[u8]) -> Option<(Option<Ipv4Address>, &[u8])> {
    const ADDRESS: [u8; 4] = [0, 1, 0, 1];
    let rest = skip_name(bytes)?;
    let (fixed, rest) = rest.split_at_checked(10)?;
    let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
    let (data, rest) = rest.split_at_checked(length)?;
    let address = match <[u8; 4]>::try_from(data) {
        Ok(octets) if fixed[..4] == ADDRESS => Some(Ipv4Address::from(octets)),
        _ => None,
    };
    Some((address, rest))
}

/// What comes after a name, which ends with an empty label or a pointer.
fn skip_name(mut bytes: &[u8]) -> Option<&[u8]> {
    const POINTER: u8 = 0xc0;
    loop {
        let (&length, rest) = bytes.split_first()?;
        match length {
            0 => return Some(rest),
            POINTER.. => return rest.get(1..),
            1..=63 => bytes = rest.get(usize::from(length)..)?,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer_to(question: &Question, code: u8, records: &[&[u8]]) -> Vec<u8> {
        let mut message = question.message.clone();
        message[2] |= 0x80;
        message[3] = code;
        message[7] = records.len() as u8;
        message.extend(records.concat());
        message
    }

    #[test]
    fn addresses_are_found_behind_aliases() {
        let question = Question::new("www.Example.com.", 7).unwrap();
        assert_eq!(&question.message[HEADER..], b"\x03www\x07Example\x03com\0\0\x01\0\x01");
        let alias = b"\xc0\x0c\0\x05\0\x01\0\0\0\x0a\0\x04\x01a\xc0\x10";
        let address = b"\x01a\xc0\x10\0\x01\0\x01\0\0\0\x0a\0\x04\xc0\x00\x02\x01";
        let message = answer_to(&question, 0, &[alias, address, address]);
        let found = alloc::vec![Ipv4Address::new(192, 0, 2, 1); 2];
        assert_eq!(question.read_answer(&message), Some(Answer::Addresses(found.clone())));
        let cut = &message[..message.len() - 1];
        let left = found[..1].to_vec();
        assert_eq!(question.read_answer(cut), Some(Answer::Addresses(left)));
    }

    #[test]
    fn refusals_and_failures_are_told_apart() {
        let question = Question::new("a.example", 7).unwrap();
        let read = |code| question.read_answer(&answer_to(&question, code, &[]));
        assert_eq!(read(0), Some(Answer::Addresses(Vec::new())));
        assert_eq!(read(3), Some(Answer::Addresses(Vec::new())));
        assert_eq!((read(5), read(2)), (Some(Answer::Refused), Some(Answer::Failed)));
        let other = Question::new("b.example", 7).unwrap();
        assert_eq!(other.read_answer(&answer_to(&question, 0, &[])), None);
        let later = Question::new("a.example", 8).unwrap();
        assert_eq!(later.read_answer(&answer_to(&question, 0, &[])), None);
        assert_eq!(question.read_answer(&question.message), None, "a question");
    }

    #[test]
    fn names_no_host_can_have_are_not_asked_for() {
        let long = "a".repeat(64);
        for name in ["", ".", "a..b", ".a", long.as_str(), &"ab.".repeat(90)] {
            assert!(Question::new(name, 1).is_none(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(
            tail in prop::collection::vec(any::<u8>(), 0..200),
            count in any::<u8>(),
        ) {
            let question = Question::new("www.example.com", 7).unwrap();
            let mut message = answer_to(&question, 0, &[&tail]);
            message[7] = count;
            match question.read_answer(&message) {
                Some(Answer::Addresses(found)) => prop_assert!(found.len() <= tail.len() / 14),
                other => prop_assert!(false, "{other:?}"),
            }
            let _ = question.read_answer(&tail);
        }
    }
}
