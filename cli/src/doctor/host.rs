//! What guests are made of: KVM, userfaultfd, io_uring, seccomp, tracing.

use super::fleet::sysctl;
use super::root::Root;
use super::{Finding, Verdict};
use denali_launcher::open_kvm;
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Looks at it.
pub(super) fn look(root: &Root) -> Vec<Finding> {
    vec![kvm(), userfaultfd(), io_uring(root), seccomp(root), tracing(root)]
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
        )
        .fix("sudo modprobe -a kvm_intel kvm_amd; sudo usermod -aG kvm $USER, and log in anew"),
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
                 no \"resident_limit\""
            ),
        )
        .fix("sudo setfacl -m u:$USER:rw /dev/userfaultfd (Linux 6.1 and later), or run as root"),
    }
}

fn io_uring(root: &Root) -> Finding {
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
        _ => no_io_uring(&io::Error::last_os_error(), root),
    }
}

fn no_io_uring(error: &io::Error, root: &Root) -> Finding {
    let text = format!(
        "cannot be used ({error}): disks and swap regions are read and written one request after the other"
    );
    let finding = Finding::new("io_uring", Verdict::Warning, text);
    match root.number("/proc/sys/kernel/io_uring_disabled") {
        Some(1 | 2) => finding.fix(sysctl("kernel.io_uring_disabled", 0)),
        _ => finding,
    }
}

fn seccomp(root: &Root) -> Finding {
    let status = root.text("/proc/self/status");
    if status.lines().any(|line| line.starts_with("Seccomp:")) {
        return Finding::new("seccomp", Verdict::Good, "works");
    }
    Finding::new("seccomp", Verdict::Severe, "this kernel has none: monitors do not run without")
}

fn tracing(root: &Root) -> Finding {
    let scope = root.line("/proc/sys/kernel/yama/ptrace_scope");
    if scope == "3" {
        let text = "nobody may trace (kernel.yama.ptrace_scope = 3): guests run under KVM only";
        return Finding::new("ptrace", Verdict::Warning, text);
    }
    Finding::new("ptrace", Verdict::Good, "guests can run as traced processes")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Host, assert_told};
    use super::*;

    #[test]
    fn what_the_kernel_forbids_is_told() {
        let host = Host::new("kernel");
        host.file("/proc/self/status", "Name:\tx\nSeccomp:\t0\n");
        host.file("/proc/sys/kernel/yama/ptrace_scope", "3\n");
        host.file("/proc/sys/kernel/io_uring_disabled", "2\n");
        let refused = no_io_uring(&io::Error::from_raw_os_error(libc::EPERM), &host.root);
        let findings = [seccomp(&host.root), tracing(&host.root), refused];
        assert_told(&findings, "seccomp", Verdict::Good, "works", "");
        assert_told(&findings, "ptrace", Verdict::Warning, "ptrace_scope = 3", "");
        let fix = "kernel.io_uring_disabled=0";
        assert_told(&findings, "io_uring", Verdict::Warning, "not permitted", fix);
        let without = Host::new("no-kernel");
        assert_eq!(seccomp(&without.root).verdict, Verdict::Severe);
        assert_eq!(tracing(&without.root).verdict, Verdict::Good);
    }
}
