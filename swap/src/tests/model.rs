//! The store against a map, by arbitrary steps and with disks that fail.

use super::backends::{Faults, Files, Medium, Memory};
use super::{TestStore, content, format, open, options};
use crate::{Commit, Options, PAGE, PageNumber, StoreError};
use denali_disk::DiskOptions;
use proptest::prelude::*;
use std::collections::BTreeMap;

const CAPACITY: u32 = 150;
const PAGES: u32 = 170;

/// Versions of pages.
type Pages = BTreeMap<u32, u32>;

#[derive(Clone, Debug)]
enum Step {
    /// So many pages from this one on.
    Put(u32, u32),
    Forget(u32, u32),
    Read(Vec<u32>),
    Cluster(u32, usize),
    Flush,
    Commit(Vec<u32>),
    Reopen,
    /// The next but so many writes fail.
    WritesFail(u32, u32),
    ReadsFail(u32),
    ReadsAreWrong(u32),
    ReadsAreCut(u32),
    FlushFails,
}

fn step() -> impl Strategy<Value = Step> {
    let page = || 0..PAGES;
    prop_oneof![
        6 => (page(), 1..100_u32).prop_map(|(page, count)| Step::Put(page, count)),
        3 => (page(), 1..60_u32).prop_map(|(page, count)| Step::Forget(page, count)),
        3 => prop::collection::vec(page(), 1..80).prop_map(Step::Read),
        1 => (page(), 0..20_usize).prop_map(|(page, most)| Step::Cluster(page, most)),
        3 => Just(Step::Flush),
        3 => prop::collection::vec(page(), 0..8).prop_map(Step::Commit),
        2 => Just(Step::Reopen),
        1 => (0..6_u32, 1..3_u32).prop_map(|(before, count)| Step::WritesFail(before, count)),
        1 => (1..3_u32).prop_map(Step::ReadsFail),
        1 => (1..3_u32).prop_map(Step::ReadsAreWrong),
        1 => (1..3_u32).prop_map(Step::ReadsAreCut),
        1 => Just(Step::FlushFails),
    ]
}

/// What was committed: what is known of it, its pages, and how often something was.
#[derive(Clone)]
struct Committed {
    commit: Commit,
    pages: Pages,
    working_set: Vec<u32>,
    number: u32,
}

/// A store, and what it is to contain.
struct Model<'a, M: Medium> {
    medium: &'a M,
    region: Options,
    store: Option<TestStore<M>>,
    pages: Pages,
    batch: Pages,
    committed: Option<Committed>,
    /// What a commit that failed at a bad moment may have left.
    uncertain: Option<Pages>,
    version: u32,
    commits: u32,
}

impl<'a, M: Medium> Model<'a, M> {
    fn new(medium: &'a M, region: Options) -> Self {
        Self {
            medium,
            region,
            store: Some(format(medium, &region)),
            pages: Pages::new(),
            batch: Pages::new(),
            committed: None,
            uncertain: None,
            version: 0,
            commits: 0,
        }
    }

    fn faults(&self) -> &Faults {
        self.medium.faults()
    }

