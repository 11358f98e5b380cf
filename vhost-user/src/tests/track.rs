//! The record of requests that are out, against a model.

use super::driver::Memory;
use crate::ring::Rings;
use crate::track::Track;
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

const SIZE: u16 = 4;
const RINGS: Rings = Rings { size: SIZE, available: 0x100, used: 0x200 };

#[derive(Clone, Copy, Debug)]
enum Step {
    Make,
    Return(usize),
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Make),
        3 => any::<usize>().prop_map(Step::Return),
        2 => Just(Step::Look),
    ]
}

proptest! {
    #[test]
    fn what_is_out_is_known_or_known_to_be_unknown(steps in prop::collection::vec(step(), 0..300)) {
        let memory = Memory::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        let mut track = Track::new(RINGS);
        let (mut out, mut free): (Vec<u16>, Vec<u16>) = (Vec::new(), (0..SIZE).collect());
        let (mut made, mut returned) = (0_u16, 0_u16);
        let mut seen = (0_u16, 0_u16);
        let mut missed = false;
        for step in steps {
            match step {
                Step::Make => if let Some(head) = free.pop() {
                    let at = 0x104 + 2 * u64::from(made % SIZE);
                    memory.write_obj(head, GuestAddress(at)).unwrap();
                    made += 1;
                    memory.write_obj(made, GuestAddress(0x102)).unwrap();
                    out.push(head);
                },
                Step::Return(which) => if !out.is_empty() {
                    let head = out.remove(which % out.len());
                    let at = 0x204 + 8 * u64::from(returned % SIZE);
                    memory.write_obj(u32::from(head), GuestAddress(at)).unwrap();
                    returned += 1;
                    memory.write_obj(returned, GuestAddress(0x202)).unwrap();
                    free.insert(0, head);
                },
                Step::Look => {
                    missed |= made - seen.0 > SIZE || returned - seen.1 > SIZE;
                    seen = (made, returned);
                    track.observe(&memory).unwrap();
                    match track.outstanding() {
                        Some(known) => prop_assert_eq!(&known, &out),
                        None => prop_assert!(missed, "known although nothing was missed"),
                    }
                    missed &= !out.is_empty();
                }
            }
        }
        track.observe(&memory).unwrap();
        if let Some(count) = track.offer_again(&memory).unwrap() {
            prop_assert_eq!(usize::from(count), out.len());
            for (step, &head) in out.iter().enumerate() {
                let index = returned.wrapping_add(step as u16);
                prop_assert_eq!(RINGS.available_head(&memory, index).unwrap(), head);
            }
        }
    }

    #[test]
    fn any_rings_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 64), rounds in 1..4) {
        let memory = Memory::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        let mut track = Track::new(RINGS);
        for round in 0..rounds as usize {
            memory.write_slice(&bytes[round..round + 12], GuestAddress(0x100)).unwrap();
            memory.write_slice(&bytes[20 - round..60 - round], GuestAddress(0x200)).unwrap();
            let _ = track.observe(&memory);
            let _ = track.offer_again(&memory);
        }
    }
}
