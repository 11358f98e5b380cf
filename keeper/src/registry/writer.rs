//! The thread that writes the registry: in order, and each file so that it is whole whatever happens.

use super::{Record, name_of};
use denali_swap::GuestId;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

/// Most jobs that share one wait for the folder: nobody's is done before.
const AT_ONCE: usize = 16;

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
    /// Guests whose jobs the thread is at.
    begun: Vec<GuestId>,
    /// There will be no more.
    over: bool,
    problem: Option<String>,
}

enum Job {
    Put(Box<Record>),
    Remove,
}

impl Writer {
    pub(super) fn start(folder: OwnedFd) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let threads = shared.clone();
        let thread =
            Builder::new().name("registry".into()).spawn(move || work(&folder, &threads))?;
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
        if to_do.jobs.insert(id, job).is_none() {
            to_do.order.push_back(id);
        }
        self.shared.changed.notify_one();
    }

    /// Whether all that was to be done for a guest is done, as far as it can be.
    pub(super) fn is_done_with(&self, id: GuestId) -> bool {
        let to_do = self.shared.lock();
        !to_do.jobs.contains_key(&id) && !to_do.begun.contains(&id)
    }

    pub(super) fn take_problem(&self) -> Option<String> {
        self.shared.lock().problem.take()
    }

    /// Waits until everything is done.
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, ToDo> {
        self.to_do.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for jobs, and takes those that have waited longest; none at the end.
    fn begin(&self) -> Vec<(GuestId, Job)> {
        let mut to_do = self.lock();
        while to_do.order.is_empty() && !to_do.over {
            to_do = self.changed.wait(to_do).unwrap_or_else(PoisonError::into_inner);
        }
        let count = to_do.order.len().min(AT_ONCE);
        to_do.begun = to_do.order.drain(..count).collect();
        let ToDo { jobs, begun, .. } = &mut *to_do;
        begun.iter().filter_map(|id| jobs.remove_entry(id)).collect()
    }

    fn end(&self, problem: Option<String>) {
        let mut to_do = self.lock();
        to_do.begun.clear();
        to_do.problem = problem.or(to_do.problem.take());
    }
}

fn work(folder: &OwnedFd, shared: &Shared) {
    loop {
        let jobs = shared.begin();
        if jobs.is_empty() {
            return;
        }
        let mut problem = None;
        for (id, job) in jobs {
            problem = carry_out(folder, id, job).err().map(|error| error.to_string()).or(problem);
        }
        if let Err(error) = fsync(folder) {
            problem = Some(error.desc().to_owned());
        }
        shared.end(problem);
    }
}

fn carry_out(folder: &OwnedFd, id: GuestId, job: Job) -> io::Result<()> {
    match job {
        Job::Remove => match unlinkat(folder, name_of(id).as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error.into()),
        },
        Job::Put(record) => {
            let name = name_of(id);
            let temporary = format!(".new-{name}");
            let written = write(folder, &temporary, &record.to_json()?)
                .and_then(|()| Ok(renameat(folder, temporary.as_str(), folder, name.as_str())?));
            if written.is_err() {
                let _ = unlinkat(folder, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
            }
            written
        }
    }
}

/// Writes a file to the disk under a name that nobody looks for.
fn write(folder: &OwnedFd, name: &str, content: &[u8]) -> io::Result<()> {
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(folder, name, flags, Mode::from_bits_retain(0o600))?);
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::record::Life;
    use super::super::record::tests::record;
    use super::*;
    use std::thread::yield_now;

    /// A pipe stands where the first record is to be written, at which the thread waits until the test reads it.
    #[test]
    fn of_many_records_of_a_guest_the_last_is_written_and_known_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let parked = Life::Parked { deadline_real_ns: None, pages: 7 };
        let (first, other) = (record(1, parked), record(2, parked));
        let last = Record { life: Life::Running {}, ..first.clone() };
        let pipe = folder.path().join(format!(".new-{}", name_of(first.id)));
        nix::unistd::mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let writer = Writer::start(File::open(folder.path()).unwrap().into()).unwrap();
        writer.put(first.clone());
        while writer.shared.lock().begun.is_empty() {
            yield_now();
        }
        writer.put(other.clone());
        for _ in 0..100 {
            writer.put(first.clone());
            writer.put(last.clone());
        }
        assert_eq!(writer.shared.lock().order.len(), 2, "one job for each guest");
        assert!(!writer.is_done_with(first.id) && !writer.is_done_with(other.id));
        assert!(writer.is_done_with(GuestId([3; 16])));
        std::fs::read(&pipe).unwrap();
        while !writer.is_done_with(first.id) || !writer.is_done_with(other.id) {
            yield_now();
        }
        for record in [last, other] {
            let text = std::fs::read(folder.path().join(name_of(record.id))).unwrap();
            assert_eq!(Record::parse(&text, record.id), Ok(record));
        }
        assert!(writer.take_problem().is_some(), "a pipe cannot be synced");
    }
}
