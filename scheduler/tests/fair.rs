//! Fairness between guests: properties for any course of events, and an exact simulation of a thousand
//! guests.

use denali_scheduler::FairQueue;
use proptest::collection::vec;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

const QUANTUM: u64 = 2_000_000;

/// What a guest with a turn does: it runs for part of the quantum, and then it idles or wants more.
#[derive(Clone, Copy, Debug)]
struct Turn {
    ran_ns: u64,
    idles: bool,
    /// Which guest, by number, has something to do meanwhile.
    wakes: usize,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = (0..=QUANTUM, any::<bool>(), 0..8_usize);
    vec(turn.prop_map(|(ran_ns, idles, wakes)| Turn { ran_ns, idles, wakes }), 1..400)
}

proptest! {
    /// Guest 0 always wants to run. Whatever the others do, none gets ahead of it by more than what it may
    /// have been behind at first, idle credit, and the turns that cannot be divided.
    #[test]
    fn nobody_starves_a_guest_that_wants_to_run(weights in vec(1..1_000_u32, 2..8), turns in turns()) {
        let mut queue = FairQueue::new(QUANTUM);
        weights.iter().enumerate().for_each(|(id, &weight)| _ = queue.insert(id, weight));
        queue.ready(0);
        let mut ran = vec![0_u64; weights.len()];
        for turn in turns {
            queue.ready(turn.wakes % weights.len());
            let id = queue.pick().expect("somebody is ready");
            // The one that is watched burns its quanta, which is what makes it go last.
            let ran_ns = if id == 0 { QUANTUM } else { turn.ran_ns };
            queue.charge(id, ran_ns);
            ran[id] += ran_ns;
            if turn.idles && id != 0 { queue.idle(id) } else { queue.ready(id) }

            let own = ran[0] as f64 / f64::from(weights[0]);
            let quantum = |weight: u32| QUANTUM as f64 / f64::from(weight);
            for (&ran, &weight) in ran.iter().zip(&weights) {
                let bound = quantum(100) + quantum(weight) + quantum(weights[0]);
                prop_assert!(ran as f64 / f64::from(weight) <= own + bound * 1.000_001);
            }
        }
    }

    /// Guests that all compute have shares that differ by less than one turn of each.
    #[test]
    fn shares_are_by_weight(weights in vec(1..10_000_u32, 1..20), lengths in vec(1..=QUANTUM, 1..400)) {
        let mut queue = FairQueue::new(QUANTUM);
        for (id, &weight) in weights.iter().enumerate() {
            queue.insert(id, weight);
            queue.ready(id);
        }
        let mut ran = vec![0_u64; weights.len()];
        for length in lengths {
            let id = queue.pick().unwrap();
            queue.charge(id, length);
            queue.ready(id);
            ran[id] += length;
        }
        let shares: Vec<_> = ran.iter().zip(&weights).map(|(&ran, &it)| ran as f64 / f64::from(it)).collect();
        for (one, weight) in shares.iter().zip(&weights) {
            for other in &shares {
                prop_assert!(one - other <= QUANTUM as f64 / f64::from(*weight) * 1.000_001);
            }
        }
    }

    /// A guest is picked if and only if one is ready, and it is one of those.
    #[test]
    fn exactly_those_that_are_ready_get_turns(steps in vec((0..5_usize, 0..6_u32), 0..200)) {
        let mut queue = FairQueue::new(QUANTUM);
        let mut ready = BTreeMap::new();
        for (step, id) in steps {
            match step {
                0 => {
                    prop_assert_eq!(queue.insert(id, id + 1), !ready.contains_key(&id));
                    ready.entry(id).or_insert(false);
                }
                1 => {
                    queue.ready(id);
                    ready.entry(id).and_modify(|it| *it = true);
                }
                2 => {
                    queue.idle(id);
                    ready.entry(id).and_modify(|it| *it = false);
                }
                3 => prop_assert_eq!(queue.remove(id), ready.remove(&id).is_some()),
                _ => {
                    let picked = queue.pick();
                    prop_assert_eq!(picked.is_some(), ready.values().any(|&it| it));
                    if let Some(picked) = picked {
                        prop_assert_eq!(ready.insert(picked, false), Some(true));
                        queue.charge(picked, u64::from(id));
                    }
                }
            }
            prop_assert_eq!(queue.waiting(), ready.values().filter(|&&it| it).count());
        }
    }
}

/// Numbers that look random and are the same in every run (a linear congruential generator, Knuth's).
struct Numbers(u64);

impl Numbers {
    /// From 0 to 1, exclusive.
    fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A time between requests that come at random, `mean` apart.
    fn gap_ns(&mut self, mean_ns: f64) -> u64 {
        (-mean_ns * (1.0 - self.next()).ln()) as u64 + 1
    }
}

