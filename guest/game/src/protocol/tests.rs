//! Datagrams are read as they were written, and nothing else is.

use super::*;
use proptest::prelude::*;

fn command() -> impl Strategy<Value = Command> {
    any::<(i8, i8, u8, bool)>().prop_map(|(east, south, facing, fire)| Command {
        east,
        south,
        facing,
        fire,
    })
}

fn request() -> impl Strategy<Value = Request> {
    let commands = prop::collection::vec(command(), 1..=COMMANDS_MAX);
    prop_oneof![
        any::<u64>().prop_map(|nonce| Request::Hello { nonce }),
        any::<(u64, u64)>().prop_map(|(nonce, cookie)| Request::Join { nonce, cookie }),
        any::<u64>().prop_map(|token| Request::Leave { token }),
        any::<u64>().prop_map(|nonce| Request::Status { nonce }),
        (any::<u64>(), prop::option::of(0..u32::MAX), 8_u32.., commands).prop_map(
            |(token, has, sequence, commands)| {
                Request::Input(Input { token, has, sequence, commands })
            }
        ),
    ]
}

proptest! {
    #[test]
    fn requests_are_read_as_written(request in request()) {
        let mut datagram = Vec::new();
        request.encode(&mut datagram);
        prop_assert_eq!(Request::decode(&datagram), Some(request));
        prop_assert_eq!(Answer::decode(&datagram), None);
        datagram.push(0);
        prop_assert_eq!(Request::decode(&datagram), None, "nothing may follow");
    }

    #[test]
    fn snapshots_are_read_as_written(
        numbers: (u32, u32, u32, u32), back: u8, parts in 1..=PARTS_MAX, part: u8,
        entries in prop::collection::vec(any::<u8>(), 0..=DATAGRAM_MAX - SNAPSHOT_HEADER),
    ) {
        let (nonce, tick, sequence, digest) = numbers;
        let (tick, part) = (tick.max(u32::from(back)), part % parts);
        let entries = &entries[..];
        let part = SnapshotPart { nonce, tick, back, part, parts, sequence, digest, entries };
        let mut datagram = Vec::new();
        Answer::Snapshot(part).encode(&mut datagram);
        prop_assert_eq!(datagram.len(), SNAPSHOT_HEADER + entries.len());
        prop_assert_eq!(Answer::decode(&datagram), Some(Answer::Snapshot(part)));
    }

    #[test]
    fn other_answers_are_read_as_written(nonce: u64, cookie: u64, client: u8, tick_hz: u8) {
        let welcome = Welcome { token: cookie, client, tick_hz };
        let answers = [
            Answer::Challenge { nonce, cookie },
            Answer::Welcome { nonce, welcome },
            Answer::Refused { nonce, why: Refusal::Full },
            Answer::Refused { nonce, why: Refusal::BadCookie },
            Answer::Closed { nonce, why: Closing::Silent },
            Answer::Closed { nonce, why: Closing::Stopping },
        ];
        for answer in answers {
            let mut datagram = Vec::new();
            answer.encode(&mut datagram);
            prop_assert!(datagram.len() <= HANDSHAKE_SIZE, "no more than was asked with");
            prop_assert_eq!(Answer::decode(&datagram), Some(answer));
            datagram.push(0);
            prop_assert_eq!(Answer::decode(&datagram), None, "nothing may follow");
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(kind: u8, rest: Vec<u8>) {
        let mut datagram = START.to_vec();
        datagram.push(kind);
        datagram.extend(rest);
        let mut again = Vec::new();
        if let Some(request) = Request::decode(&datagram) {
            request.encode(&mut again);
            prop_assert_eq!(&again, &datagram);
        }
        if let Some(answer) = Answer::decode(&datagram) {
            answer.encode(&mut again);
            prop_assert!(again.len() <= DATAGRAM_MAX);
        }
    }
}

#[test]
fn what_is_not_of_this_game_is_refused() {
    let mut hello = Vec::new();
    Request::Hello { nonce: 1 }.encode(&mut hello);
    for (position, wrong) in [(0, b'E'), (1, b'F'), (2, VERSION + 1), (3, 0), (40, 1)] {
        let mut datagram = hello.clone();
        datagram[position] = wrong;
        assert_eq!(Request::decode(&datagram), None, "byte {position}");
    }
    assert_eq!(Request::decode(&hello[..63]), None, "it could be answered with more than came");
    assert_eq!(Request::decode(&[]), None);
    assert_eq!(Answer::decode(&[0; 2000]), None);
}

#[test]
fn commands_have_numbers_and_there_are_not_too_many() {
    let input = |count: usize, sequence| {
        let commands = alloc::vec![Command::default(); count];
        let mut datagram = Vec::new();
        let input = Input { token: 1, has: None, sequence, commands };
        Request::Input(input).encode(&mut datagram);
        Request::decode(&datagram)
    };
    assert!(input(3, 3).is_some() && input(8, 8).is_some());
    assert!(input(3, 2).is_none() && input(9, 9).is_none() && input(0, 0).is_none());
}
