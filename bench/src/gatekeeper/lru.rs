//! What most caches do: the guest that was wanted longest ago leaves, at once.

/// No guest.
const NONE: u32 = u32::MAX;

/// Guests in memory in the order in which they were wanted last.
#[derive(Debug)]
pub(super) struct Lru {
    /// The guests before and after each one; of those that are not in memory, nothing.
    links: Vec<Option<[u32; 2]>>,
    oldest: u32,
    newest: u32,
    inside: u32,
    room: u32,
}

impl Lru {
    /// Room for so many of so many guests.
    pub(super) fn new(guests: u32, room: u32) -> Self {
        Self { links: vec![None; guests as usize], oldest: NONE, newest: NONE, inside: 0, room }
    }

    /// A guest is wanted; whether it was in memory.
    pub(super) fn want(&mut self, guest: u32) -> bool {
        let was_inside = self.take(guest);
        if !was_inside && self.inside == self.room {
            self.take(self.oldest);
        }
        self.put(guest);
        was_inside
    }

    fn take(&mut self, guest: u32) -> bool {
        let Some([before, after]) = self.links[guest as usize].take() else { return false };
        self.link(before, after);
        self.inside -= 1;
        true
    }

    fn put(&mut self, guest: u32) {
        self.links[guest as usize] = Some([NONE, NONE]);
        self.link(self.newest, guest);
        self.link(guest, NONE);
        self.inside += 1;
    }

    /// `after` follows `before`.
    fn link(&mut self, before: u32, after: u32) {
        match self.links.get_mut(before as usize) {
            Some(links) => _ = links.as_mut().map(|links| links[1] = after),
            None => self.oldest = after,
        }
        match self.links.get_mut(after as usize) {
            Some(links) => _ = links.as_mut().map(|links| links[0] = before),
            None => self.newest = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_was_wanted_longest_ago_leaves() {
        let mut lru = Lru::new(10, 3);
        let found: Vec<bool> =
            [1, 2, 3, 1, 4, 2, 1, 4, 9, 4, 2].map(|guest| lru.want(guest)).into();
        let expected = [0, 0, 0, 1, 0, 0, 1, 1, 0, 1, 0].map(|it| it == 1);
        assert_eq!(found, expected);
    }

    #[test]
    fn where_there_is_room_for_all_none_leaves() {
        let mut lru = Lru::new(3, 3);
        assert_eq!(
            [0, 1, 2, 2, 1, 0].map(|guest| lru.want(guest)),
            [false, false, false, true, true, true]
        );
    }
}
