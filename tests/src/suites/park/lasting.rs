//! Parking and waking again and again: monitors that are killed at any moment, and nothing that grows.
//!
//! The environment variable `DENALI_TEST_CYCLES` says how often, for runs of hours.

use super::keeping::kept;
use crate::backend::Backend;
use crate::guest::{PATIENCE, wait_until};
use crate::home::Home;
use crate::keeper::Keeper;
use crate::lines::{Checked, Lines};
use crate::process;
use crate::registry::Case;
use serde_json::{Value, json};
use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub fn cases() -> Vec<Case> {
    vec![
        Case::each("a_monitor_that_is_killed_leaves_the_old_state_or_the_new_one", killed),
        Case::each("monitors_that_wait_are_replaced", replaced),
        Case::each("neither_memory_nor_descriptors_nor_space_are_lost", lasts),
    ]
}

const NAME: &str = "guest";

/// How often, where the environment does not say.
pub fn cycles(usual: u64) -> u64 {
    std::env::var("DENALI_TEST_CYCLES").ok().and_then(|count| count.parse().ok()).unwrap_or(usual)
}

/// A number below `limit`, by chance.
fn chance(limit: u64) -> u64 {
    RandomState::new().build_hasher().finish() % limit
}

/// Some time below so many microseconds, by chance.
pub fn pause(most: u64) {
    std::thread::sleep(Duration::from_micros(chance(most)));
}

/// Kills the guest's monitor, if it has one, and sees its end.
fn kill(keeper: &Keeper) {
    let Some(process) = keeper.process_of(NAME) else { return };
    // Once it has been waited for, its number may be somebody else's.
    if process::children(keeper.pid()).contains(&process) {
        // SAFETY: a plain system call.
        unsafe { libc::kill(process as libc::pid_t, libc::SIGKILL) };
        wait_until("it has ended", || !process::exists(process));
    }
}

/// Has the guest check its memory, however often its monitor is killed meanwhile.
#[track_caller]
fn check(keeper: &Keeper) -> Checked {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = Lines::connect(keeper.address(NAME)).try_ask("check");
        if let Some(answer) = answer {
            return Checked::of(&answer);
        }
        assert_eq!(keeper.count(NAME, "ended"), 0, "{keeper}");
        assert!(Instant::now() < until, "no answer in {PATIENCE:?}: {keeper}");
    }
}

/// Arguments of a probe that is woken by its timer, checks all its memory and registers, changes some, and idles.
pub const RESTLESS: &str = "memory-hash 1 0.06";

/// Such a guest, which is parked each time.
pub fn restless(backend: Backend, configuration: Value) -> Value {
    let mut guest = kept(backend, configuration, NAME);
    guest["net"] = json!([]);
    guest["swap"]["park_after"] = json!("1ms");
    // A monitor comes 10 ms before its guest's timer goes off: then the guest is not parked once more.
    guest["swap"]["park_horizon"] = json!("15ms");
    guest
}

/// What such a guest prints.
pub struct Log {
    folder: PathBuf,
}

impl Log {
    /// That of a keeper with this home.
    pub fn of(home: &Home) -> Self {
        Self { folder: home.path("logs") }
    }

    /// Where the keeper is to put it.
    pub fn folder(&self) -> &str {
        self.folder.to_str().expect("UTF-8")
    }

    /// How often the guest had checked its memory, each time that it says so.
    #[track_caller]
    pub fn counts(&self) -> Vec<u64> {
        let text = fs::read_to_string(self.folder.join(format!("{NAME}.log"))).unwrap_or_default();
        assert!(!text.contains("bad") && !text.contains("FAILED"), "{text}");
        let count =
            |line: &str| line.strip_prefix("ok ")?.split_once(" generation ")?.0.parse().ok();
        text.lines().filter_map(count).collect()
    }

    /// Waits until the guest is parked in a state that has the last count so far, and gives that.
    #[track_caller]
    pub fn wait_for_state(&self, keeper: &Keeper) -> u64 {
        let known = self.counts().pop().unwrap_or(0);
        // Of two states that are told of from here on, the second at least is younger.
        let told = keeper.count(NAME, "parked");
        keeper.wait_for(NAME, "parked", told + 1);
        known
    }

    /// Waits until the guest has checked its memory again, and gives the first count after those before.
    #[track_caller]
    pub fn wait_for_more(&self, keeper: &Keeper, before: &[u64]) -> u64 {
        wait_until("the guest goes on", || {
            assert_eq!(keeper.count(NAME, "ended"), 0, "{keeper}");
            self.counts().len() > before.len()
        });
        self.counts()[before.len()]
    }
}

