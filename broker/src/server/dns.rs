//! Questions and answers about names: what may be asked, what is forwarded, what an answer says.
//! Both sides are untrusted.

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use std::collections::HashSet;
use std::net::Ipv4Addr;

/// Most bytes of a message, as for every host without extensions (RFC 1035, section 4.2.1).
pub const MESSAGE_MAX: usize = 512;

/// Bytes of a message's header.
const HEADER: usize = 12;

/// Most characters of a name.
const NAME_MAX: usize = 253;

/// Most records in a section of a message of 512 bytes.
const RECORDS_MAX: u16 = 64;

/// Most aliases that are followed from the name that was asked for.
const ALIASES_MAX: usize = 16;

/// A question that may be asked, if its name is allowed.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The name in lower case, without a dot at its end.
    pub name: String,
    /// The name as it was written.
    written: String,
    /// Whether it asks for IPv4 addresses.
    pub wants_addresses: bool,
    id: u16,
    question: Question<'static>,
}

/// What an answer of a name server says.
#[derive(Debug)]
pub struct Found {
    /// Addresses that the name means, and for how many seconds.
    pub addresses: Vec<(Ipv4Addr, u32)>,
}

/// Why a question cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswerable {
    /// It is no question, and gets no answer.
    Malformed,
    /// It is a question of another kind or about a name that no host can have.
    Unsupported,
}

impl Asked {
    /// Reads a question.
    pub fn parse(message: &[u8]) -> Result<Self, Unanswerable> {
        let counts = counts(message).ok_or(Unanswerable::Malformed)?;
        if message.len() > MESSAGE_MAX || counts[0] != 1 || counts[1] != 0 || counts[2] != 0 {
            return Err(Unanswerable::Malformed);
        }
        if counts[3] > 1 {
            return Err(Unanswerable::Malformed);
        }
        let packet = Packet::parse(message).map_err(|_| Unanswerable::Malformed)?;
        let [question] = &packet.questions[..] else { return Err(Unanswerable::Malformed) };
        if packet.has_flags(PacketFlag::RESPONSE) {
            return Err(Unanswerable::Malformed);
        }
        let plain = question.qclass == QCLASS::CLASS(CLASS::IN) && !question.unicast_response;
        if packet.opcode() != OPCODE::StandardQuery || !plain {
            return Err(Unanswerable::Unsupported);
        }
        let written = host_name(&question.qname).ok_or(Unanswerable::Unsupported)?;
        Ok(Self {
            name: written.to_ascii_lowercase(),
            written,
            wants_addresses: question.qtype == QTYPE::TYPE(TYPE::A),
            id: packet.id(),
            question: question.clone().into_owned(),
        })
    }

    /// The question as a name server is asked, under another identification.
    pub fn forwarded(&self, id: u16) -> Option<Vec<u8>> {
        let mut packet = Packet::new_query(id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        let name = Name::new(&self.written).ok()?;
        let (qtype, qclass) = (QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN));
        packet.questions.push(Question::new(name, qtype, qclass, false));
        packet.build_bytes_vec().ok()
    }

    /// An answer without records.
    pub fn answer(&self, code: Code) -> Option<Vec<u8>> {
        let mut packet = Packet::new_reply(self.id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED | PacketFlag::RECURSION_AVAILABLE);
        *packet.rcode_mut() = match code {
            Code::Empty => RCODE::NoError,
            Code::Refused => RCODE::Refused,
            Code::Failed => RCODE::ServerFailure,
        };
        packet.questions.push(self.question.clone());
        packet.build_bytes_vec().ok()
    }

    /// Reads what a name server answered to [`Asked::forwarded`] with this `id`, and turns it into the
    /// answer to the question; `None` if it answers something else.
    pub fn take_answer(&self, id: u16, message: &mut [u8]) -> Option<Found> {
        if message.len() > MESSAGE_MAX || counts(message)?.iter().any(|&n| n > RECORDS_MAX) {
            return None;
        }
        let packet = Packet::parse(message).ok()?;
        let [question] = &packet.questions[..] else { return None };
        let same_name = host_name(&question.qname)?.eq_ignore_ascii_case(&self.name);
        let answers = packet.has_flags(PacketFlag::RESPONSE)
            && packet.id() == id
            && question.qtype == QTYPE::TYPE(TYPE::A)
            && question.qclass == QCLASS::CLASS(CLASS::IN);
        if !answers || !same_name {
            return None;
        }
        let addresses = addresses(&packet, &self.name);
        message[..2].copy_from_slice(&self.id.to_be_bytes());
        Some(Found { addresses })
    }
}

/// What an answer without records says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// There is nothing of the kind.
    Empty,
    /// It may not be asked.
    Refused,
    /// No name server has answered.
    Failed,
}

/// Numbers of questions, answers, authorities and additional records.
fn counts(message: &[u8]) -> Option<[u16; 4]> {
    let header = message.get(..HEADER)?;
    Some([4, 6, 8, 10].map(|at| u16::from_be_bytes([header[at], header[at + 1]])))
}

/// The name if it is a host's: labels of letters, digits, hyphens and underscores. Any other byte, a
/// dot inside a label too, could make one name look like another.
fn host_name(name: &Name<'_>) -> Option<String> {
    let mut text = String::new();
    for label in name.as_bytes() {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if label.is_empty() || !label.iter().all(plain) {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|&byte| char::from(byte)));
    }
    (!text.is_empty() && text.len() <= NAME_MAX).then_some(text)
}

