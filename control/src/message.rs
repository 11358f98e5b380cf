//! What is asked of a monitor, and what it tells.

use serde::{Deserialize, Serialize};

/// What is asked of a monitor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "ask")]
pub enum Request {
    /// How the guest is.
    Status {},
    /// To have the guest's memory leave, if it idles.
    SwapOut {},
    /// To write the guest into its region and end.
    Park {
        /// Though it has connections that go through the monitor: they are cut.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cut: bool,
    },
    /// To be the guest's keeper from here on, who is told unasked what becomes of it; answered with
    /// [`Told::Status`]. Refused while it has one, whose connection has not hung up.
    Adopt {},
    /// To write a copy of the guest into the file whose descriptor comes along, open for reading and writing
    /// and empty. The guest goes on.
    Snapshot {},
}

/// What a monitor tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "told")]
pub enum Told {
    /// The guest runs from here on: its next instruction is the first since its monitor started. Told to a
    /// keeper, unasked.
    Running {
        /// When that was, in nanoseconds of the host's boot time: it may be heard later.
        boot_ns: u64,
    },
    /// The guest is about to be written into its region by itself; what is told next says whether it was.
    /// Told to a keeper, unasked.
    Parking {},
    /// How the guest is.
    Status(Status),
    /// The guest's memory is out.
    SwappedOut {
        /// Pages that are in the region.
        pages: u64,
    },
    /// The guest is in its region, and the monitor ends.
    Parked(Parked),
    /// The guest has ended for any other reason, or was never started: the last that is told, to a keeper, unasked.
    Ended {
        /// The monitor's exit status, as `docs/exit-codes.md` has it.
        status: u8,
        /// Why, in one line.
        how: String,
    },
    /// The snapshot is in its file, and on the disk.
    Snapshot {
        /// Pages in it.
        pages: u64,
    },
    /// What was asked for is not done.
    Refused {
        /// Why, in one line.
        why: String,
    },
}

/// How a guest is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// What it does.
    pub life: Life,
    /// Pages that are in memory and the guest's own.
    pub resident_pages: u64,
    /// Pages that are in its region.
    pub stored_pages: u64,
    /// Times its memory has left.
    pub swapped_out: u64,
    /// Times its memory has come back.
    pub woken: u64,
    /// Pages that came back because the guest touched them.
    pub faults: u64,
    /// Times it went on as a copy or from its region; 1 at its start.
    pub generation: u64,
    /// Whose its region is, as 32 hexadecimal digits, if that outlives the monitor: only then it can be parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_id: Option<String>,
    /// Pages that its `swap.limit` allows, if it has them all and is held because it wants more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_reached: Option<u32>,
}

/// What a guest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    /// It runs, or idles in memory.
    Running,
    /// It is held.
    Held,
    /// Its memory is out.
    SwappedOut,
    /// It has no monitor: its keeper answers.
    Parked,
}

/// A guest that was parked: what it takes to wake it, beside its region and the key to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parked {
    /// Whose region it is: 32 hexadecimal digits.
    pub guest_id: String,
    /// Number of the commit in the region.
    pub sequence: u64,
    /// Hash of the region's content, 64 hexadecimal digits.
    pub root: String,
    /// When the guest's timer goes off, in nanoseconds of the host's boot time; `None` = never.
    pub deadline_ns: Option<u64>,
    /// The same in nanoseconds since 1970-01-01 UTC, for after a restart of the host.
    pub deadline_real_ns: Option<u64>,
    /// Pages in the region.
    pub pages: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_are_what_the_documents_show() {
        let text = |request: &Request| serde_json::to_string(request).unwrap();
        assert_eq!(text(&Request::Park { cut: false }), r#"{"ask":"park"}"#);
        assert_eq!(text(&Request::Park { cut: true }), r#"{"ask":"park","cut":true}"#);
        assert_eq!(text(&Request::SwapOut {}), r#"{"ask":"swap_out"}"#);
        assert_eq!(text(&Request::Adopt {}), r#"{"ask":"adopt"}"#);
        let told = Told::Ended { status: 143, how: "signal 15".into() };
        assert_eq!(
            serde_json::to_string(&told).unwrap(),
            r#"{"told":"ended","status":143,"how":"signal 15"}"#
        );
        let told = Told::Refused { why: "it computes".into() };
        assert_eq!(
            serde_json::to_string(&told).unwrap(),
            r#"{"told":"refused","why":"it computes"}"#
        );
        let parked = Parked {
            guest_id: "0".repeat(32),
            sequence: 3,
            root: "0".repeat(64),
            deadline_ns: None,
            deadline_real_ns: Some(5),
            pages: 7,
        };
        let told = Told::Parked(parked);
        let text = serde_json::to_string(&told).unwrap();
        assert_eq!(serde_json::from_str::<Told>(&text).unwrap(), told);
    }

    #[test]
    fn unknown_fields_and_requests_are_refused() {
        for text in
            [r#"{"ask":"park","now":true}"#, r#"{"ask":"fly"}"#, "{}", "[]", r#"{"told":"status"}"#]
        {
            assert!(serde_json::from_str::<Request>(text).is_err(), "{text}");
            assert!(serde_json::from_str::<Told>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_message_or_one(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = serde_json::from_slice::<Request>(&bytes);
            let _ = serde_json::from_slice::<Told>(&bytes);
        }
    }
}
