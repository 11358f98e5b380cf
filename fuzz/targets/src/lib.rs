//! What fuzzing feeds with arbitrary bytes: each target is a function that panics if the bytes did harm.
//!
//! libFuzzer runs them (`fuzz/`), for as long as one likes; `cargo test` runs them over the committed corpora and
//! a bounded number of mutations, which are always the same. `docs/fuzzing.md` says what has been run.

mod back_end;
mod disk;
mod edit;
mod frames;
mod image;
mod input;
mod machine;
mod memory;
mod messages;
pub mod mutate;
mod names;
mod queues;
mod region;
mod requests;
mod saved;
mod snapshot;
mod switch;
mod texts;

pub use back_end::back_end;
pub use frames::frames;
pub use image::image;
pub use messages::{control, record};
pub use names::broker;
pub use queues::queues;
pub use region::{manifest, region};
pub use requests::requests;
pub use saved::saved;
pub use snapshot::snapshot;
pub use switch::switch;
pub use texts::config;

/// A parser, and what it is fed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, as the corpus and the program for libFuzzer have it.
    pub name: &'static str,
    /// Feeds it.
    pub feed: fn(&[u8]),
    /// Inputs that are as they should be, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "region", feed: region, seeds: region::region_seeds },
    Target { name: "manifest", feed: manifest, seeds: region::manifest_seeds },
    Target { name: "snapshot", feed: snapshot, seeds: snapshot::snapshot_seeds },
    Target { name: "control", feed: control, seeds: messages::control_seeds },
    Target { name: "record", feed: record, seeds: messages::record_seeds },
    Target { name: "saved", feed: saved, seeds: saved::saved_seeds },
    Target { name: "queues", feed: queues, seeds: queues::queues_seeds },
    Target { name: "config", feed: config, seeds: texts::config_seeds },
    Target { name: "image", feed: image, seeds: image::image_seeds },
    Target { name: "frames", feed: frames, seeds: frames::frames_seeds },
    Target { name: "broker", feed: broker, seeds: names::broker_seeds },
    Target { name: "back_end", feed: back_end, seeds: back_end::back_end_seeds },
    Target { name: "switch", feed: switch, seeds: switch::switch_seeds },
    Target { name: "requests", feed: requests, seeds: requests::requests_seeds },
];
