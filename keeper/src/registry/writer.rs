//! The thread that writes the registry: of each guest what was told last, as much as has come at a time.

use super::Record;
use super::table::Table;
use denali_swap::GuestId;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::Duration;

/// Most records that share one wait for the disk: nobody's is done before.
const AT_ONCE: usize = 1024;

/// How long after a failure it is tried again, and how often at the end.
const PAUSE: Duration = Duration::from_millis(500);
const LAST_TRIES: u32 = 3;

/// The thread, and what is to be done by it.
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    to_do: Mutex<ToDo>,
    changed: Condvar,
}

/// What is to be done: for a guest the last that was asked for, and that alone.
#[derive(Default)]
struct ToDo {
    jobs: HashMap<GuestId, Job>,
    order: VecDeque<GuestId>,
    /// What the thread is at.
    begun: Arc<HashMap<GuestId, Job>>,
    /// There will be no more.
    over: bool,
    /// Failures since the last success.
    failures: u32,
    problem: Option<String>,
}

#[derive(Clone, Debug)]
enum Job {
    Put(Box<Record>),
    Remove,
}

impl Writer {
    pub(super) fn start(table: Arc<Table>) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let threads = shared.clone();
        let thread =
            Builder::new().name("registry".into()).spawn(move || work(&table, &threads))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(super) fn put(&self, record: Record) {
        self.add(record.id, Job::Put(Box::new(record)));
    }

    pub(super) fn remove(&self, id: GuestId) {
        self.add(id, Job::Remove);
    }

    fn add(&self, id: GuestId, job: Job) {
        let mut to_do = self.shared.lock();
        to_do.add(id, job);
        // One that has work looks again by itself.
        if to_do.order.len() == 1 {
            self.shared.changed.notify_one();
        }
    }

    /// Whether all that was to be done for a guest is done, as far as it can be.
    pub(super) fn is_done_with(&self, id: GuestId) -> bool {
        let to_do = self.shared.lock();
        let fails = to_do.failures > 0;
        fails || (!to_do.jobs.contains_key(&id) && !to_do.begun.contains_key(&id))
    }

    pub(super) fn take_problem(&self) -> Option<String> {
        self.shared.lock().problem.take()
    }

    /// What is to be written of a guest, if something is.
    pub(super) fn unwritten(&self, id: GuestId) -> Option<Record> {
        let to_do = self.shared.lock();
        match to_do.jobs.get(&id).or_else(|| to_do.begun.get(&id))? {
            Job::Put(record) => Some(Record::clone(record)),
            Job::Remove => None,
        }
    }

    /// Waits until everything is done, as far as it can be.
    pub(super) fn finish(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_one();
        // A thread that panicked has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.finish();
    }
}

impl ToDo {
    fn add(&mut self, id: GuestId, job: Job) {
        if self.jobs.insert(id, job).is_none() {
            self.order.push_back(id);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, ToDo> {
        self.to_do.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for jobs, and takes those that have waited longest; none at the end.
    fn begin(&self) -> Arc<HashMap<GuestId, Job>> {
        let mut to_do = self.lock();
        while to_do.order.is_empty() && !to_do.over {
            to_do = self.changed.wait(to_do).unwrap_or_else(PoisonError::into_inner);
        }
        let count = to_do.order.len().min(AT_ONCE);
        let ToDo { jobs, order, begun, .. } = &mut *to_do;
        let taken = order.drain(..count).filter_map(|id| jobs.remove_entry(&id));
        *begun = Arc::new(taken.collect());
        begun.clone()
    }

    fn done(&self) {
        let mut to_do = self.lock();
        to_do.begun = Arc::default();
        to_do.failures = 0;
    }

    /// Takes jobs back that could not be done, unless there are newer ones; whether to go on.
    fn failed(&self, why: String) -> bool {
        let mut to_do = self.lock();
        let begun = std::mem::take(&mut to_do.begun);
        for (id, job) in begun.iter() {
            if !to_do.jobs.contains_key(id) {
                to_do.add(*id, job.clone());
            }
        }
        to_do.failures += 1;
        if to_do.failures == 1 {
            to_do.problem = Some(why);
        }
        !(to_do.over && to_do.failures >= LAST_TRIES)
    }
}

fn work(table: &Table, shared: &Shared) {
    loop {
        let jobs = shared.begin();
        if jobs.is_empty() {
            return;
        }
        match carry_out(table, &jobs) {
            Ok(()) => shared.done(),
            Err(why) => match shared.failed(why) {
                true => sleep(PAUSE),
                false => return,
            },
        }
    }
}

fn carry_out(table: &Table, jobs: &HashMap<GuestId, Job>) -> Result<(), String> {
    let mut changes = Vec::with_capacity(jobs.len());
    for (id, job) in jobs {
        let record = match job {
            Job::Put(record) => Some(record.to_json().map_err(|error| error.to_string())?),
            Job::Remove => None,
        };
        changes.push((*id, record));
    }
    table.write(changes)
}

#[cfg(test)]
mod tests {
    use super::super::record::Life;
    use super::super::record::tests::record;
    use super::*;
    use std::thread::yield_now;

    fn parsed(table: &Table, id: GuestId) -> Record {
        Record::parse(&table.get(id).unwrap().unwrap(), id).unwrap()
    }

    #[test]
    fn of_many_records_of_a_guest_the_last_is_written_and_known_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let table = Arc::new(Table::open(&folder.path().join("registry")).unwrap());
        let parked = Life::Parked { deadline_real_ns: None, pages: 7, interrupted: false };
        let (first, other) = (record(1, parked), record(2, parked));
        let last = Record { life: Life::Running {}, ..first.clone() };
        let writer = Writer::start(table.clone()).unwrap();
        for _ in 0..100 {
            writer.put(first.clone());
            writer.put(last.clone());
        }
        writer.put(other.clone());
        assert!(writer.unwritten(other.id).is_none_or(|record| record == other));
        assert!(writer.shared.lock().order.len() <= 2, "one job for each guest");
        while !writer.is_done_with(first.id) || !writer.is_done_with(other.id) {
            yield_now();
        }
        assert!(writer.is_done_with(GuestId([3; 16])));
        assert_eq!((parsed(&table, last.id), parsed(&table, other.id)), (last, other));
        assert_eq!(writer.take_problem(), None);
    }

    #[test]
    fn what_cannot_be_written_is_told_once_and_tried_again() {
        let shared = Shared::default();
        let job = |life| Job::Put(Box::new(record(1, life)));
        let (old, new) = (
            Life::Running {},
            Life::Parked { deadline_real_ns: None, pages: 7, interrupted: false },
        );
        let id = record(1, old).id;
        for why in ["full", "full still"] {
            shared.lock().add(id, job(old));
            shared.begin();
            assert!(shared.failed(why.into()));
        }
        assert_eq!(shared.lock().problem.take(), Some("full".into()));
        shared.begin();
        shared.lock().add(id, job(new));
        shared.failed("full still".into());
        let jobs = shared.begin();
        assert!(matches!(&jobs[&id], Job::Put(record) if record.life == new), "the newer");
        shared.lock().over = true;
        assert!(!shared.failed("full still".into()), "not for ever");
        shared.done();
        let to_do = shared.lock();
        assert_eq!((to_do.failures, &to_do.problem), (0, &None));
    }
}
