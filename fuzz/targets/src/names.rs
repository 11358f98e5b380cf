//! What the broker hears: requests of monitors and, in both directions, messages about names.

use crate::input::Input;
use crate::memory::bounded;
use denali_broker::fuzzing::ask;
use denali_broker::message::{MESSAGE_MAX, Reply, Request};

/// Bytes that reading messages of `length` bytes may take.
fn reading(length: usize) -> usize {
    256 * length + (64 << 10)
}

/// The input: how long a question about a name is, the question, and the answer to it. The same bytes are read as
/// messages of a channel.
pub fn broker(bytes: &[u8]) {
    let most = reading(bytes.len());
    let mut input = Input(bytes);
    let length = usize::from(input.byte());
    let question = input.bytes(length);
    bounded(most, || ask(question, input.0));
    message(bytes);
}

/// What is read is what is written.
fn message(bytes: &[u8]) {
    if bytes.len() > MESSAGE_MAX {
        return;
    }
    let mut buffer = [0; MESSAGE_MAX];
    if let Some((id, request)) = Request::decode(bytes) {
        let length = request.encode(id, &mut buffer);
        assert_eq!(Request::decode(&buffer[..length]), Some((id, request)));
    }
    if let Some((id, reply)) = Reply::decode(bytes) {
        let length = reply.encode(id, &mut buffer);
        assert_eq!(Reply::decode(&buffer[..length]), Some((id, reply)));
    }
}

/// A question with an answer and with none, and a message of each kind.
#[must_use]
pub fn broker_seeds() -> Vec<Vec<u8>> {
    let header =
        |id: u8, flags: u8, answers: u8| vec![0, id, flags, 0, 0, 1, 0, answers, 0, 0, 0, 0];
    let name = b"\x03www\x07Example\x03org\0\0\x01\0\x01";
    let question = [&header(9, 1, 0)[..], name].concat();
    let alias = b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01a\xc0\x10";
    let address = b"\xc0\x2d\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01";
    let answer = [&header(7, 0x81, 2)[..], name, alias, address].concat();
    let asked = |answer: &[u8]| [&[question.len() as u8][..], &question, answer].concat();
    let mut seeds = vec![asked(&answer), asked(b"")];
    for kind in 1..=6 {
        let mut message =
            vec![kind, if kind == 1 { 6 } else { 1 }, 0, 80, 5, 0, 0, 0, 192, 0, 2, 1];
        message.extend([0; 4]);
        message.extend(&question[..if matches!(kind, 2 | 6) { 20 } else { 0 }]);
        seeds.push(message);
    }
    seeds
}
