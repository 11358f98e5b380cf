//! Tests of the policy, with memory that is a model.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A guest and its memory, as the pager would keep it: what is where is kept apart from the policy.
struct Model {
    clock: WsClock,
    limit: usize,
    now_ns: u64,
    active: BTreeSet<usize>,
    staged: BTreeSet<usize>,
    /// Pages that cannot be moved.
    pinned: BTreeSet<usize>,
    hard_faults: usize,
    soft_faults: usize,
    young_victims: usize,
}

impl Model {
    fn new(pages: usize, limit: usize, window_ns: u64) -> Self {
        Self {
            clock: WsClock::new(pages, limit, window_ns),
            limit,
            now_ns: 0,
            active: BTreeSet::new(),
            staged: BTreeSet::new(),
            pinned: BTreeSet::new(),
            hard_faults: 0,
            soft_faults: 0,
            young_victims: 0,
        }
    }

    /// The guest touches a page, `ahead` pages are brought with it if it is out.
    fn touch(&mut self, page: usize, ahead: &[usize]) {
        self.now_ns += 1;
        if self.active.contains(&page) {
            return;
        }
        if self.staged.remove(&page) {
            self.soft_faults += 1;
            self.active.insert(page);
            self.clock.used(page, self.now_ns);
            return;
        }
        self.hard_faults += 1;
        let most = self.clock.most_at_once().min(ahead.len());
        let out = |page: &&usize| !self.active.contains(page) && !self.staged.contains(page);
        let mut coming: BTreeSet<usize> = ahead[..most].iter().filter(out).copied().collect();
        coming.insert(page);
        self.evict(self.clock.to_evict_for(coming.len()));
        for page in &coming {
            self.active.insert(*page);
            self.clock.insert(*page, self.now_ns);
        }
        self.check();
        self.stage(self.clock.to_stage(coming.len()));
        self.evict(self.clock.to_evict(self.now_ns));
        self.check();
    }

    fn stage(&mut self, count: usize) {
        for _ in 0..count {
            let Some(page) = self.clock.stage(self.now_ns) else { return };
            assert!(self.active.contains(&page), "only what the guest has is staged");
            if self.pinned.contains(&page) {
                self.clock.used(page, self.now_ns);
            } else {
                self.active.remove(&page);
                self.staged.insert(page);
            }
        }
    }

    fn evict(&mut self, count: usize) {
        self.stage(count.saturating_sub(self.clock.staged_count()));
        self.young_victims += self.clock.in_working_set(count, self.now_ns);
        for page in self.clock.victims(count) {
            assert!(self.staged.remove(&page), "only what is staged leaves");
            self.clock.remove(page);
        }
    }

    fn check(&self) {
        assert_eq!(self.clock.resident(), self.active.len() + self.staged.len());
        assert_eq!(self.clock.staged_count(), self.staged.len());
        assert!(self.clock.resident() <= self.limit, "the limit is kept");
    }

    /// Every page is where the policy thinks it is.
    fn check_pages(&self) {
        for page in 0..self.clock.slot_of.len() {
            let state = match (self.active.contains(&page), self.staged.contains(&page)) {
                (true, false) => State::Active,
                (false, true) => State::Staged,
                (false, false) => State::Out,
                (true, true) => panic!("page {page} is in two places"),
            };
            assert_eq!(self.clock.state(page), state, "page {page}");
        }
    }
}

proptest! {
    #[test]
    fn the_limit_is_kept_and_no_page_is_lost(
        limit in WsClock::LEAST..200,
        window_ns in 0_u64..1000,
        touches in proptest::collection::vec((0_usize..600, 0_usize..12), 1..800),
    ) {
        let mut model = Model::new(620, limit, window_ns);
        for (page, ahead) in touches {
            let ahead: Vec<usize> = (page + 1..=page + ahead).collect();
            model.touch(page, &ahead);
        }
        model.check_pages();
    }

    #[test]
    fn pages_that_cannot_be_moved_stay_in_memory(
        pinned in proptest::collection::btree_set(0_usize..300, 0..20),
        touches in proptest::collection::vec(0_usize..300, 1..800),
    ) {
        let mut model = Model::new(300, 96, 10);
        model.pinned = pinned.clone();
        for page in pinned.iter().chain(&touches) {
            model.touch(*page, &[]);
        }
        model.check_pages();
        prop_assert!(pinned.is_subset(&model.active));
    }
}

