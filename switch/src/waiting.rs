//! Frames that wait for guests: little for each, bounded for all together, and not for long.

use crate::frame::Reason;
use crate::options;
use crate::wake::Identity;
use denali_interrupts::held::{Limits, Queue};

/// How long after the supervisor was told that a guest is wanted it is told again, when more comes, in ns.
const AGAIN_NS: u64 = 500_000_000;

/// Whether the supervisor is to be told that a guest is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It was told.
    No,
    /// It was not told yet.
    Now,
    /// It was told, but seems to have been unable to do something about it.
    Again,
}

/// A frame that waits, with its header.
#[derive(Debug)]
pub struct Held {
    /// Header and frame.
    pub message: Box<[u8]>,
    /// It is of a published port's connection, which wakes whatever its port.
    pub published: bool,
    /// Since when, in ns.
    pub since_ns: u64,
    /// What tells it from others, if it does not wait twice.
    pub identity: Option<Identity>,
}

/// What waits for one guest. A guest for which nothing does has none.
#[derive(Debug)]
pub struct Line {
    queue: Queue<Held>,
    /// When the supervisor was last told that the guest is wanted, in ns.
    pub wanted_ns: Option<u64>,
}

impl Line {
    /// The frames, the one that has waited longest first.
    pub fn iter(&self) -> impl Iterator<Item = &Held> {
        self.queue.iter()
    }

    /// Something has come that wants the guest.
    pub fn want(&mut self, now_ns: u64) -> Wanted {
        let wanted = match self.wanted_ns {
            None => Wanted::Now,
            Some(told) if told.saturating_add(AGAIN_NS) <= now_ns => Wanted::Again,
            Some(_) => return Wanted::No,
        };
        self.wanted_ns = Some(now_ns);
        wanted
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.queue.len()
    }
}

/// All that waits.
#[derive(Debug)]
pub struct Waiting {
    limits: options::Waiting,
    /// Most bytes of a message.
    message_max: usize,
    frames: usize,
    bytes: usize,
}

impl Waiting {
    /// Nothing.
    pub fn new(limits: options::Waiting, message_max: usize) -> Self {
        Self { limits, message_max, frames: 0, bytes: 0 }
    }

    /// Frames, and their bytes.
    pub fn amount(&self) -> (usize, usize) {
        (self.frames, self.bytes)
    }

    /// How long a frame may wait, in ns.
    pub fn age_ns(&self) -> u64 {
        self.limits.age_ms.saturating_mul(1_000_000)
    }

    /// Whether there is room for the largest message in a line.
    pub fn has_room(&self, line: Option<&Line>) -> bool {
        let (frames, bytes) = line.map_or((0, 0), |line| (line.len(), line.queue.bytes()));
        frames < self.limits.packets
            && bytes + self.message_max <= self.limits.bytes
            && self.bytes + self.message_max <= self.limits.total_bytes
    }

    /// Puts a frame at the end of a line, unless there is no room or it is there already.
    pub fn put(&mut self, line: &mut Option<Box<Line>>, held: Held) -> Result<(), Reason> {
        let bytes = held.message.len();
        if held.identity.is_some()
            && line.iter().any(|line| line.iter().any(|other| other.identity == held.identity))
        {
            return Err(Reason::Repeated);
        }
        if bytes > self.limits.total_bytes - self.bytes {
            return Err(Reason::Crowded);
        }
        let limits = Limits { packets: self.limits.packets, bytes: self.limits.bytes };
        let there = line.is_some();
        let own = line
            .get_or_insert_with(|| Box::new(Line { queue: Queue::new(limits), wanted_ns: None }));
        if !own.queue.push(held, bytes) {
            if !there {
                *line = None;
            }
            return Err(Reason::Full);
        }
        self.frames += 1;
        self.bytes += bytes;
        Ok(())
    }

    /// Takes the frame that has waited longest. The line is gone with its last frame.
    pub fn take(&mut self, line: &mut Option<Box<Line>>) -> Option<Held> {
        let own = line.as_deref_mut()?;
        let held = own.queue.pop();
        if own.queue.is_empty() {
            *line = None;
        }
        let held = held?;
        self.frames -= 1;
        self.bytes -= held.message.len();
        Some(held)
    }

    /// Takes the frame that has waited longest, if that is too long.
    pub fn take_aged(&mut self, line: &mut Option<Box<Line>>, now_ns: u64) -> Option<Held> {
        let since = line.as_ref()?.queue.peek()?.since_ns;
        if since.saturating_add(self.age_ns()) > now_ns {
            return None;
        }
        self.take(line)
    }

