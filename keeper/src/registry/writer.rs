//! The thread that writes the registry: in order, and each file so that it is whole whatever happens.

use super::{Record, name_of};
use denali_swap::GuestId;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

/// The thread, and what is to be done by it.
pub(super) struct Writer {
    /// `None` once there is no more to be done.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    problem: Arc<Mutex<Option<String>>>,
}

enum Job {
    Put(Box<Record>),
    Remove(GuestId),
}

impl Writer {
    pub(super) fn start(folder: OwnedFd) -> io::Result<Self> {
        let (jobs, to_do) = channel();
        let problem = Arc::new(Mutex::new(None));
        let told = problem.clone();
        let thread = Builder::new().name("registry".into()).spawn(move || {
            work(&folder, &to_do, &|why| {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
            });
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), problem })
    }

    pub(super) fn put(&self, record: Record) {
        self.add(Job::Put(Box::new(record)));
    }

    pub(super) fn remove(&self, id: GuestId) {
        self.add(Job::Remove(id));
    }

    fn add(&self, job: Job) {
        // The thread takes jobs as long as this lives.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
    }

    pub(super) fn take_problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits until everything is done.
    pub(super) fn finish(&mut self) {
        self.jobs = None;
        // A thread that panicked has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.finish();
    }
}

fn work(folder: &OwnedFd, to_do: &Receiver<Job>, failed: &dyn Fn(String)) {
    while let Ok(first) = to_do.recv() {
        // What has gathered meanwhile shares one wait for the folder.
        for job in std::iter::once(first).chain(to_do.try_iter()) {
            if let Err(error) = carry_out(folder, job) {
                failed(error.to_string());
            }
        }
        if let Err(error) = fsync(folder) {
            failed(error.desc().to_owned());
        }
    }
}

fn carry_out(folder: &OwnedFd, job: Job) -> io::Result<()> {
    match job {
        Job::Remove(id) => match unlinkat(folder, name_of(id).as_str(), UnlinkatFlags::NoRemoveDir)
        {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error.into()),
        },
        Job::Put(record) => {
            let name = name_of(record.id);
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
