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

/// Both rings in a page of memory, and how far they go.
struct Queue {
    memory: Memory,
    made: u16,
    returned: u16,
}

impl Queue {
    fn new() -> Self {
        let memory = Memory::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        Self { memory, made: 0, returned: 0 }
    }

    fn make(&mut self, head: u16) {
        let at = 0x104 + 2 * u64::from(self.made % SIZE);
        self.memory.write_obj(head, GuestAddress(at)).unwrap();
        self.made += 1;
        self.memory.write_obj(self.made, GuestAddress(0x102)).unwrap();
    }

    fn give_back(&mut self, head: u16) {
        let at = 0x204 + 8 * u64::from(self.returned % SIZE);
        self.memory.write_obj(u32::from(head), GuestAddress(at)).unwrap();
        self.returned += 1;
        self.memory.write_obj(self.returned, GuestAddress(0x202)).unwrap();
    }
}

#[test]
fn a_busy_queue_is_known_again_when_what_was_out_has_returned() {
    let (mut queue, mut track) = (Queue::new(), Track::new(RINGS));
    for round in 0..5 {
        queue.make(0);
        queue.make(1 + round % 2);
        queue.give_back(0);
        if round > 0 {
            queue.give_back(2 - round % 2);
        }
    }
    track.observe(&queue.memory).unwrap();
    assert_eq!(track.outstanding(), None);
    // It is never empty: one is always out.
    queue.make(3);
    queue.give_back(1);
    track.observe(&queue.memory).unwrap();
    assert_eq!(track.outstanding(), Some(vec![3]));
}

proptest! {
    #[test]
    fn what_is_out_is_known_or_known_to_be_unknown(steps in prop::collection::vec(step(), 0..300)) {
        let mut queue = Queue::new();
        let mut track = Track::new(RINGS);
        let (mut out, mut free): (Vec<u16>, Vec<u16>) = (Vec::new(), (0..SIZE).collect());
        let mut seen = (0_u16, 0_u16);
        let mut missed = false;
        for step in steps {
            match step {
                Step::Make => if let Some(head) = free.pop() {
                    queue.make(head);
                    out.push(head);
                },
                Step::Return(which) => if !out.is_empty() {
                    let head = out.remove(which % out.len());
                    queue.give_back(head);
                    free.insert(0, head);
                },
                Step::Look => {
                    missed |= queue.made - seen.0 > SIZE || queue.returned - seen.1 > SIZE;
                    seen = (queue.made, queue.returned);
                    track.observe(&queue.memory).unwrap();
                    match track.outstanding() {
                        Some(known) => prop_assert_eq!(&known, &out),
                        None => prop_assert!(missed && !out.is_empty(), "nothing was missed"),
                    }
                    missed &= track.outstanding().is_none();
                }
            }
        }
        track.observe(&queue.memory).unwrap();
        if let Some(count) = track.offer_again(&queue.memory).unwrap() {
            prop_assert_eq!(usize::from(count), out.len());
            for (step, &head) in out.iter().enumerate() {
                let index = queue.returned.wrapping_add(step as u16);
                prop_assert_eq!(RINGS.available_head(&queue.memory, index).unwrap(), head);
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
