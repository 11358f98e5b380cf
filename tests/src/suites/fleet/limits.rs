//! More guests than a host or a tenant may have in memory, and disks that are full or fail.

use super::orders::listen;
use crate::backend::Backend;
use crate::guest::{PATIENCE, wait_until};
use crate::lines::Lines;
use crate::loops::{Loop, private_mounts};
use crate::registry::{Case, Need};
use crate::supervisor::{Host, Supervisor, create};
use denali_client::{Action, Create, GuestState, What};
use serde_json::{Value, json};
use std::fs;

pub fn cases() -> Vec<Case> {
    let on_disk = |name, body| Case::each(name, body).needs(Need::LoopDevices);
    vec![
        Case::each("more_guests_than_may_run_all_answer_in_turn", crowd),
        Case::each("a_tenant_has_what_it_may_have_and_no_more", tenants),
        on_disk("a_swap_folder_that_is_full_is_found_when_guests_are_created", full),
        on_disk("a_guest_whose_disk_fails_is_given_up_and_no_other", fails),
    ]
}

/// Guests that have monitors.
fn alive(supervisor: &Supervisor<'_>) -> usize {
    let guests = supervisor.client().list::<&str>(&[]).expect("it lists");
    guests.filter(|guest| guest.as_ref().expect("a guest").pid.is_some()).count()
}

fn crowd(backend: Backend) {
    const GUESTS: u32 = 4;
    let host = Host::new(backend).with("max_running", 2);
    let supervisor = host.start();
    let events = listen(&supervisor);
    let outcomes = supervisor.create(&create("guest", GUESTS, host.probe()));
    assert!(outcomes.iter().all(|outcome| outcome.error.is_none()), "{outcomes:?}");
    for count in 1..=2 {
        for number in 1..=GUESTS {
            assert_eq!(supervisor.check(&format!("guest-{number}")).count, count);
            assert!(alive(&supervisor) <= 2);
        }
    }
    // All at once: each is answered when there is room for it.
    let names: Vec<String> = (1..=GUESTS).map(|number| format!("guest-{number}")).collect();
    let mut all: Vec<Lines> =
        names.iter().map(|name| Lines::connect(supervisor.address(name))).collect();
    all.iter_mut().for_each(|lines| lines.say("check"));
    for lines in &mut all {
        assert!(lines.hear().starts_with("ok 3 "));
    }
    drop(all);
    let view = supervisor.client().host().expect("it tells of the host");
    assert!(view.gate.evicted >= 6 && view.gate.max_running == 2, "{view:?}");
    let decided = |word: &str| {
        let until = std::time::Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(std::time::Instant::now());
            let event = events.recv_timeout(left).expect("a decision is told");
            if let What::Gate { decision } = &event.what
                && decision.contains(word)
            {
                assert!(names.contains(&event.guest), "{event:?}");
                return decision.clone();
            }
        }
    };
    let evicted = decided("parks");
    assert!(evicted.contains("2 guests may be in memory"), "it says why: {evicted}");
    supervisor.stop();
}

fn tenants(backend: Backend) {
    let quota = json!({ "alice": { "guests": 2, "running": 1 } });
    let host = Host::new(backend).with("tenants", quota);
    let supervisor = host.start();
    let of = |tenant: &str, name: &str, count| Create {
        tenant: tenant.into(),
        ..create(name, count, host.probe())
    };
    let outcomes = supervisor.create(&of("alice", "hers", 3));
    let errors: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.error.clone()).collect();
    assert_eq!(errors.len(), 1, "{outcomes:?}");
    assert!(errors[0].message.contains("alice may have 2 guests"), "{errors:?}");
    assert!(supervisor.create(&of("bob", "his", 2)).iter().all(|outcome| outcome.error.is_none()));
    let running = |pattern: &str| {
        let guests = supervisor.client().list(&[pattern]).expect("it lists");
        guests.filter(|guest| guest.as_ref().expect("a guest").pid.is_some()).count()
    };
    for count in 1..=2 {
        for name in ["hers-1", "hers-2", "his-1", "his-2"] {
            assert_eq!(supervisor.check(name).count, count, "{name}");
            assert!(running("hers-*") <= 1);
        }
    }
    assert_eq!(running("his-*"), 2, "what others may not have is nothing to him");
    supervisor.must(Action::Remove, &["hers-1"]);
    let outcomes = supervisor.create(&of("alice", "next", 1));
    assert!(outcomes[0].error.is_none(), "there is room again: {outcomes:?}");
    supervisor.stop();
}

/// A guest on this disk.
fn on(disk: &Loop, mut guest: Value) -> Value {
    guest["swap"] = json!({ "stripes": [disk.folder()] });
    guest
}

fn full(backend: Backend) {
    private_mounts(|| {
        let disk = Loop::new(96 << 20);
        let host = Host::new(backend);
        let supervisor = host.start();
        let mut guest = on(&disk, host.probe());
        guest["memory"] = json!("32MiB");
        let outcomes = supervisor.create(&create("guest", 4, guest.clone()));
        let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.error.is_some()).collect();
        assert_eq!(failed.len(), 1, "the rest is not tried: {outcomes:?}");
        let (made, problem) = (outcomes.len() - 1, failed[0].error.clone().expect("an error"));
        assert!((1..3).contains(&made), "{outcomes:?}");
        assert_eq!(problem.status, 124);
        let folder = disk.folder();
        assert!(problem.message.contains(folder.to_str().expect("UTF-8")), "{problem:?}");
        assert!(!problem.message.contains('\n'), "{problem:?}");
        let regions = || {
            let names = fs::read_dir(&folder).expect("a folder").flatten();
            names.filter(|entry| entry.file_name().to_string_lossy().ends_with(".swap")).count()
        };
        assert_eq!(regions(), made, "nothing is left of what could not be made");
        let list = supervisor.client().list::<&str>(&[]).expect("it lists");
        assert_eq!(list.count(), made);
        for count in 1..=2 {
            assert_eq!(supervisor.check("guest-1").count, count);
            supervisor.must(Action::Park, &["guest-1"]);
        }
        supervisor.must(Action::Remove, &["*"]);
        assert_eq!(regions(), 0);
        // Its file system may take a moment to give room back.
        wait_until("there is room again", || {
            let made = supervisor.client().create(&create("again", 1, guest.clone()));
            made.is_ok_and(|mut outcomes| {
                outcomes.all(|outcome| outcome.expect("an outcome").error.is_none())
            })
        });
        assert_eq!(supervisor.check("again").count, 1);
        supervisor.stop();
    });
}

fn fails(backend: Backend) {
    private_mounts(|| {
        let disk = Loop::new(96 << 20);
        let host = Host::new(backend);
        let supervisor = host.start();
        supervisor.add("poor", on(&disk, host.probe()));
        supervisor.add("other", host.probe());
        for name in ["poor", "other"] {
            assert_eq!(supervisor.check(name).count, 1);
        }
        supervisor.must(Action::Park, &["poor", "other"]);
        disk.lose();
        let outcome = supervisor.act(Action::Wake, &["poor"]).remove(0);
        let problem = outcome.error.expect("its memory is no more");
        assert!(!problem.message.contains('\n'), "{problem:?}");
        let view = supervisor.view("poor");
        assert_eq!((view.state, view.note), (GuestState::Failed, Some(problem.message)));
        for count in 2..=3 {
            assert_eq!(supervisor.check("other").count, count);
            supervisor.must(Action::Park, &["other"]);
        }
        supervisor.stop();
    });
}
