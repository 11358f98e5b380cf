//! Network namespaces of tests: a test's own network, gone when the test is.

use std::process::{Command, Output, Stdio};

/// Runs `body` in a network namespace of its own: on a thread that is in it, and whose child processes
/// are. Nothing has to be taken away afterwards.
pub fn isolated<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: moves this thread, which ends with the test, into a new namespace.
            let moved = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(moved, 0, "a network namespace: {}", std::io::Error::last_os_error());
            ip("link set lo up");
            body()
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Makes a persistent tap interface with an address, and sets it up.
pub fn make_tap(name: &str, address: &str) {
    ip(&format!("tuntap add {name} mode tap"));
    ip(&format!("address add {address} dev {name}"));
    ip(&format!("link set {name} up"));
}

/// Runs `ip` with these words.
#[track_caller]
pub fn ip(words: &str) {
    let output = run("ip", &words.split(' ').collect::<Vec<_>>());
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a program of others to its end.
#[track_caller]
pub fn run(program: &str, words: &[&str]) -> Output {
    let output = Command::new(program).args(words).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{program}: {error}"))
}
