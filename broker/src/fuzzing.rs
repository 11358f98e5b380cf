//! For fuzzing: questions and answers about names, without a broker.

use crate::server::dns::{Asked, Code};

/// Identification of questions that are passed on.
const ID: u16 = 7;

/// Reads a question and, if it may be asked, an answer to it, both as they came.
///
/// # Panics
/// When what is made of them cannot be.
pub fn ask(question: &[u8], answer: &[u8]) {
    let Ok(asked) = Asked::parse(question) else { return };
    let name =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    assert!(!asked.name.is_empty() && asked.name.len() <= 253 && asked.name.bytes().all(name));
    let forwarded = asked.forwarded(ID).expect("a question that was read can be asked");
    let again = Asked::parse(&forwarded).expect("and be read");
    assert_eq!(again.name, asked.name);
    assert!(again.wants_addresses);
    for code in [Code::Empty, Code::Refused, Code::Failed] {
        let answer = asked.answer(code).expect("a question that was read can be answered");
        assert_eq!(answer[..2], question[..2], "under its own identification");
    }
    let mut message = answer.to_vec();
    if let Some(found) = asked.take_answer(ID, &mut message) {
        assert!(found.addresses.len() <= 64);
        assert_eq!(message[..2], question[..2]);
        assert_eq!(message[2..], answer[2..]);
    }
}
