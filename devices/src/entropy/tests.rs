//! Tests of the entropy device, from the driver's side of its ring.

use super::*;
use crate::Bus;
use crate::rate::{RateLimiter, TokenBucket};
use crate::testing::driver::Driver;
use crate::testing::wild::{Wild, action, cases, features};
use crate::testing::*;
use denali_abi::virtio as abi;
use proptest::prelude::*;
use std::cell::Cell;
use std::rc::Rc;

mod state;

const FEATURES: u64 = abi::FEATURE_VERSION_1 | abi::FEATURE_EVENT_IDX | abi::FEATURE_INDIRECT_DESC;

/// A source that counts, unless it has nothing.
#[derive(Clone, Default)]
struct Counting(Rc<(Cell<u8>, Cell<bool>)>);

impl EntropySource for Counting {
    fn fill(&mut self, bytes: &mut [u8]) -> bool {
        let (next, empty) = &*self.0;
        for byte in bytes.iter_mut().filter(|_| !empty.get()) {
            next.set(next.get() % 255 + 1);
            *byte = next.get();
        }
        !empty.get()
    }
}

fn device(features: u64, limiter: RateLimiter) -> (Driver, Counting) {
    let source = Counting::default();
    let mut bus = Bus::new();
    let device = Box::new(EntropyDevice::new(source.clone(), limiter));
    assert_eq!(bus.attach(device, Box::new(CountedLine::default())), Ok(0));
    (Driver::start(bus, features, 1, 16), source)
}

#[test]
fn buffers_are_filled_up_to_a_limit() {
    let (mut driver, _) = device(FEATURES, RateLimiter::default());
    let small = driver.offer(0, 0, 10, true);
    driver.offer(0, 1, 0, true);
    let large = driver.offer(0, 2, 100_000, true);
    assert!(!driver.service().more);
    assert_eq!(driver.used(0), [(0, 10), (1, 0), (2, 4096)]);
    assert_eq!(driver.bytes(small, 10), (1..=10).collect::<Vec<u8>>());
    let bytes = driver.bytes(large, 5000);
    assert!(bytes[..4096].iter().all(|&byte| byte != 0));
    assert!(bytes[4096..].iter().all(|&byte| byte == 0));
}

#[test]
fn a_limit_makes_requests_wait_and_says_until_when() {
    let bucket = TokenBucket::new(100, 0, 1_000_000);
    let (mut driver, _) = device(FEATURES, RateLimiter::new(Some(bucket), None));
    driver.offer(0, 0, 100, true);
    driver.offer(0, 1, 50, true);
    assert!(!driver.service().more);
    assert_eq!(driver.used(0), [(0, 100)]);
    let ready = driver.bus.deadline().unwrap();
    assert_eq!(ready, driver.now_ns + 500_000);
    driver.now_ns = ready;
    driver.service();
    assert_eq!(driver.used(0), [(1, 50)]);
    assert_eq!(driver.bus.deadline(), None, "nothing waits any more");
    assert!(driver.bus.counters(0).contains(&("throttled", 1)));
}

#[test]
fn a_host_without_random_bytes_is_asked_again_later() {
    let (mut driver, source) = device(FEATURES, RateLimiter::default());
    source.0.1.set(true);
    driver.offer(0, 0, 8, true);
    assert!(!driver.service().more);
    source.0.1.set(false);
    driver.service();
    assert!(driver.used(0).is_empty(), "it is left alone for a while");
    driver.now_ns = driver.bus.deadline().unwrap();
    driver.service();
    assert_eq!(driver.used(0), [(0, 8)]);
    assert_eq!(driver.bus.deadline(), None);
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn no_driver_harms_the_monitor(
        actions in prop::collection::vec(action(1), 1..120),
        features in features(FEATURES),
        size in 1..10_000_u64,
    ) {
        let source = Counting::default();
        let bucket = TokenBucket::new(size, 0, 1_000_000);
        let limiter = RateLimiter::new(Some(bucket), None);
        let device = EntropyDevice::new(source.clone(), limiter);
        let mut wild = Wild::new(Box::new(device), features, 16);
        for action in &actions {
            wild.apply(action, &mut |number| source.0.1.set(number.is_multiple_of(4)));
        }
    }

    #[test]
    fn rings_that_change_meanwhile_harm_nobody(seed in any::<u64>()) {
        let device = EntropyDevice::new(Counting::default(), RateLimiter::default());
        Wild::new(Box::new(device), FEATURES, 16).torn(seed, &mut |_| {});
    }

    /// Every buffer comes back once, in order, filled as far as it says.
    #[test]
    fn buffers_come_back_once(lengths in prop::collection::vec(0..4096_u32, 1..100)) {
        let (mut driver, _) = device(FEATURES, RateLimiter::default());
        for (number, &length) in (0_u16..).zip(&lengths) {
            let head = number % 16;
            let at = driver.offer(0, head, length, true);
            driver.service();
            prop_assert_eq!(driver.used(0), [(u32::from(head), length)]);
            prop_assert!(driver.bytes(at, length).iter().all(|&byte| byte != 0));
        }
    }
}
