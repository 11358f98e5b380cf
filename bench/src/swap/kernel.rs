//! The kernel's own swap, of the same guest on the same disk: what it is compared with.

use super::big::Big;
use crate::cgroup::MemoryGroup;
use crate::proc;
use crate::undo::Undo;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::Error;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Pages under write-back that are no concern, in KiB.
const QUIET_KIB: f64 = 1024.0;

/// How long writing may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The part of the guest's memory that may not have left, or come from the disk, though it should have.
const TOLERATED: f64 = 0.05;

/// A swap file that the kernel uses before all others.
#[derive(Debug)]
pub(super) struct KernelSwap {
    group: MemoryGroup,
    _in_use: Undo,
}

impl KernelSwap {
    /// Why there can be none here, if so.
    pub(super) fn problem() -> Option<String> {
        // SAFETY: reads this process's user id, nothing else.
        if unsafe { libc::geteuid() } != 0 {
            return Some("not root".into());
        }
        ["mkswap", "swapon", "swapoff"].into_iter().find_map(|program| {
            let found = Command::new(program).arg("--version").stdout(Stdio::null()).status();
            found.err().map(|error| format!("{program}: {error}"))
        })
    }

    /// Makes one of so many MiB in `folder`, and a control group that is this process's from here on, as long
    /// as this is there.
    pub(super) fn new(folder: &Path, mib: u32) -> Result<Self> {
        let path = folder.join("kernel.swap");
        allocate(&path, mib)?;
        run("mkswap", &[], &path)?;
        let swap_on = || run("swapon", &["--priority", "32767"], &path).map(|()| path.clone());
        let (_, in_use) = Undo::of(swap_on, |path| {
            if run("swapoff", &[], &path).is_err() {
                eprintln!("bench: please swapoff {}", path.display());
            }
        })?;
        Ok(Self { group: MemoryGroup::enter()?, _in_use: in_use })
    }

    /// Has the kernel page the guest's memory out until all of it is written; says how long that took, in
    /// seconds. Afterwards the page cache gives up what it has of it, so that it is on the disk alone.
    pub(super) fn page_out(&self, guest: &Big) -> Result<f64> {
        let (before, begun) = (written_back_kib()?, Instant::now());
        let pages = counter("pswpout")?;
        for process in guest.processes()? {
            page_out(process, guest.bytes())?;
        }
        while written_back_kib()? > before + QUIET_KIB {
            if begun.elapsed() > PATIENCE {
                bail!("the kernel does not write pages");
            }
            sleep(Duration::from_micros(500));
        }
        let took = begun.elapsed().as_secs_f64();
        expect(guest, "left memory", counter("pswpout")? - pages)?;
        self.group.reclaim()?;
        Ok(took)
    }

    /// Has the guest look at all its memory; says how long that took, in seconds.
    pub(super) fn check(&self, guest: &mut Big) -> Result<f64> {
        let pages = counter("pswpin")?;
        let took = guest.check()?;
        expect(guest, "come from the disk", counter("pswpin")? - pages)?;
        Ok(took)
    }
}

/// Makes a file of so many MiB without holes; it lies in a folder that is removed.
fn allocate(path: &Path, mib: u32) -> Result<()> {
    let options = &mut File::options();
    let made = options.write(true).create_new(true).mode(0o600).open(path);
    let made = made.context("cannot make a swap file")?;
    // SAFETY: the descriptor is open; the call touches no memory of ours.
    match unsafe { libc::posix_fallocate(made.as_raw_fd(), 0, i64::from(mib) << 20) } {
        0 => Ok(()),
        error => bail!("no room for a swap file: {}", Error::from_raw_os_error(error)),
    }
}

fn expect(guest: &Big, what: &str, pages: f64) -> Result<()> {
    let expected = guest.bytes() / 4096.0;
    if pages < expected * (1.0 - TOLERATED) {
        bail!("only {pages:.0} of {expected:.0} pages have {what}");
    }
    Ok(())
}

/// Pages out what a process has mapped of a guest's memory.
fn page_out(process: i32, bytes: f64) -> Result<()> {
    // SAFETY: the call makes a descriptor and touches no memory of ours.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
    if pidfd < 0 {
        return Err(Error::last_os_error()).context("cannot refer to a process");
    }
    for mapping in proc::mappings(process)? {
        if ((mapping.end - mapping.start) as f64) < bytes {
            continue;
        }
        let mut start = mapping.start;
        while start < mapping.end {
            let length = (mapping.end - start) as usize;
            let part = libc::iovec { iov_base: start as *mut libc::c_void, iov_len: length };
            // SAFETY: one range of another process, whose content stays what it is; the range's description lives
            // during the call.
            let advised = unsafe {
                let advice = libc::MADV_PAGEOUT;
                libc::syscall(libc::SYS_process_madvise, pidfd, &raw const part, 1, advice, 0)
            };
            if advised <= 0 {
                return Err(Error::last_os_error()).context("cannot page a process out");
            }
            start += advised as u64;
        }
    }
    // SAFETY: the descriptor was made above and is nobody else's.
    unsafe { libc::close(pidfd as i32) };
    Ok(())
}

fn written_back_kib() -> Result<f64> {
    let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Writeback:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.context("/proc/meminfo lacks Writeback")
}

/// A counter of /proc/vmstat.
fn counter(name: &str) -> Result<f64> {
    let text = fs::read_to_string("/proc/vmstat").context("cannot read /proc/vmstat")?;
    let of_line = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(of_line).with_context(|| format!("/proc/vmstat lacks {name}"))
}

fn run(program: &str, words: &[&str], path: &PathBuf) -> Result<()> {
    let output = Command::new(program).args(words).arg(path).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
