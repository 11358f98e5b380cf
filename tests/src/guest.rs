//! A guest started through the `denali` program: its output, its signals, its end.

use crate::backend::Backend;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// After this long a test has failed, whatever it waits for: far more than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(120);

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Says which program starts guests; once, before any test.
pub fn set_program(path: &Path) {
    // A second call could only be another test program in this process, of which there is none.
    let _ = PROGRAM.set(path.to_owned());
}

/// The program that starts guests.
pub fn program() -> &'static Path {
    PROGRAM.get().expect("the program was set before the first test")
}

/// Runs `denali` with these words to its end.
pub fn denali<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Finished {
    let options = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
    Run { options, json: false, read_output: true, input: false }.finish()
}

/// Waits until something is so, looking again and again.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "not in {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A run of a guest, or of a keeper of some, before its start.
#[derive(Debug)]
pub struct Run {
    options: Vec<OsString>,
    json: bool,
    read_output: bool,
    input: bool,
}

/// A guest that ended.
#[derive(Debug)]
pub struct Finished {
    /// Exit status as shells say it: 128 + n for signal n.
    pub status: i32,
    /// Signal that ended the monitor itself.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// The last event of a guest that was started with `--json`.
    #[track_caller]
    pub fn end(&self) -> Value {
        let events = self.stdout.lines().filter_map(|line| serde_json::from_str(line).ok());
        let mut ends = events.filter(|event: &Value| event["event"] == "ended");
        ends.next().unwrap_or_else(|| panic!("the end is not told: {self:#?}"))
    }
}

impl Run {
    /// A run of `target` (an image or a configuration) on a back end.
    pub fn new(backend: Backend, target: impl AsRef<OsStr>) -> Self {
        let options = vec![
            "run".into(),
            target.as_ref().to_owned(),
            "--hypervisor".into(),
            backend.name().into(),
        ];
        Self { options, json: false, read_output: true, input: false }
    }

    /// The continuation of a guest that was parked.
    pub fn resume(backend: Backend, configuration: &Path, record: &Path) -> Self {
        let mut run = Self::new(backend, configuration).option("--record").option(record);
        run.options[0] = "resume".into();
        run
    }

    /// A copy of a guest, with the configuration in its snapshot.
    pub fn copy(backend: Backend, snapshot: &Path) -> Self {
        let mut run = Self::new(backend, snapshot);
        run.options.insert(1, "--from".into());
        run
    }

    /// A keeper of guests that say themselves what runs them.
    pub fn keeper(configurations: &[PathBuf]) -> Self {
        let mut options = vec!["keep".into()];
        options.extend(configurations.iter().map(|path| path.clone().into_os_string()));
        Self { options, json: false, read_output: true, input: false }
    }

    /// A supervisor of a host that is configured so.
    pub fn supervisor(host: &Path) -> Self {
        let options = vec!["supervisor".into(), "--config".into(), host.into()];
        Self { options, json: false, read_output: true, input: false }
    }

    /// Adds an option, or the value of one.
    pub fn option(mut self, option: impl AsRef<OsStr>) -> Self {
        self.options.push(option.as_ref().to_owned());
        self
    }

    /// Sets the guest's memory.
    pub fn memory(self, size: &str) -> Self {
        self.option("--memory").option(size)
    }

    /// Asks for events instead of text.
    pub fn json(mut self) -> Self {
        self.json = true;
        self.option("--json")
    }

    /// Leaves standard output unread, for [`Guest::take_stdout`].
    pub fn unread(mut self) -> Self {
        self.read_output = false;
        self
    }

    /// Sets a field of the configuration.
    pub fn set(self, assignment: impl AsRef<OsStr>) -> Self {
        self.option("--set").option(assignment)
    }

    /// Gives the guest a standard input, for [`Guest::write`]; without, it is empty.
    pub fn with_input(mut self) -> Self {
        self.input = true;
        self
    }

    /// Starts the guest.
    pub fn start(self) -> Guest {
        let mut command = Command::new(program());
        command.args(&self.options).stdin(if self.input { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the denali program starts");
        let unread = if self.read_output { None } else { child.stdout.take() };
        let stdout = Stream::of(child.stdout.take());
        let stderr = Stream::of(child.stderr.take());
        Guest { child, json: self.json, stdout, stderr, unread }
    }

    /// Runs the guest to its end.
    pub fn finish(self) -> Finished {
        self.start().finish()
    }

    /// Runs the guest to its end, which must be an exit with this status; its standard output.
    #[track_caller]
    pub fn expect(self, status: i32) -> String {
        let options = format!("{:?}", self.options);
        let finished = self.finish();
        assert_eq!(finished.status, status, "{options}: {finished:#?}");
        finished.stdout
    }
}

/// A guest that runs; killed when dropped.
#[derive(Debug)]
pub struct Guest {
    child: Child,
    json: bool,
    stdout: Stream,
    stderr: Stream,
    unread: Option<std::process::ChildStdout>,
}

impl Guest {
    /// Process id of the monitor.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Writes to the guest's standard input.
    #[track_caller]
    pub fn write(&mut self, text: &str) {
        let input = self.child.stdin.as_mut().expect("the run has a standard input");
        input.write_all(text.as_bytes()).expect("the monitor reads its standard input");
    }

    /// Waits until standard error contains `text`.
    #[track_caller]
    pub fn wait_for_error(&self, text: &str) {
        let found = self.stderr.wait_until(|output| output.contains(text));
        assert!(found, "no {text:?} on standard error:\n{self}");
    }

    /// Waits until standard output contains `text`.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let found = self.stdout.wait_until(|output| output.contains(text));
        assert!(found, "no {text:?} on standard output:\n{self}");
    }

    /// Where the first published port of the host is.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.addresses(1)[0]
    }