/// A thousand guests on one processor: most serve requests whose rates follow Zipf's law, the others
/// compute all the time.
struct Simulation {
    queue: FairQueue<usize>,
    numbers: Numbers,
    now_ns: u64,
    /// When which server has its next request.
    requests: BinaryHeap<Reverse<(u64, usize)>>,
    /// Since when a server waits for its turn.
    since_ns: Vec<u64>,
    ran_ns: Vec<u64>,
    /// How long requests waited whose server had idle credit when they came.
    waits_ns: Vec<u64>,
    /// Requests whose server had used more than its share.
    without_credit: usize,
    had_credit: Vec<bool>,
}

const GUESTS: usize = 1_000;
const HOGS: usize = 10;

/// What a request takes.
const REQUEST: u64 = 100_000;

/// The weight of a guest: three kinds.
fn weight(id: usize) -> u32 {
    [50, 100, 200][id % 3]
}

/// Mean time between requests: all servers together are asked for 30 % of the processor.
fn mean_gap_ns(id: usize) -> f64 {
    let all: f64 = (HOGS..GUESTS).map(|id| 1.0 / (id - HOGS + 1) as f64).sum();
    REQUEST as f64 / 0.3 * all * (id - HOGS + 1) as f64
}

impl Simulation {
    fn new() -> Self {
        let mut new = Self {
            queue: FairQueue::new(QUANTUM),
            numbers: Numbers(7),
            now_ns: 0,
            requests: BinaryHeap::new(),
            since_ns: vec![0; GUESTS],
            ran_ns: vec![0; GUESTS],
            waits_ns: Vec::new(),
            without_credit: 0,
            had_credit: vec![false; GUESTS],
        };
        for id in 0..GUESTS {
            new.queue.insert(id, weight(id));
            if id < HOGS { new.queue.ready(id) } else { new.next_request(id) }
        }
        new
    }

    fn next_request(&mut self, id: usize) {
        let at = self.now_ns + self.numbers.gap_ns(mean_gap_ns(id));
        self.requests.push(Reverse((at, id)));
    }

    /// One guest's turn; requests that come meanwhile queue their servers.
    fn turn(&mut self) {
        let id = self.queue.pick().expect("the others always want to run");
        let length = if id < HOGS { QUANTUM } else { REQUEST };
        match id {
            ..HOGS => {}
            _ if self.had_credit[id] => self.waits_ns.push(self.now_ns - self.since_ns[id]),
            _ => self.without_credit += 1,
        }
        self.now_ns += length;
        while let Some(&Reverse((at, server))) =
            self.requests.peek().filter(|it| it.0.0 <= self.now_ns)
        {
            self.requests.pop();
            self.since_ns[server] = at;
            self.had_credit[server] = self.queue.has_credit(server);
            self.queue.ready(server);
        }
        self.queue.charge(id, length);
        self.ran_ns[id] += length;
        if id < HOGS {
            self.queue.ready(id);
        } else {
            self.queue.idle(id);
            self.next_request(id);
        }
    }
}

#[test]
fn a_thousand_guests_share_and_those_that_idle_hardly_wait() {
    let mut simulation = Simulation::new();
    while simulation.now_ns < 20_000_000_000 {
        simulation.turn();
    }
    let Simulation { now_ns, ran_ns, mut waits_ns, without_credit, .. } = simulation;

    let served = ran_ns[HOGS..].iter().sum::<u64>() as f64 / now_ns as f64;
    assert!((0.25..0.32).contains(&served), "all that was asked for: {served}");

    let weights: u32 = (0..HOGS).map(weight).sum();
    let computed: u64 = ran_ns[..HOGS].iter().sum();
    for (id, &ran) in ran_ns[..HOGS].iter().enumerate() {
        let share = computed as f64 * f64::from(weight(id)) / f64::from(weights);
        assert!((ran as f64 - share).abs() <= 4.0 * QUANTUM as f64, "{id}: {ran}, not {share}");
    }

    waits_ns.sort_unstable();
    assert!(waits_ns.len() > 40_000 && without_credit < waits_ns.len() / 50, "{without_credit}");
    let p99 = waits_ns[waits_ns.len() * 99 / 100];
    let worst = waits_ns[waits_ns.len() - 1];
    // The rest of the turn of one that computes, and requests that came before: taking turns with all that
    // compute, it would be ten quanta.
    assert!(p99 <= QUANTUM + 8 * REQUEST, "{p99}");
    assert!(worst <= QUANTUM + 30 * REQUEST, "{worst}");
}