    fn store(&mut self) -> &mut TestStore<M> {
        self.store.as_mut().unwrap()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put(first, count) => self.put(first..(first + count).min(PAGES)),
            Step::Forget(first, count) => {
                for page in first..(first + count).min(PAGES) {
                    self.store().forget(PageNumber(page));
                    self.pages.remove(&page);
                    self.batch.remove(&page);
                }
            }
            Step::Read(pages) => self.read(&pages),
            Step::Cluster(page, most) => self.cluster(page, most),
            Step::Flush => {
                let flushed = self.store().flush();
                self.flushed(flushed.is_ok());
            }
            Step::Commit(working_set) => self.commit(&working_set),
            Step::Reopen => self.reopen(),
            Step::WritesFail(before, count) => {
                self.faults().writes_before.set(before);
                self.faults().writes_failing.set(count);
            }
            Step::ReadsFail(count) => self.faults().reads_failing.set(count),
            Step::ReadsAreWrong(count) => self.faults().reads_wrong.set(count),
            Step::ReadsAreCut(count) => self.faults().reads_cut.set(count),
            Step::FlushFails => self.faults().flushes_failing.set(1),
        }
        let pages: Vec<_> = self.store().pages().map(|page| page.0).collect();
        assert!(self.pages.keys().copied().eq(pages));
        assert_eq!(self.store().len(), self.pages.len());
        assert!(self.store().room() <= CAPACITY as usize - self.pages.len() - self.batch.len());
    }

    fn put(&mut self, pages: std::ops::Range<u32>) {
        for page in pages {
            self.version += 1;
            let room = self.store().room();
            let version = self.version;
            match self.store().put(PageNumber(page), &content(page, version)) {
                Ok(()) => drop(self.batch.insert(page, version)),
                Err(StoreError::Full) => assert_eq!(room, 0),
                Err(StoreError::ReadOnly) => self.batch.clear(),
                Err(StoreError::Write) => self.batch.clear(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn flushed(&mut self, done: bool) {
        let batch = std::mem::take(&mut self.batch);
        if done {
            self.pages.extend(batch);
        }
    }

    fn read(&mut self, pages: &[u32]) {
        let wanted: Vec<_> = pages.iter().map(|&page| PageNumber(page)).collect();
        let mut bytes = vec![7; wanted.len() * PAGE];
        let outcome = self.store().read(&wanted, &mut bytes);
        let absent = pages.iter().find(|page| !self.pages.contains_key(page));
        match outcome {
            Ok(()) => {
                assert_eq!(absent, None);
                for (page, bytes) in pages.iter().zip(bytes.chunks(PAGE)) {
                    assert_eq!(bytes, content(*page, self.pages[page]), "{page}");
                }
            }
            Err(StoreError::Absent(page)) => assert_eq!(Some(&page.0), absent),
            Err(StoreError::Page(page) | StoreError::Read(page)) => {
                assert!(pages.contains(&page.0));
                assert!(bytes.iter().all(|&byte| byte == 0));
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn cluster(&mut self, page: u32, most: usize) {
        let cluster = self.store().cluster(PageNumber(page), most);
        assert!(cluster.len() <= most);
        let contained = self.pages.contains_key(&page) && most > 0;
        assert_eq!(cluster.contains(&PageNumber(page)), contained);
        assert!(cluster.iter().all(|page| self.pages.contains_key(&page.0)));
    }

    fn commit(&mut self, working_set: &[u32]) {
        self.commits += 1;
        let state = self.commits.to_le_bytes();
        let wanted: Vec<_> = working_set.iter().map(|&page| PageNumber(page)).collect();
        let outcome = self.store().commit(&state, &wanted);
        let mut flushed = self.pages.clone();
        flushed.append(&mut self.batch.clone());
        match outcome {
            Ok(commit) => {
                self.flushed(true);
                self.note_commit(commit, working_set);
            }
            // Before or after the batch was written.
            Err(StoreError::Write) => {
                let pages: Vec<_> = self.store().pages().map(|page| page.0).collect();
                let done = flushed.keys().copied().eq(pages);
                let read = |model: &mut Self, page: u32| {
                    let mut bytes = [0; PAGE];
                    model.store().read(&[PageNumber(page)], &mut bytes).map(|()| bytes)
                };
                self.medium.faults().none();
                let is_new = |model: &mut Self, (page, version): (u32, u32)| {
                    read(model, page).is_ok_and(|bytes| bytes == content(page, version))
                };
                let first = self.batch.first_key_value().map(|(&page, &version)| (page, version));
                let done = done && first.is_none_or(|first| is_new(self, first));
                self.flushed(done);
            }
            Err(StoreError::ReadOnly) => {
                if self.uncertain.is_none() {
                    self.flushed(true);
                    self.uncertain = Some(self.pages.clone());
                }
                self.batch.clear();
            }
            Err(StoreError::Page(_) | StoreError::Read(_)) => self.flushed(true),
            Err(error) => panic!("{error}"),
        }
    }

    fn note_commit(&mut self, commit: Commit, working_set: &[u32]) {
        assert_eq!(commit, self.store().last_commit());
        let mut kept = Vec::new();
        for page in working_set {
            if self.pages.contains_key(page) && !kept.contains(page) {
                kept.push(*page);
            }
        }
        let (pages, number) = (self.pages.clone(), self.commits);
        self.committed = Some(Committed { commit, pages, working_set: kept, number });
    }

    fn reopen(&mut self) {
        self.faults().none();
        self.store = None;
        self.batch.clear();
        let known = self.committed.as_ref().map(|committed| committed.commit);
        let opened = open(self.medium, &self.region, known);
        let uncertain = self.uncertain.take();
        let Ok(opened) = opened else {
            assert!(self.committed.is_none());
            self.store = Some(format(self.medium, &self.region));
            self.pages.clear();
            return;
        };
        self.store = Some(opened.store);
        if Some(opened.commit) == known {
            let committed = self.committed.clone().unwrap();
            assert_eq!(opened.state, committed.number.to_le_bytes());
            assert!(opened.working_set.iter().map(|page| page.0).eq(committed.working_set));
            self.pages = committed.pages;
        } else {
            let number = u32::from_le_bytes(opened.state.try_into().unwrap());
            self.pages = uncertain.expect("a successor of what is known");
            let working_set = opened.working_set.iter().map(|page| page.0).collect();
            let (commit, pages) = (opened.commit, self.pages.clone());
            self.committed = Some(Committed { commit, pages, working_set, number });
        }
        let all: Vec<_> = self.pages.keys().copied().collect();
        self.read(&all);
    }
}

fn run<M: Medium>(medium: &M, region: Options, steps: Vec<Step>) {
    let mut model = Model::new(medium, region);
    steps.into_iter().for_each(|step| model.step(step));
    model.step(Step::Reopen);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_a_map_in_memory(
        steps in prop::collection::vec(step(), 1..60),
        encrypt in any::<bool>(),
    ) {
        let region = Options { encrypt, ..options(CAPACITY) };
        run(&Memory::new(&region), region, steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_a_map_on_disks(
        steps in prop::collection::vec(step(), 1..40),
        count in 1..4_usize,
        direct in any::<bool>(),
    ) {
        let region = options(CAPACITY);
        let disk = DiskOptions { direct, ..DiskOptions::default() };
        run(&Files::new(count, disk, &region), region, steps);
    }
}