    /// Where the published ports of the host are, `count` of them.
    #[track_caller]
    pub fn addresses(&self, count: usize) -> Vec<SocketAddr> {
        let stream = if self.json { &self.stdout } else { &self.stderr };
        let found = stream.wait_until(|said| published(said).len() >= count);
        assert!(found, "{count} ports are not published:\n{self}");
        published(&stream.text())
    }

    /// Sends a signal to the monitor.
    pub fn signal(&self, signal: i32) {
        // SAFETY: a plain system call; the child has not been waited for, so the id is still its own.
        let sent = unsafe { libc::kill(self.pid() as libc::pid_t, signal) };
        assert_eq!(sent, 0, "the monitor can be signalled");
    }

    /// Standard output, left unread so far.
    pub fn take_stdout(&mut self) -> std::process::ChildStdout {
        self.unread.take().expect("standard output was left unread")
    }

    /// Whether the monitor still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the monitor can be waited for").is_none()
    }

    /// Sends a signal again and again until the monitor ends; two that come at once are taken for one.
    #[track_caller]
    pub fn signal_until_it_ends(&mut self, signal: i32) {
        wait_until("the guest ends", || {
            if !self.is_running() {
                return true;
            }
            self.signal(signal);
            std::thread::sleep(Duration::from_millis(50));
            false
        });
    }

    /// Waits for the end.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        let status = self.wait_for_end();
        let signal = status.signal();
        Finished {
            status: shells_status(status),
            signal,
            stdout: self.stdout.read_to_end(),
            stderr: self.stderr.read_to_end(),
        }
    }

    /// Waits for the end of one that leaves others behind, which may write where it did; its exit status.
    #[track_caller]
    pub fn wait(mut self) -> i32 {
        shells_status(self.wait_for_end())
    }

    #[track_caller]
    fn wait_for_end(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the monitor can be waited for") {
                return status;
            }
            assert!(Instant::now() < until, "the guest did not end in time:\n{self}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn shells_status(status: ExitStatus) -> i32 {
    status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

impl std::fmt::Display for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stdout: {}\nstderr: {}", self.stdout.text(), self.stderr.text())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The addresses in lines like `denali: 127.0.0.1:40001 leads to port 80 of the guest`, where `/udp` may
/// be behind the address, and in events that say the same.
fn published(said: &str) -> Vec<SocketAddr> {
    let in_line = |line: &str| {
        let (address, _) = line.strip_prefix("denali: ")?.split_once(" leads to port ")?;
        address.trim_end_matches("/udp").parse().ok()
    };
    let in_event = |line: &str| {
        let event: Value = serde_json::from_str(line).ok()?;
        (event["event"] == "published").then(|| event["host"].as_str()?.parse().ok())?
    };
    said.lines().filter_map(|line| in_line(line).or_else(|| in_event(line))).collect()
}

/// What was read from a pipe so far, by a thread of its own.
#[derive(Debug)]
struct Stream {
    shared: Arc<(Mutex<Progress>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Progress {
    bytes: Vec<u8>,
    ended: bool,
}

impl Stream {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let shared = Arc::new((
            Mutex::new(Progress { ended: pipe.is_none(), ..Progress::default() }),
            Condvar::new(),
        ));
        let reader = pipe.map(|mut pipe| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                loop {
                    let count = pipe.read(&mut buffer).unwrap_or(0);
                    let mut read = lock(&shared.0);
                    read.bytes.extend_from_slice(&buffer[..count]);
                    read.ended = count == 0;
                    shared.1.notify_all();
                    if count == 0 {
                        return;
                    }
                }
            })
        });
        Self { shared, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.shared.0).bytes).into_owned()
    }

    /// Waits until what was read meets the condition; false when it ended or took too long.
    fn wait_until(&self, condition: impl Fn(&str) -> bool) -> bool {
        let until = Instant::now() + PATIENCE;
        let mut read = lock(&self.shared.0);
        loop {
            if condition(&String::from_utf8_lossy(&read.bytes)) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if read.ended || left.is_zero() {
                return false;
            }
            let waited = self.shared.1.wait_timeout(read, left);
            read = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Everything, once the pipe has ended.
    fn read_to_end(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        self.text()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
