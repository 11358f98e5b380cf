//! An entropy device that is saved and goes on elsewhere.

use super::*;
use crate::testing::parking::{change, park};

fn made(source: &Counting, limiter: &RateLimiter) -> Box<EntropyDevice<Counting>> {
    Box::new(EntropyDevice::new(source.clone(), limiter.clone()))
}

#[test]
fn a_limit_is_not_filled_up_by_a_move() {
    let limiter = RateLimiter::new(Some(TokenBucket::new(100, 50, 1_000_000)), None);
    let (mut driver, source) = device(FEATURES, limiter.clone());
    for (head, length) in [(0, 50), (1, 80), (2, 100)] {
        driver.offer(0, head, length, true);
    }
    driver.service();
    assert_eq!(driver.used(0), [(0, 50), (1, 80)], "the burst, and a part of the bucket");
    let ready = driver.bus.deadline().unwrap();
    driver.now_ns += 300_000;
    park(&mut driver.bus, &driver.memory, made(&source, &limiter));
    assert_eq!(driver.bus.deadline(), None, "nothing waits before a service");
    driver.service();
    assert_eq!(driver.used(0), []);
    assert_eq!(driver.bus.deadline(), Some(ready), "as if nothing had happened");
    driver.now_ns = ready;
    driver.service();
    assert_eq!(driver.used(0), [(2, 100)]);
}

#[test]
fn a_limit_of_another_size_is_the_new_one() {
    let (mut driver, source) = device(FEATURES, RateLimiter::default());
    driver.offer(0, 0, 10, true);
    driver.service();
    let small = RateLimiter::new(Some(TokenBucket::new(5, 0, 1_000_000)), None);
    park(&mut driver.bus, &driver.memory, made(&source, &small));
    driver.offer(0, 1, 5, true);
    driver.offer(0, 2, 5, true);
    driver.service();
    assert_eq!(driver.used(0), [(0, 10), (1, 5)]);
    park(&mut driver.bus, &driver.memory, made(&source, &RateLimiter::default()));
    driver.service();
    assert_eq!(driver.used(0), [(2, 5)], "and none is none");
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn whatever_a_driver_has_done_can_be_moved(
        actions in prop::collection::vec(action(1), 1..60),
        features in features(FEATURES),
    ) {
        let (source, limiter) = (Counting::default(), RateLimiter::default());
        let mut wild = Wild::new(made(&source, &limiter), features, 16);
        for action in &actions {
            wild.apply(action, &mut |number| source.0.1.set(number.is_multiple_of(4)));
            wild.park(made(&source, &limiter), &[]);
        }
    }

    #[test]
    fn no_state_harms_the_monitor(
        before in prop::collection::vec(action(1), 1..40),
        changes in prop::collection::vec(change(), 1..4),
        after in prop::collection::vec(action(1), 1..40),
        size in 1..10_000_u64,
    ) {
        let bucket = TokenBucket::new(size, size, 1_000_000);
        let (source, limiter) = (Counting::default(), RateLimiter::new(Some(bucket), None));
        let mut wild = Wild::new(made(&source, &limiter), FEATURES, 16);
        before.iter().for_each(|action| wild.apply(action, &mut |_| {}));
        wild.park(made(&source, &limiter), &changes);
        after.iter().for_each(|action| wild.apply(action, &mut |_| {}));
    }

    /// Every buffer comes back once, in order, however often the device is moved.
    #[test]
    fn buffers_come_back_once_across_moves(
        steps in prop::collection::vec((0..4096_u32, 0..3_u8), 1..60),
        features in features(FEATURES),
    ) {
        let (mut driver, source) = device(features, RateLimiter::default());
        let (mut offered, mut used) = (Vec::new(), Vec::new());
        for (number, &(length, step)) in (0_u16..).zip(&steps) {
            if offered.len() - used.len() == 16 {
                driver.service();
                used.extend(driver.used(0));
            }
            driver.offer(0, number % 16, length, true);
            offered.push((u32::from(number % 16), length));
            match step {
                0 => {}
                1 => drop(driver.service()),
                _ => drop(park(&mut driver.bus, &driver.memory, made(&source, &RateLimiter::default()))),
            }
        }
        driver.service();
        used.extend(driver.used(0));
        prop_assert_eq!(used, offered);
    }
}
