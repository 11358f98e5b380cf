//! One thread of a process that a test has started, stopped for good while the others go on.

use crate::guest::wait_until;
use std::fs;
use std::io::Error;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

/// A thread that is stopped until its process ends.
///
/// A tracer's thread is its own: whoever stops a thread must see its end too, before anybody can see that of the process.
pub struct Frozen(JoinHandle<()>);

impl Frozen {
    /// Stops the thread of this name while it waits for something to do, and so holds nothing that others need.
    #[track_caller]
    pub fn when_idle(pid: u32, name: &str) -> Self {
        let thread = wait_until_idle(pid, name);
        let (stopped, is_stopped) = channel();
        let tracer = std::thread::spawn(move || {
            stop(thread);
            stopped.send(()).expect("the test waits");
            see_its_end(thread);
        });
        is_stopped.recv().expect("a child's thread can be stopped");
        Self(tracer)
    }

    /// Waits until its process has been killed.
    pub fn wait(self) {
        self.0.join().expect("its end is seen");
    }
}

/// Waits until the thread of this name has nothing to do; its number.
#[track_caller]
pub fn wait_until_idle(pid: u32, name: &str) -> i32 {
    let thread = find(pid, name);
    wait_until("the thread has nothing to do", || {
        // It may wait for a lock for a moment.
        waits(pid, thread) && {
            std::thread::sleep(Duration::from_millis(5));
            waits(pid, thread)
        }
    });
    thread
}

#[track_caller]
fn find(pid: u32, name: &str) -> i32 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there").flatten();
    let mut named = tasks.filter(|task| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
    });
    let found = named.next().unwrap_or_else(|| panic!("no thread {name}")).file_name();
    found.to_str().and_then(|number| number.parse().ok()).expect("a number")
}

/// Whether a thread is in a system call that waits for another thread.
fn waits(pid: u32, thread: i32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/task/{thread}/syscall"));
    call.is_ok_and(|call| call.starts_with(&format!("{} ", libc::SYS_futex)))
}

fn stop(thread: i32) {
    for request in [libc::PTRACE_SEIZE, libc::PTRACE_INTERRUPT] {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: neither request has the kernel read or write memory of this process.
        let done = unsafe { libc::ptrace(request, thread, nothing, nothing) };
        assert_eq!(done, 0, "a child's thread can be traced: {}", Error::last_os_error());
    }
    let status = wait(thread).expect("it stops");
    assert!(libc::WIFSTOPPED(status), "{status:x}");
}

/// Waits for the end of a thread; nothing lets it go on meanwhile.
fn see_its_end(thread: i32) {
    while wait(thread).is_some_and(|status| libc::WIFSTOPPED(status)) {}
}

fn wait(thread: i32) -> Option<libc::c_int> {
    let mut status = 0;
    // SAFETY: the status is valid during the call.
    let found = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
    (found == thread).then_some(status)
}
