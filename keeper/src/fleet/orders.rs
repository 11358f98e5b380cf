//! What is asked for: answered at once, or done by and by, so that nobody waits for long requests of others.

use super::acts::Acting;
use super::create::Creating;
use crate::keeper::Keeper;
use crate::order::{Order, Stream};
use denali_abi::status::BAD_CONFIG;
use denali_client::{Outcome, Problem, fits};

/// How much of a long request is done before others are heard: guests.
const AT_A_TIME: usize = 8;

/// A request that is being done.
pub(crate) enum Work {
    Create(Box<Creating>),
    Act(Box<Acting>),
}

impl Keeper<'_> {
    /// Takes what was asked for.
    pub(crate) fn take_orders(&mut self) {
        if let Some(fleet) = &self.fleet {
            fleet.orders.hush();
        }
        while let Some(order) = self.fleet.as_ref().and_then(|fleet| fleet.orders.take()) {
            match order {
                Order::Create(create, stream) => self.begin_creating(create, stream),
                Order::Act(act, stream) => self.begin_acting(&act, stream),
                Order::List(patterns, reply) => reply(self.list(&patterns)),
                Order::Inspect(name, reply) => reply(self.inspect(&name)),
                Order::Host(reply) => reply(Box::new(self.host_view())),
                Order::Listen(stream) => self.teller.add(stream),
                Order::Drain => self.stop(),
            }
        }
    }

    /// Does a part of what is to be done.
    pub(crate) fn work(&mut self) {
        for _ in 0..AT_A_TIME {
            let Some(fleet) = &mut self.fleet else { return };
            let Some(work) = fleet.work.pop_front() else { return };
            let left = match work {
                Work::Create(creating) => self.create_next(creating).map(Work::Create),
                Work::Act(acting) => self.act_next(acting).map(Work::Act),
            };
            if let (Some(left), Some(fleet)) = (left, &mut self.fleet) {
                fleet.work.push_back(left);
            }
        }
    }

    /// The numbers of guests whose names fit, by name; all if there are no patterns.
    pub(crate) fn fitting(&self, patterns: &[String]) -> Vec<u32> {
        let Some(fleet) = &self.fleet else { return Vec::new() };
        // Names without a wildcard are looked up.
        let exact = |pattern: &String| !pattern.contains(['*', '?']);
        let mut found: Vec<u32> = if !patterns.is_empty() && patterns.iter().all(exact) {
            patterns.iter().filter_map(|name| fleet.names.get(&**name).copied()).collect()
        } else {
            let fit = |name: &str| {
                patterns.is_empty() || patterns.iter().any(|pattern| fits(pattern, name))
            };
            fleet.names.iter().filter(|(name, _)| fit(name)).map(|(_, number)| *number).collect()
        };
        found.sort_unstable_by(|one, other| {
            let name = |number: u32| natural(&self.guests[number as usize].name);
            name(*one).cmp(&name(*other))
        });
        found.dedup();
        found
    }

    /// Patterns that no guest fits.
    pub(crate) fn unfitting<'a>(&self, patterns: &'a [String]) -> Vec<&'a String> {
        let Some(fleet) = &self.fleet else { return Vec::new() };
        let fits_some = |pattern: &&String| match pattern.contains(['*', '?']) {
            false => fleet.names.contains_key(&***pattern),
            true => fleet.names.keys().any(|name| fits(pattern, name)),
        };
        patterns.iter().filter(|pattern| !fits_some(pattern)).collect()
    }
}

/// A name for order: `web-2` comes before `web-10`.
fn natural(name: &str) -> (&str, u64, &str) {
    let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (stem, number) = name.split_at(name.len() - digits);
    (stem, number.parse().unwrap_or(u64::MAX), number)
}

/// Tells what became of a request for a guest.
pub(crate) fn tell(stream: &mut Stream<Outcome>, name: &str, error: Option<Problem>) {
    // Whoever does not want to hear more has it done all the same.
    let _ = stream(Outcome { name: name.into(), error });
}

/// A problem with the request itself.
pub(crate) fn wrong(message: impl Into<String>) -> Problem {
    Problem { status: BAD_CONFIG, message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::natural;

    #[test]
    fn names_that_count_are_in_the_order_of_their_numbers() {
        let mut names = ["web-10", "web-2", "api", "web-1", "web", "web-02"];
        names.sort_by(|one, other| natural(one).cmp(&natural(other)));
        assert_eq!(names, ["api", "web", "web-1", "web-02", "web-2", "web-10"]);
    }
}
