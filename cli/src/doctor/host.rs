//! What guests are made of: KVM, userfaultfd, io_uring, seccomp, tracing.

use super::{Finding, Verdict};
use denali_launcher::open_kvm;
use std::fs::{File, read_to_string};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// Looks at it.
pub(super) fn look() -> Vec<Finding> {
    vec![kvm(), userfaultfd(), io_uring(), seccomp(), tracing()]
}

fn kvm() -> Finding {
    match open_kvm() {
        Ok(_) => Finding::new("/dev/kvm", Verdict::Good, "works"),
        Err(problem) => Finding::new(
            "/dev/kvm",
            Verdict::Warning,
            format!(
                "{problem}: guests run as traced processes, which are no virtual machine boundary"
            ),
        ),
    }
}

fn userfaultfd() -> Finding {
    const DEVICE: &str = "/dev/userfaultfd";
    match File::options().read(true).write(true).open(DEVICE) {
        Ok(_) => Finding::new(DEVICE, Verdict::Good, "works"),
        Err(error) => Finding::new(
            DEVICE,
            Verdict::Warning,
            format!(
                "cannot be opened ({error}): guests that wake get all their memory back at once, and there is \
                 no \"resident_limit\"; run as root or give this user access"
            ),
        ),
    }
}

fn io_uring() -> Finding {
    // What the kernel is told and tells of a ring: none of it matters here.
    let mut parameters = [0_u8; 120];
    // SAFETY: the parameters are as large as the kernel's structure, and writable.
    let made = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
    match RawFd::try_from(made) {
        Ok(ring) if ring >= 0 => {
            // SAFETY: the descriptor was made by the call above and belongs to nobody else.
            drop(unsafe { OwnedFd::from_raw_fd(ring) });
            Finding::new("io_uring", Verdict::Good, "works")
        }
        _ => Finding::new(
            "io_uring",
            Verdict::Warning,
            format!(
                "cannot be used ({}): disks and swap regions are read and written one request after the \
                 other",
                io::Error::last_os_error()
            ),
        ),
    }
}

fn seccomp() -> Finding {
    let status = read_to_string("/proc/self/status").unwrap_or_default();
    if status.lines().any(|line| line.starts_with("Seccomp:")) {
        return Finding::new("seccomp", Verdict::Good, "works");
    }
    Finding::new("seccomp", Verdict::Severe, "this kernel has none: monitors do not run without")
}

fn tracing() -> Finding {
    let scope = read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    if scope.trim() == "3" {
        let text = "nobody may trace (kernel.yama.ptrace_scope = 3): guests run under KVM only";
        return Finding::new("ptrace", Verdict::Warning, text);
    }
    Finding::new("ptrace", Verdict::Good, "guests can run as traced processes")
}

/// The first line of a file of the kernel's; empty if there is none.
pub(super) fn first_line(path: impl AsRef<Path>) -> String {
    let text = read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}
