//! A bounded queue of packets for a guest that is held: what does not fit is dropped and counted.

use std::collections::VecDeque;

/// How much a [`Queue`] keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most packets.
    pub packets: usize,
    /// Most bytes of all packets together.
    pub bytes: usize,
}

impl Default for Limits {
    /// 256 packets and 256 KiB.
    fn default() -> Self {
        Self { packets: 256, bytes: 256 * 1024 }
    }
}

/// Packets in the order of their arrival. It takes no memory until the first one is kept, and gives
/// its memory back when it is empty.
#[derive(Debug)]
pub struct Queue<T> {
    limits: Limits,
    packets: VecDeque<(T, usize)>,
    bytes: usize,
    dropped: u64,
}

impl<T> Queue<T> {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, packets: VecDeque::new(), bytes: 0, dropped: 0 }
    }

    /// Keeps a packet of `bytes` bytes if there is room, and says whether it did. As with a network card
    /// whose ring is full, it is the newcomer that is dropped.
    pub fn push(&mut self, packet: T, bytes: usize) -> bool {
        let fits = self.packets.len() < self.limits.packets
            && bytes <= self.limits.bytes.saturating_sub(self.bytes);
        if fits {
            self.packets.push_back((packet, bytes));
            self.bytes += bytes;
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
        fits
    }

    /// Takes the packet that has waited longest.
    pub fn pop(&mut self) -> Option<T> {
        let (packet, bytes) = self.packets.pop_front()?;
        self.bytes -= bytes;
        if self.packets.is_empty() {
            self.packets = VecDeque::new();
        }
        Some(packet)
    }

    /// The packet that has waited longest.
    #[must_use]
    pub fn peek(&self) -> Option<&T> {
        self.packets.front().map(|(packet, _)| packet)
    }

    /// The packets, the one that has waited longest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.packets.iter().map(|(packet, _)| packet)
    }

    /// Number of packets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether there is no packet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Bytes of all packets together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Packets that were dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let mut queue = Queue::new(Limits { packets: 2, bytes: 10 });
        assert!(queue.push('a', 6));
        assert!(!queue.push('b', 5), "too many bytes");
        assert!(queue.push('c', 4));
        assert!(!queue.push('d', 0), "too many packets");
        assert_eq!((queue.len(), queue.bytes(), queue.dropped()), (2, 10, 2));
        assert_eq!(queue.peek(), Some(&'a'));
        assert_eq!(queue.iter().collect::<String>(), "ac");
        assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some('a'), Some('c'), None]);
        assert_eq!((queue.bytes(), queue.dropped()), (0, 2));
    }
}
