//! Properties of moderation, histograms and held packets, for any course of events.

use denali_interrupts::held::{Limits, Queue};
use denali_interrupts::{Coalescing, Histogram, Moderator};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::VecDeque;

fn coalescing() -> impl Strategy<Value = Coalescing> {
    let time = || prop_oneof![Just(0), 1..2_000_000_u64, Just(u64::MAX)];
    prop_oneof![
        Just(Coalescing::Off),
        (time(), 0..5_u32).prop_map(|(window_ns, count)| Coalescing::Fixed { window_ns, count }),
        (time(), time())
            .prop_map(|(shortest_ns, longest_ns)| Coalescing::Adaptive { shortest_ns, longest_ns }),
    ]
}

/// What happens to a guest: time passes, and then something arrives or is delivered.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Arrival,
    Delivery(u32),
}

fn course() -> impl Strategy<Value = Vec<(u64, Happening)>> {
    let gap = prop_oneof![0..10_u64, 0..1_000_u64, 0..3_000_000_u64];
    let happening = prop_oneof![
        3 => Just(Happening::Arrival),
        1 => (0..200_u32).prop_map(Happening::Delivery),
    ];
    vec((gap, happening), 1..200)
}

proptest! {
    #[test]
    fn nobody_waits_longer_than_the_window(coalescing in coalescing(), course in course()) {
        let mut moderator = Moderator::new(coalescing);
        let (mut now, mut first, mut arrivals) = (1_000_u64, None, 0);
        for (gap, happening) in course {
            now += gap;
            match happening {
                Happening::Delivery(gathered) => {
                    moderator.delivered(now, gathered);
                    (first, arrivals) = (None, 0);
                }
                Happening::Arrival => {
                    let first = *first.get_or_insert(now);
                    arrivals += 1;
                    let due = moderator.arrived(now);
                    prop_assert!(due >= now);
                    prop_assert!(due <= first.saturating_add(coalescing.longest_ns()).max(now));
                    if let Coalescing::Fixed { count, .. } = coalescing && count != 0 {
                        prop_assert!(arrivals < count || due == now);
                    }
                    if coalescing == Coalescing::Off {
                        prop_assert_eq!(due, now);
                    }
                }
            }
            prop_assert!(moderator.window_ns() <= coalescing.longest_ns());
        }
    }

    /// However busy it was before.
    #[test]
    fn the_first_after_a_silence_is_delivered_after_the_shortest_window(
        course in course(),
        shortest_ns in 0..500_000_u64,
        silence in 0..10_000_000_u64,
    ) {
        let longest_ns = 500_000;
        let mut moderator = Moderator::new(Coalescing::Adaptive { shortest_ns, longest_ns });
        let mut now = 0;
        for (gap, happening) in course {
            now += gap;
            match happening {
                Happening::Arrival => _ = moderator.arrived(now),
                Happening::Delivery(gathered) => moderator.delivered(now, gathered),
            }
        }
        moderator.delivered(now, 1);
        now += longest_ns + silence;
        prop_assert_eq!(moderator.arrived(now), now + shortest_ns);
    }

    /// The same course in less time never has a shorter window at its end.
    #[test]
    fn more_load_never_shortens_the_window(gap in 1..1_000_000_u64, less in 1..1_000_000_u64) {
        let window = |gap: u64| {
            let mut moderator = Moderator::new(Coalescing::default());
            (0..50).for_each(|turn| moderator.delivered(turn * gap, 1));
            moderator.window_ns()
        };
        prop_assert!(window(gap.saturating_sub(less).max(1)) >= window(gap));
    }

    #[test]
    fn histograms_count_everything_and_percentiles_lie_in_their_bucket(
        mut values in vec(any::<u64>().prop_flat_map(|it| (0..64_u32).prop_map(move |by| it >> by)), 1..200),
        percent in 0.0..=100.0_f64,
    ) {
        let mut histogram = Histogram::<65>::new();
        values.iter().for_each(|&value| histogram.record(value));
        prop_assert_eq!(histogram.count(), values.len() as u64);
        let sum = values.iter().fold(0_u64, |sum, value| sum.saturating_add(*value));
        prop_assert_eq!(histogram.sum(), sum);

        values.sort_unstable();
        let rank = (values.len() as f64 * percent / 100.0).ceil() as usize;
        let exact = values[rank.max(1) - 1];
        let estimate = histogram.percentile(percent).unwrap();
        prop_assert_eq!(exact.leading_zeros(), estimate.leading_zeros(), "{} {}", exact, estimate);
    }

    #[test]
    fn merged_histograms_are_one_of_both(one in vec(any::<u64>(), 0..50), other in vec(any::<u64>(), 0..50)) {
        let of = |values: &[u64]| {
            let mut histogram = Histogram::<40>::new();
            values.iter().for_each(|&value| histogram.record(value));
            histogram
        };
        let mut merged = of(&one);
        merged.merge(&of(&other));
        prop_assert_eq!(merged, of(&[one, other].concat()));
    }

    /// Compared with a queue that has no limits of its own.
    #[test]
    fn held_packets_come_in_order_and_within_their_limits(
        packets in 0..8_usize,
        bytes in 0..64_usize,
        steps in vec(prop::option::weighted(0.7, prop_oneof![0..32_usize, Just(usize::MAX)]), 0..200),
    ) {
        let mut queue = Queue::new(Limits { packets, bytes });
        let (mut model, mut dropped) = (VecDeque::new(), 0);
        for (number, step) in steps.into_iter().enumerate() {
            let held: usize = model.iter().map(|(_, size)| size).sum();
            match step {
                Some(size) => {
                    let fits = model.len() < packets && held.checked_add(size).is_some_and(|all| all <= bytes);
                    prop_assert_eq!(queue.push(number, size), fits);
                    if fits { model.push_back((number, size)) } else { dropped += 1 }
                }
                None => prop_assert_eq!(queue.pop(), model.pop_front().map(|(number, _)| number)),
            }
            prop_assert_eq!(queue.len(), model.len());
            prop_assert_eq!(queue.is_empty(), model.is_empty());
            prop_assert_eq!(queue.bytes(), model.iter().map(|(_, size)| size).sum::<usize>());
            prop_assert_eq!(queue.peek(), model.front().map(|(number, _)| number));
            prop_assert_eq!(queue.dropped(), dropped);
        }
    }
}