    /// When the first frame of a line will have waited for too long.
    pub fn ages_at(&self, line: &Line) -> u64 {
        line.queue.peek().map_or(u64::MAX, |held| held.since_ns.saturating_add(self.age_ns()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::parse_packet;
    use crate::frame::tests::{packet, segment};
    use crate::wake::identity;
    use proptest::prelude::*;

    fn limits() -> options::Waiting {
        options::Waiting { packets: 3, bytes: 100, total_bytes: 150, age_ms: 1000 }
    }

    fn held(bytes: usize, since_ns: u64) -> Held {
        Held { message: vec![0; bytes].into(), published: false, since_ns, identity: None }
    }

    #[test]
    fn lines_are_bounded_one_by_one_and_together() {
        let mut waiting = Waiting::new(limits(), 50);
        let [mut a, mut b] = [None, None];
        for _ in 0..3 {
            assert_eq!(waiting.put(&mut a, held(30, 0)), Ok(()));
        }
        assert!(!waiting.has_room(a.as_deref()) && waiting.has_room(None));
        assert_eq!(waiting.put(&mut a, held(1, 0)), Err(Reason::Full));
        assert_eq!(waiting.put(&mut b, held(101, 0)), Err(Reason::Crowded));
        assert_eq!(waiting.put(&mut b, held(60, 0)), Ok(()));
        assert_eq!(waiting.put(&mut b, held(1, 0)), Err(Reason::Crowded));
        assert_eq!(waiting.amount(), (4, 150));
        while waiting.take(&mut a).is_some() {}
        assert!(a.is_none(), "an empty line takes no memory");
        assert_eq!(waiting.put(&mut a, held(101, 0)), Err(Reason::Crowded));
        assert_eq!(waiting.amount(), (1, 60));
    }

    #[test]
    fn what_is_too_large_for_a_line_makes_none() {
        let mut waiting = Waiting::new(limits(), 50);
        let mut line = None;
        assert_eq!(waiting.put(&mut line, held(101, 0)), Err(Reason::Full));
        assert!(line.is_none());
        assert_eq!(waiting.amount(), (0, 0));
    }

    #[test]
    fn a_repeated_segment_waits_once() {
        let mut waiting = Waiting::new(limits(), 50);
        let mut line = None;
        let bytes = packet(6, [1, 2, 3, 4], [5, 6, 7, 8], &segment([1, 2], 3, 2, b""));
        let identity = identity(&parse_packet(&bytes).unwrap());
        let again = || Held { identity, ..held(40, 0) };
        assert_eq!(waiting.put(&mut line, again()), Ok(()));
        assert_eq!(waiting.put(&mut line, again()), Err(Reason::Repeated));
        assert_eq!(waiting.put(&mut line, held(40, 0)), Ok(()));
        assert_eq!(waiting.amount(), (2, 80));
    }

    #[test]
    fn what_waits_too_long_is_taken_away() {
        let mut waiting = Waiting::new(limits(), 50);
        let mut line = None;
        waiting.put(&mut line, held(10, 0)).unwrap();
        waiting.put(&mut line, held(10, 500_000_000)).unwrap();
        assert!(waiting.take_aged(&mut line, 999_999_999).is_none());
        assert!(waiting.take_aged(&mut line, 1_000_000_000).is_some());
        assert!(waiting.take_aged(&mut line, 1_000_000_000).is_none());
        assert_eq!(waiting.ages_at(line.as_ref().unwrap()), 1_500_000_000);
    }

    proptest! {
        #[test]
        fn the_amount_is_that_of_all_lines(
            steps in prop::collection::vec((0_usize..4, any::<bool>(), 1_usize..120), 1..300),
        ) {
            let mut waiting = Waiting::new(limits(), 50);
            let mut lines: [Option<Box<Line>>; 4] = Default::default();
            for (at, puts, bytes) in steps {
                if puts {
                    let _ = waiting.put(&mut lines[at], held(bytes, 0));
                } else {
                    waiting.take(&mut lines[at]);
                }
                let there = lines.iter().flatten();
                prop_assert!(there.clone().all(|line| (1..=3).contains(&line.len())));
                let frames = there.clone().map(|line| line.len()).sum::<usize>();
                let bytes = there.map(|line| line.queue.bytes()).sum::<usize>();
                prop_assert_eq!(waiting.amount(), (frames, bytes));
                prop_assert!(bytes <= 150);
            }
        }
    }
}
