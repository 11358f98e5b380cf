//! Messages of the control protocol, in both directions, and records of a keeper's registry.

use crate::memory::bounded;
use denali_control::{Life, MESSAGE_MAX, Parked, Request, Status, Told};
use serde_json::{from_slice, to_vec};

/// Bytes that reading a text of `length` bytes may take: its values, and errors.
fn reading(length: usize) -> usize {
    64 * length + (16 << 10)
}

/// A message to a monitor, or from one.
pub fn control(bytes: &[u8]) {
    if bytes.len() > MESSAGE_MAX {
        return;
    }
    let most = reading(bytes.len());
    if let Ok(request) = bounded(most, || from_slice::<Request>(bytes)) {
        let text = to_vec(&request).expect("requests can be written");
        assert_eq!(from_slice::<Request>(&text).ok(), Some(request), "{text:?}");
    }
    if let Ok(told) = bounded(most, || from_slice::<Told>(bytes)) {
        let text = to_vec(&told).expect("messages can be written");
        assert_eq!(from_slice::<Told>(&text).ok().as_ref(), Some(&told), "{text:?}");
        if let Told::Parked(parked) = &told {
            denali_keeper::fuzzing::hear_of(parked);
        }
    }
}

/// A record of a keeper's registry, as it is in its file.
pub fn record(bytes: &[u8]) {
    let again = bounded(reading(bytes.len()), || denali_keeper::fuzzing::rewrite_record(bytes));
    if let Some(again) = again {
        let twice = denali_keeper::fuzzing::rewrite_record(&again);
        assert_eq!(twice.as_deref(), Some(&again[..]), "what is written is read");
    }
}

/// One message of each kind.
#[must_use]
pub fn control_seeds() -> Vec<Vec<u8>> {
    let requests = [
        Request::Status {},
        Request::SwapOut {},
        Request::Park { cut: false },
        Request::Park { cut: true },
        Request::Snapshot {},
        Request::Adopt {},
    ];
    let status = Status {
        name: "web".into(),
        life: Life::SwappedOut,
        resident_pages: 1,
        stored_pages: 300,
        swapped_out: 2,
        woken: 1,
        faults: 17,
        generation: 2,
        guest_id: Some("07".repeat(16)),
        limit_reached: None,
    };
    let parked = Parked {
        guest_id: "07".repeat(16),
        sequence: 3,
        root: "0a".repeat(32),
        deadline_ns: Some(1 << 40),
        deadline_real_ns: None,
        pages: 300,
    };
    let told = [
        Told::Running { boot_ns: 1 },
        Told::Parking {},
        Told::Status(status),
        Told::SwappedOut { pages: 300 },
        Told::Parked(parked),
        Told::Snapshot { pages: 300 },
        Told::Ended { status: 143, how: "signal 15 ended it".into() },
        Told::Refused { why: "it \"computes\"".into() },
    ];
    let text = |result: serde_json::Result<Vec<u8>>| result.expect("messages can be written");
    let requests = requests.iter().map(|request| text(to_vec(request)));
    requests.chain(told.iter().map(|told| text(to_vec(told)))).collect()
}

/// Records of guests that run, that are parked, and that never were.
#[must_use]
pub fn record_seeds() -> Vec<Vec<u8>> {
    let record = |commit: &str, life: &str| {
        let text = format!(
            r#"{{"version":1,"guest_id":"{}","name":"guest 1","image":"{}","commit":{commit},"life":{life},
"configuration":{{"image":"web","memory":"64MiB","weight":1.5,"net":[]}}}}"#,
            "01".repeat(16),
            "1f".repeat(32)
        );
        text.into_bytes()
    };
    let commit = format!(r#"{{"sequence":9,"root":"{}"}}"#, "0a".repeat(32));
    vec![
        record("null", r#"{"running":{}}"#),
        record(&commit, r#"{"running":{}}"#),
        record(&commit, r#"{"parked":{"deadline_real_ns":null,"pages":7}}"#),
        record(&commit, r#"{"parked":{"deadline_real_ns":18446744073709551615,"pages":7}}"#),
    ]
}
