//! A test in the sandbox that a monitor has.

use super::support::*;
use crate::{IOCTLS, Limit, Pager, SYSTEM_CALLS};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::time::Duration;

#[test]
fn the_pager_calls_what_it_lists_and_nothing_else() {
    let this = "tests::sandbox::the_pager_calls_what_it_lists_and_nothing_else";
    if moving_uffd().is_some() && alone(this) {
        page_in_a_sandbox();
    }
}

/// Has this thread, and those it makes, call nothing but what pagers and this test need.
fn enter() {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        SYSTEM_CALLS.iter().map(|(call, _)| (*call, Vec::new())).collect();
    let request = |(request, _): &(u64, _)| {
        let (length, operator) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
        let condition = SeccompCondition::new(1, length, operator, *request).unwrap();
        SeccompRule::new(vec![condition]).unwrap()
    };
    rules.insert(libc::SYS_ioctl, IOCTLS.iter().map(request).collect());
    // A monitor's sandbox answers that there is none.
    rules.insert(libc::SYS_clone3, Vec::new());
    // This test sleeps while the pager works.
    rules.insert(libc::SYS_clock_nanosleep, Vec::new());
    let (refuse, allow) = (SeccompAction::KillProcess, SeccompAction::Allow);
    let filter = SeccompFilter::new(rules, refuse, allow, TargetArch::x86_64).unwrap();
    seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

fn page_in_a_sandbox() {
    let (first, second) = (uffd().unwrap(), uffd().unwrap());
    let (guest, large) = (Guest::new(1000), Guest::new(1000));
    enter();
    let (mut setup, failure) = setup(first, &guest, MapStore::of((0..500).map(|n| (n, 7))));
    setup.policy.complete_after = Some(Duration::from_millis(1));
    let pager = Pager::start(setup).unwrap();
    assert!(guest.is(300, 7) && guest.is(600, 0));
    wait_until_done(&pager);
    drop(pager.stop());
    let (mut setup, failure_of_large) = self::setup(second, &large, MapStore::default());
    setup.limit = Some(Limit { pinned: vec![page(1)], ..super::failing::limit(100) });
    let pager = Pager::start(setup).unwrap();
    for round in 1..4 {
        (0..1000).for_each(|n| large.set(n, round));
        assert!((0..1000).all(|n| large.is(n, round)));
    }
    drop(pager.stop());
    assert!(failure.try_recv().is_err() && failure_of_large.try_recv().is_err());
}
