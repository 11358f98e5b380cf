//! For fuzzing: what the registry reads, and what monitors say, without a keeper.

use crate::clock;
use crate::guest::commit_of;
use crate::registry::{Life, Record};
use crate::wheel::Wheel;
use denali_client::Desired;
use denali_control::Parked;
use denali_swap::GuestId;

/// The guest whose records are read.
const GUEST: GuestId = GuestId([1; 16]);

/// What a record says, written down again; `None` if it is none, or another guest's.
#[must_use]
pub fn rewrite_record(text: &[u8]) -> Option<Vec<u8>> {
    let record = Record::parse(text, GUEST).ok()?;
    Some(record.to_json().expect("a record that was read can be written"))
}

/// Does with what a monitor says when it parks its guest what the keeper does: remembers it, and sets the guest's
/// timer.
///
/// # Panics
/// When what is remembered is not read as it was written, or the timer goes off too early or never.
pub fn hear_of(parked: &Parked) {
    let Some(commit) = commit_of(parked, None) else { return };
    assert!(commit.sequence > 0 && commit_of(parked, Some(commit)).is_none());
    let deadline_real_ns = parked.deadline_ns.map(clock::real_of_boot);
    let record = Record {
        id: GUEST,
        name: "guest".into(),
        number: 0,
        tenant: "default".into(),
        template: None,
        desired: Desired::Running,
        note: None,
        image: String::new(),
        configuration: "{}".into(),
        commit: Some(commit),
        life: Life::Parked { deadline_real_ns, pages: parked.pages, interrupted: false },
    };
    let text = record.to_json().expect("records can be written");
    assert_eq!(Record::parse(&text, GUEST), Ok(record));
    if let Some(deadline_ns) = parked.deadline_ns {
        let mut wheel = Wheel::new(clock::boot_ns());
        wheel.set(0, deadline_ns);
        let (mut due, next) = (Vec::new(), wheel.next_ns().expect("a timer is set"));
        wheel.advance(next.saturating_sub(1), &mut due);
        assert!(due.is_empty(), "nothing is due before {next}");
        wheel.advance(u64::MAX, &mut due);
        assert_eq!(due, [0]);
    }
}