/// The addresses of `name`, and of what it is an alias for.
fn addresses(packet: &Packet<'_>, name: &str) -> Vec<(Ipv4Addr, u32)> {
    let lower = |name: &Name<'_>| host_name(name).map(|name| name.to_ascii_lowercase());
    let mut meant = HashSet::from([name.to_owned()]);
    for _ in 0..ALIASES_MAX {
        let aliases = packet.answers.iter().filter_map(|record| match &record.rdata {
            RData::CNAME(alias) if meant.contains(&lower(&record.name)?) => lower(&alias.0),
            _ => None,
        });
        let aliases: Vec<String> = aliases.collect();
        let before = meant.len();
        meant.extend(aliases);
        if meant.len() == before {
            break;
        }
    }
    let found = packet.answers.iter().filter_map(|record| match &record.rdata {
        RData::A(a) if record.class == CLASS::IN && meant.contains(&lower(&record.name)?) => {
            Some((Ipv4Addr::from(a.address), record.ttl))
        }
        _ => None,
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, CNAME};

    fn question(name: &str, qtype: TYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(77);
        let (qtype, qclass) = (QTYPE::TYPE(qtype), QCLASS::CLASS(CLASS::IN));
        packet.questions.push(Question::new(Name::new_unchecked(name), qtype, qclass, false));
        packet.build_bytes_vec().unwrap()
    }

    fn record(name: &'static str, rdata: RData<'static>) -> ResourceRecord<'static> {
        ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, 300, rdata)
    }

    fn address(last: u8) -> RData<'static> {
        RData::A(A { address: Ipv4Addr::new(192, 0, 2, last).into() })
    }

    fn reply(forwarded: &[u8], records: Vec<ResourceRecord<'static>>) -> Vec<u8> {
        let mut packet = Packet::parse(forwarded).unwrap().into_reply();
        packet.answers = records;
        packet.build_bytes_vec_compressed().unwrap()
    }

    #[test]
    fn questions_are_read() {
        let asked = Asked::parse(&question("WWW.Example.com", TYPE::A)).unwrap();
        assert_eq!((asked.name.as_str(), asked.wants_addresses), ("www.example.com", true));
        assert!(!Asked::parse(&question("example.com", TYPE::AAAA)).unwrap().wants_addresses);
        let refused = asked.answer(Code::Refused).unwrap();
        let refused = Packet::parse(&refused).unwrap();
        assert_eq!((refused.id(), refused.rcode()), (77, RCODE::Refused));
        assert_eq!(refused.questions[0].qname, Name::new_unchecked("WWW.Example.com"));
    }

    #[test]
    fn a_dot_inside_a_label_is_no_dot() {
        let mut message = question("aXexample.com", TYPE::A);
        let at = message.iter().position(|&byte| byte == b'X').unwrap();
        message[at] = b'.';
        assert_eq!(Asked::parse(&message).unwrap_err(), Unanswerable::Unsupported);
        message[at] = 0;
        assert_eq!(Asked::parse(&message).unwrap_err(), Unanswerable::Unsupported);
    }

    #[test]
    fn aliases_are_followed_and_strangers_ignored() {
        let asked = Asked::parse(&question("www.example.com", TYPE::A)).unwrap();
        let forwarded = asked.forwarded(5).unwrap();
        let alias = |name| RData::CNAME(CNAME(Name::new_unchecked(name)));
        let mut message = reply(
            &forwarded,
            vec![
                record("b.example.net", address(1)),
                record("a.example.net", alias("B.example.net")),
                record("www.example.com", alias("a.example.net")),
                record("bank.example", address(66)),
            ],
        );
        let found = asked.take_answer(5, &mut message).unwrap();
        assert_eq!(found.addresses, [(Ipv4Addr::new(192, 0, 2, 1), 300)]);
        assert_eq!(Packet::parse(&message).unwrap().id(), 77, "the guest's own identification");
    }

    #[test]
    fn answers_to_something_else_are_none() {
        let asked = Asked::parse(&question("www.example.com", TYPE::A)).unwrap();
        let other = Asked::parse(&question("www.example.org", TYPE::A)).unwrap();
        let records = || vec![record("www.example.com", address(1))];
        let mut good = reply(&asked.forwarded(5).unwrap(), records());
        assert!(asked.take_answer(6, &mut good.clone()).is_none(), "another identification");
        assert!(other.take_answer(5, &mut good.clone()).is_none(), "another name");
        let mut asking = asked.forwarded(5).unwrap();
        assert!(asked.take_answer(5, &mut asking).is_none(), "a question");
        assert!(asked.take_answer(5, &mut good).is_some());
        let mut many = reply(&asked.forwarded(5).unwrap(), records());
        many[6..8].copy_from_slice(&[0xff, 0xff]);
        assert!(asked.take_answer(5, &mut many).is_none(), "more records than there can be");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            mut bytes in prop::collection::vec(any::<u8>(), 0..600),
            real in any::<bool>(),
            damage in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..8),
        ) {
            let asked = Asked::parse(&question("www.example.com", TYPE::A)).unwrap();
            if real {
                let alias = RData::CNAME(CNAME(Name::new_unchecked("a.example.net")));
                let records =
                    vec![record("www.example.com", alias), record("a.example.net", address(1))];
                bytes = reply(&asked.forwarded(5).unwrap(), records);
            }
            for (index, value) in damage {
                if !bytes.is_empty() {
                    let at = index.index(bytes.len());
                    bytes[at] = value;
                }
            }
            if let Ok(other) = Asked::parse(&bytes) {
                prop_assert!(other.forwarded(1).is_some_and(|message| message.len() <= MESSAGE_MAX));
                prop_assert!(other.answer(Code::Empty).is_some());
            }
            if let Some(found) = asked.take_answer(5, &mut bytes) {
                prop_assert!(found.addresses.len() <= usize::from(RECORDS_MAX));
            }
        }
    }
}
