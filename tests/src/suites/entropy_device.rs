//! Entropy devices: random bytes, as many as the limit lets pass.

use crate::backend::Backend;
use crate::registry::{Case, Suite};
use std::time::{Duration, Instant};

pub fn suite() -> Suite {
    Suite {
        name: "entropy_device",
        cases: vec![
            Case::each("gives_random_bytes", random),
            Case::each("limits_hold", limited),
            Case::each("a_guest_without_one_says_so", missing),
        ],
    }
}

fn random(backend: Backend) {
    let run = backend.probe("entropy-device 30000").set("entropy=[{}]").json();
    let output = run.expect(0);
    assert!(output.contains("bytes=30000"), "{output}");
    let ended = output.lines().last().unwrap_or_default();
    let event: serde_json::Value = serde_json::from_str(ended).expect("the end is an event");
    let counted = event["devices"]["entropy0"]["bytes"].as_u64();
    assert!(counted >= Some(30_000), "{ended}");
}

fn limited(backend: Backend) {
    let limit = r#"entropy=[{"rate_limit":{"bandwidth":{"size":1000,"refill_time":500}}}]"#;
    let start = Instant::now();
    backend.probe("entropy-device 2000").set(limit).expect(0);
    // A thousand bytes come at once, the others within half a second at the earliest.
    assert!(start.elapsed() >= Duration::from_millis(450), "{:?}", start.elapsed());
}

fn missing(backend: Backend) {
    let output = backend.probe("entropy-device 1").expect(1);
    assert_eq!(output, "FAILED entropy-device: no entropy device\n");
}
