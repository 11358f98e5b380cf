//! What names were found to mean, for as long as it holds.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Most pairs of an address and a name that are kept.
const PAIRS_MAX: usize = 4096;

/// Least and most time that a meaning is kept, in ns: a guest may take a moment to connect, and a
/// name server may say anything.
const KEPT: (u64, u64) = (60 * SECOND, 86_400 * SECOND);

const SECOND: u64 = 1_000_000_000;

/// Addresses, the names that mean them, and until when.
#[derive(Debug, Default)]
pub struct Names(BTreeMap<(Ipv4Addr, String), u64>);

impl Names {
    /// Notes that `name` means `address` for `ttl` seconds. When there are too many, what would be
    /// forgotten first is forgotten at once.
    pub fn learn(&mut self, name: &str, address: Ipv4Addr, ttl: u32, now_ns: u64) {
        let key = (address, name.to_owned());
        if self.0.len() >= PAIRS_MAX && !self.0.contains_key(&key) {
            self.make_room(now_ns);
        }
        let until = now_ns + (u64::from(ttl) * SECOND).clamp(KEPT.0, KEPT.1);
        let kept = self.0.entry(key).or_insert(until);
        *kept = until.max(*kept);
    }

    /// The names that mean `address` now.
    pub fn of(&self, address: Ipv4Addr, now_ns: u64) -> impl Iterator<Item = &str> {
        let from = self.0.range((address, String::new())..);
        from.take_while(move |((found, _), _)| *found == address)
            .filter(move |(_, until)| **until > now_ns)
            .map(|((_, name), _)| name.as_str())
    }

    fn make_room(&mut self, now_ns: u64) {
        self.0.retain(|_, until| *until > now_ns);
        if self.0.len() >= PAIRS_MAX {
            let first = self.0.iter().min_by_key(|(_, until)| **until);
            if let Some(key) = first.map(|(key, _)| key.clone()) {
                self.0.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    #[test]
    fn meanings_hold_for_their_time() {
        let mut names = Names::default();
        names.learn("a.example", ADDRESS, 100, 0);
        names.learn("b.example", ADDRESS, 0, 0);
        names.learn("c.example", Ipv4Addr::new(192, 0, 2, 2), 100, 0);
        let at = |second: u64| names.of(ADDRESS, second * SECOND).collect::<Vec<_>>();
        assert_eq!(at(59), ["a.example", "b.example"]);
        assert_eq!(at(60), ["a.example"], "a minute at least");
        assert!(at(100).is_empty());
    }

    #[test]
    fn a_later_answer_does_not_shorten_an_earlier_one() {
        let mut names = Names::default();
        names.learn("a.example", ADDRESS, 1000, 0);
        names.learn("a.example", ADDRESS, 1, 0);
        assert_eq!(names.of(ADDRESS, 999 * SECOND).count(), 1);
        names.learn("a.example", ADDRESS, u32::MAX, 0);
        assert_eq!(names.of(ADDRESS, 86_400 * SECOND).count(), 0, "a day at most");
    }

    #[test]
    fn there_are_never_too_many() {
        let mut names = Names::default();
        names.learn("first.example", ADDRESS, 61, 0);
        for n in 0..4_500 {
            names.learn(&format!("{n}.example"), ADDRESS, 100, 0);
            assert!(names.0.len() <= PAIRS_MAX);
        }
        assert!(names.of(ADDRESS, 0).all(|name| name != "first.example"), "it would end first");
        names.learn("new.example", ADDRESS, 100, 200 * SECOND);
        assert_eq!(names.0.len(), 1, "what does not hold any more is forgotten first");
    }
}
