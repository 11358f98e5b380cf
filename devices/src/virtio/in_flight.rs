//! An account of the chains that were taken from a queue and not yet returned.

use std::fmt::Debug;

/// Keeps account of a queue's chains outside this process, so that whoever takes the queue over after a
/// crash knows which chains the driver still waits for. Chains are named by their heads.
pub trait InFlight: Debug + Send {
    /// A chain was taken.
    fn taken(&mut self, head: u16);

    /// A chain was put back, and will be taken again.
    fn put_back(&mut self, head: u16);

    /// A chain is about to be entered in the used ring.
    fn returning(&mut self, head: u16);

    /// It is in the used ring, whose index is `used` since then.
    fn returned(&mut self, head: u16, used: u16);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{DriverQueue, Memory, Rings, memory};
    use crate::virtio::{Chain, DeviceQueue, Direction};
    use std::sync::{Arc, Mutex};
    use virtio_queue::{Queue, QueueT};
    use vm_memory::GuestAddress;

    /// Writes down what it is told.
    #[derive(Clone, Debug, Default)]
    struct Book(Arc<Mutex<Vec<String>>>);

    impl Book {
        fn note(&self, line: String) {
            self.0.lock().unwrap().push(line);
        }
    }

    impl InFlight for Book {
        fn taken(&mut self, head: u16) {
            self.note(format!("taken {head}"));
        }
        fn put_back(&mut self, head: u16) {
            self.note(format!("put back {head}"));
        }
        fn returning(&mut self, head: u16) {
            self.note(format!("returning {head}"));
        }
        fn returned(&mut self, head: u16, used: u16) {
            self.note(format!("returned {head}, {used}"));
        }
    }

    /// A queue of which heads 3, 5 and 6 are available.
    fn queue(memory: &Memory) -> DeviceQueue {
        let rings = Rings::standard(0, 8);
        let mut driver = DriverQueue::new(rings);
        for head in [3, 5, 6] {
            driver.descriptor(memory, head, (0x8000, 16, 0, 0));
            driver.offer(memory, head);
        }
        let mut queue = Queue::new(8).unwrap();
        queue.try_set_desc_table_address(GuestAddress(rings.descriptors)).unwrap();
        queue.try_set_avail_ring_address(GuestAddress(rings.available)).unwrap();
        queue.try_set_used_ring_address(GuestAddress(rings.used)).unwrap();
        queue.set_ready(true);
        DeviceQueue::from_queue(queue, 0)
    }

    fn take(queue: &mut DeviceQueue, memory: &Memory) -> Option<u16> {
        let mut chain = Chain::new();
        let taken = queue.take(memory, Direction::FromDriver, &mut chain).unwrap();
        taken.then(|| chain.head())
    }

    #[test]
    fn the_account_is_told_in_an_order_that_survives_a_crash() {
        let (memory, book) = (memory(), Book::default());
        let mut queue = queue(&memory);
        queue.keep_account(Box::new(book.clone()), Vec::new());
        assert_eq!(take(&mut queue, &memory), Some(3));
        assert_eq!(take(&mut queue, &memory), Some(5));
        queue.put_back();
        queue.give_back(&memory, 3, 0).unwrap();
        assert_eq!(queue.outstanding(), 0);
        assert_eq!(take(&mut queue, &memory), Some(5));
        let expected =
            ["taken 3", "taken 5", "put back 5", "returning 3", "returned 3, 1", "taken 5"];
        assert_eq!(*book.0.lock().unwrap(), expected);
    }

    #[test]
    fn all_that_was_not_returned_can_be_put_back() {
        let (memory, book) = (memory(), Book::default());
        let mut queue = queue(&memory);
        queue.keep_account(Box::new(book.clone()), vec![6]);
        for head in [6, 3, 5] {
            assert_eq!(take(&mut queue, &memory), Some(head));
        }
        queue.give_back(&memory, 6, 0).unwrap();
        queue.put_back();
        queue.put_back();
        assert_eq!(queue.outstanding(), 0);
        assert!(book.0.lock().unwrap().ends_with(&["put back 5".into(), "put back 3".into()]));
        assert_eq!(take(&mut queue, &memory), Some(3));
    }

    #[test]
    fn owed_chains_come_first_even_while_paused() {
        let memory = memory();
        let mut queue = queue(&memory);
        queue.keep_account(Box::new(Book::default()), vec![6, 5]);
        queue.pause(true);
        assert_eq!(queue.outstanding(), 2);
        assert_eq!(take(&mut queue, &memory), Some(6));
        queue.put_back();
        assert_eq!(take(&mut queue, &memory), Some(6));
        assert_eq!(take(&mut queue, &memory), Some(5));
        assert_eq!(take(&mut queue, &memory), None);
        assert_eq!((queue.outstanding(), queue.next_available()), (2, 0));
        queue.pause(false);
        assert_eq!(take(&mut queue, &memory), Some(3));
    }

    #[test]
    fn an_interrupt_is_asked_for_once_by_the_queue_s_keeper() {
        let memory = memory();
        let mut queue = queue(&memory);
        assert_eq!(take(&mut queue, &memory), Some(3));
        assert!(!queue.take_interrupt());
        queue.give_back(&memory, 3, 0).unwrap();
        assert!(queue.wants_interrupt(&memory).unwrap());
        assert!(queue.take_interrupt() && !queue.take_interrupt());
    }
}