/// The monitor is killed; with `--go-back` the guest goes on from its last state in any case.
fn killed(backend: Backend) {
    let home = Home::new(2);
    let log = Log::of(&home);
    let guest = restless(backend, home.probe(RESTLESS));
    let keeper = Keeper::start(&home, &[guest], &["--go-back", "--logs", log.folder()]);
    for cycle in 0..cycles(60) {
        let known = log.wait_for_state(&keeper);
        pause(80_000);
        kill(&keeper);
        let before = log.counts();
        let next = log.wait_for_more(&keeper, &before);
        let range = known + 1..=before.last().map_or(1, |last| last + 1);
        assert!(range.contains(&next), "cycle {cycle}: {next}, not in {range:?}: {keeper}");
    }
    keeper.stop();
    assert!(home.regions().is_empty(), "{:?}", home.regions());
}

fn replaced(backend: Backend) {
    let home = Home::new(1);
    let guest = kept(backend, home.probe("memory-hash 1"), NAME);
    let keeper = Keeper::start(&home, &[guest], &["--pool", "2"]);
    keeper.wait_until_parked(NAME);
    for count in 1..=3 {
        wait_until("monitors wait", || process::children(keeper.pid()).len() == 2);
        for process in process::children(keeper.pid()) {
            // SAFETY: a plain system call, on a child of the keeper's, which waits.
            unsafe { libc::kill(process as libc::pid_t, libc::SIGKILL) };
        }
        assert_eq!(check(&keeper).count, count);
        keeper.wait_until_parked(NAME);
    }
    keeper.stop();
}

/// What a keeper with its guests has at a time when nothing happens.
#[derive(Debug)]
struct Has {
    memory_kib: u64,
    descriptors: usize,
    children: usize,
    /// Blocks of 512 bytes that the guest's region takes.
    blocks: u64,
    /// Guests that are remembered on disk.
    remembered: usize,
}

impl Has {
    fn now(keeper: &Keeper, home: &Home, state: &Path) -> Self {
        let memory = process::status(keeper.pid(), "VmRSS");
        let memory = memory.split(' ').next().and_then(|kib| kib.parse().ok());
        let blocks = |path| fs::metadata(path).expect("a region").blocks();
        let remembered = fs::read_dir(state).expect("the state").flatten();
        Self {
            memory_kib: memory.expect("a number of KiB"),
            descriptors: process::descriptors(keeper.pid()).expect("the keeper is there").len(),
            children: process::children(keeper.pid()).len(),
            blocks: home.regions().into_iter().map(blocks).sum(),
            // Files that are just being written are called otherwise.
            remembered: remembered
                .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
                .count(),
        }
    }
}

fn lasts(backend: Backend) {
    /// More than allocators differ by, and far less than a page for each of many cycles.
    const SLACK_KIB: u64 = 512;
    let home = Home::new(2);
    let mut guest = kept(backend, home.parkable("memory-hash 1"), NAME);
    guest["swap"]["park_after"] = "1ms".into();
    let state = home.path("state");
    let keeper =
        Keeper::start(&home, &[guest], &["--state", state.to_str().expect("UTF-8"), "--pool", "2"]);
    let (warm_up, cycles) = (10, cycles(60));
    keeper.wait_until_parked(NAME);
    let mut before = None;
    for cycle in 1..=warm_up + cycles {
        assert_eq!(check(&keeper).count, cycle);
        // What was told of the last time may be all that has been heard yet.
        keeper.wait_for(NAME, "parked", cycle as usize);
        if cycle == warm_up || cycle == warm_up + cycles {
            wait_until("monitors wait", || process::children(keeper.pid()).len() == 2);
            let now = Has::now(&keeper, &home, &state);
            let before = before.get_or_insert(now);
            let now = Has::now(&keeper, &home, &state);
            assert!(now.memory_kib <= before.memory_kib + SLACK_KIB, "{before:?} {now:?}");
            let counts = |has: &Has| (has.children, has.blocks, has.remembered);
            assert_eq!(counts(&now), counts(before));
            // A monitor that has ended, or is being made, has some for a moment.
            let most = before.descriptors;
            wait_until("no descriptors are lost", || {
                Has::now(&keeper, &home, &state).descriptors <= most
            });
        }
    }
    assert_eq!(keeper.count(NAME, "parked") as u64, warm_up + cycles + 1);
    keeper.stop();
}