#[test]
fn referenced_pages_survive_what_is_touched_once() {
    for limit in [64, 1024] {
        let hot = limit / 4;
        let mut model = Model::new(100 * limit, limit, 50);
        for page in 0..hot {
            model.touch(page, &[]);
        }
        for cold in hot..100 * limit {
            model.touch(cold, &[]);
            model.touch(cold % hot, &[]);
            model.touch((cold * 7 + 3) % hot, &[]);
        }
        let again = model.hard_faults - 100 * limit;
        assert!(again < 2 * hot, "limit {limit}: {again} of {hot} hot pages had to be read again");
        assert!(model.soft_faults < 2 * model.hard_faults, "and sampling costs little");
    }
}

#[test]
fn memory_that_suffices_is_left_alone() {
    let mut model = Model::new(1000, 512, 10);
    for round in 0..100 {
        for page in 0..384 {
            model.touch(page, &[]);
        }
        assert_eq!((model.hard_faults, model.soft_faults), (384, 0), "round {round}");
    }
    assert_eq!(model.clock.to_evict(model.now_ns), 0);
}

#[test]
fn what_left_the_working_set_leaves_memory_first_and_in_larger_batches() {
    let mut model = Model::new(4096, 512, 1000);
    for page in 0..380 {
        model.touch(page, &[]);
    }
    model.stage(64);
    model.now_ns += 1001;
    assert_eq!(model.clock.in_working_set(64, model.now_ns), 0);
    for page in 380..496 {
        model.touch(page, &[]);
    }
    assert_eq!(model.clock.free(), 16, "nothing leaves while a batch is free");
    model.touch(496, &[]);
    assert!(model.clock.free() >= 64, "{} frames are free", model.clock.free());
    assert_eq!(model.young_victims, 0);
    assert!(model.active.contains(&496));
}

#[test]
fn a_working_set_above_the_limit_is_noticed() {
    let mut model = Model::new(4096, 128, 1_000_000);
    for round in 0..3 {
        for page in 0..256 {
            model.touch(page, &[]);
        }
        model.check_pages();
        assert!(model.young_victims > 0, "round {round}");
    }
}

#[test]
fn large_guests_do_constant_work_for_a_fault() {
    let limit = 262_144;
    let mut clock = WsClock::new(4 * limit, limit, 1000);
    let mut seed = 1;
    let mut next = || {
        seed = seed_after(seed);
        (seed >> 33) as usize % (4 * limit)
    };
    for now_ns in 0..2 * limit as u64 {
        let page = next();
        if clock.state(page) != State::Out {
            clock.used(page, now_ns);
            continue;
        }
        assert_eq!(clock.to_evict_for(1), 0, "there is always a page ahead");
        clock.insert(page, now_ns);
        let stage = clock.to_stage(1);
        assert!(stage <= 2);
        for _ in 0..stage {
            clock.stage(now_ns);
        }
        let evict = clock.to_evict(now_ns);
        assert!(evict <= 256, "{evict} pages would leave at once");
        clock.victims(evict).into_iter().for_each(|page| clock.remove(page));
    }
    assert!((limit - 256..=limit).contains(&clock.resident()));
}

/// The next of numbers that look random.
fn seed_after(seed: u64) -> u64 {
    seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
}

#[test]
fn a_page_is_used_twice_without_harm() {
    let mut clock = WsClock::new(10, 64, 5);
    clock.insert(3, 1);
    clock.insert(3, 2);
    clock.used(4, 2);
    assert_eq!((clock.resident(), clock.free()), (1, 63));
    assert_eq!(clock.stage(3), Some(3));
    assert_eq!(clock.stage(3), None);
    assert_eq!(clock.state(3), State::Staged);
    clock.insert(3, 4);
    assert_eq!((clock.state(3), clock.staged()), (State::Active, vec![]));
    clock.remove(3);
    clock.remove(3);
    assert_eq!((clock.state(3), clock.resident()), (State::Out, 0));
}
