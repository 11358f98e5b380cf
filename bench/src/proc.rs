//! What the kernel says in /proc about memory, processes and their mappings.

use anyhow::{Context, Result};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::PathBuf;

/// Memory in use, the kernel's included and the page cache of files not, in KiB.
///
/// Files in memory (memfd, tmpfs) are counted by Linux as page cache, but are not given back when
/// memory is needed, and guests have some: they stay counted.
pub(crate) fn memory_used_kib() -> Result<f64> {
    used_kib(&read("/proc/meminfo")?)
}

fn used_kib(meminfo: &str) -> Result<f64> {
    let number = |name| field(meminfo, name).with_context(|| format!("/proc/meminfo lacks {name}"));
    let cache = number("Cached")? + number("Buffers")? - number("Shmem")?;
    Ok(number("MemTotal")? - number("MemFree")? - cache)
}

/// The number behind `name:`.
fn field(text: &str, name: &str) -> Option<f64> {
    let of_line = |line: &str| {
        line.strip_prefix(name)?.strip_prefix(':')?.split_whitespace().next()?.parse().ok()
    };
    text.lines().find_map(of_line)
}

/// Threads of a process, apart from those that KVM itself adds to it (one for each virtual machine on
/// Linux 6.13 and later, `kvm-nx-lpage-recovery`, which sleeps for minutes at a time).
pub(crate) fn own_threads(pid: i32) -> Result<f64> {
    let mut count = 0;
    for thread in thread_folders(pid)? {
        let name =
            fs::read_to_string(thread.join("comm")).context("cannot read a thread's name")?;
        count += u32::from(!name.starts_with("kvm-"));
    }
    Ok(count.into())
}

/// Context switches of all threads of a process so far, chosen and forced.
pub(crate) fn context_switches(pid: i32) -> Result<f64> {
    let mut sum = 0.0;
    for thread in thread_folders(pid)? {
        let status = fs::read_to_string(thread.join("status"));
        let status = status.context("cannot read a thread's status")?;
        for name in ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"] {
            sum += field(&status, name).context("this kernel counts no context switches")?;
        }
    }
    Ok(sum)
}

fn thread_folders(pid: i32) -> Result<Vec<PathBuf>> {
    let folder = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<io::Result<_>>().with_context(|| format!("cannot list {folder}"))
}

/// Processor time of a process so far, in seconds.
pub(crate) fn processor_seconds(pid: i32) -> Result<f64> {
    // SAFETY: `sysconf` reads a constant of the system and touches no memory of ours.
    let ticks_per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    let fields = stat_fields(&read(&format!("/proc/{pid}/stat"))?);
    // utime and stime, the 14th and 15th field of proc(5).
    let ticks = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<f64>().ok());
    let sum = ticks(14).zip(ticks(15)).map(|(user, system)| user + system);
    Ok(sum.context("/proc/PID/stat is not as expected")? / ticks_per_second)
}

/// The same without the kernel's rounding to hundredths of a second, of all threads that have not ended.
pub(crate) fn precise_processor_seconds(pid: i32) -> Result<f64> {
    let mut nanoseconds = 0.0;
    for thread in thread_folders(pid)? {
        let text = fs::read_to_string(thread.join("schedstat"));
        let text = text.context("this kernel counts no processor time of threads")?;
        let on_processor = text.split(' ').next().and_then(|first| first.parse::<f64>().ok());
        nanoseconds += on_processor.context("/proc/PID/task/TID/schedstat is not as expected")?;
    }
    Ok(nanoseconds / 1e9)
}

/// The children of a process: the process back end has one, its guest.
pub(crate) fn children(pid: i32) -> Result<Vec<i32>> {
    children_of(&[pid])
}

/// The children of any of these processes.
pub(crate) fn children_of(parents: &[i32]) -> Result<Vec<i32>> {
    let parents: HashSet<String> = parents.iter().map(i32::to_string).collect();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let name = entry.context("cannot list /proc")?.file_name();
        let Some(candidate) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // A process that is gone by now is nobody's child.
        let Ok(stat) = fs::read_to_string(format!("/proc/{candidate}/stat")) else { continue };
        if stat_fields(&stat).get(1).is_some_and(|parent| parents.contains(parent)) {
            found.push(candidate);
        }
    }
    Ok(found)
}

/// A process and all that descend from it.
pub(crate) fn family(ancestor: i32) -> Result<Vec<i32>> {
    let (mut all, mut last) = (vec![ancestor], vec![ancestor]);
    while !last.is_empty() {
        last = children_of(&last)?;
        last.retain(|pid| !all.contains(pid));
        all.extend(&last);
    }
    Ok(all)
}

/// The fields of /proc/PID/stat from the third on: the second is the program's name in parentheses,
/// which may hold anything.
fn stat_fields(stat: &str) -> Vec<String> {
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace().map(str::to_owned).collect()
}

/// A mapping of a process.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mapping {
    /// First address.
    pub(crate) start: u64,
    /// End, exclusive.
    pub(crate) end: u64,
    /// Proportional share of its resident memory, in KiB.
    pub(crate) pss_kib: f64,
    /// Whether it was made with `MAP_NORESERVE`.
    pub(crate) no_reserve: bool,
}

/// The mappings of a process.
pub(crate) fn mappings(pid: i32) -> Result<Vec<Mapping>> {
    Ok(parse_mappings(&read(&format!("/proc/{pid}/smaps"))?))
}

/// Proportional set size of a process, files that it shares included, in KiB.
pub(crate) fn pss_kib(pid: i32) -> Result<f64> {
    let rollup = read(&format!("/proc/{pid}/smaps_rollup"))?;
    field(&rollup, "Pss").context("smaps_rollup lacks Pss")
}

/// Proportional share of the memory of a process that is no file's, in KiB.
///
/// What it has mapped of files, its program and libraries foremost, is left out: their share depends on how many
/// others have them mapped too.
pub(crate) fn own_pss_kib(pid: i32) -> Result<f64> {
    let rollup = read(&format!("/proc/{pid}/smaps_rollup"))?;
    let share = |name| field(&rollup, name).with_context(|| format!("smaps_rollup lacks {name}"));
    Ok(share("Pss_Anon")? + share("Pss_Shmem")?)
}

fn parse_mappings(smaps: &str) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        if let Some((start, end)) = range(line) {
            mappings.push(Mapping { start, end, pss_kib: 0.0, no_reserve: false });
        } else if let Some(mapping) = mappings.last_mut() {
            if let Some(pss) = field(line, "Pss") {
                mapping.pss_kib = pss;
            } else if let Some(flags) = line.strip_prefix("VmFlags:") {
                mapping.no_reserve = flags.split_whitespace().any(|flag| flag == "nr");
            }
        }
    }
    mappings
}

/// The range of addresses with which a mapping's first line begins.
fn range(line: &str) -> Option<(u64, u64)> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    address(start).zip(address(end))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    #[test]
    fn page_cache_of_files_is_left_out_and_files_in_memory_are_not() {
        let text = "MemTotal:  1000 kB\nMemFree: 600 kB\nBuffers: 10 kB\nCached: 200 kB\n\
                    SwapCached: 7 kB\nShmem: 50 kB\n";
        assert_eq!(used_kib(text).unwrap(), 240.0);
        assert!(used_kib("MemTotal: 1000 kB\n").is_err());
    }

    #[test]
    fn names_of_programs_do_not_confuse() {
        let fields = stat_fields("12 (a) b (c)) S 34 12 0");
        assert_eq!(fields[..2], ["S", "34"]);
    }

    #[test]
    fn mappings_have_their_share_and_flags() {
        let text = "00400000-00402000 r-xp 00000000 08:01 7  /a b\nSize: 8 kB\nPss: 5 kB\n\
                    Pss_Dirty: 9 kB\nVmFlags: rd ex\n\
                    7f0000000000-7f0000001000 rw-p 00000000 00:00 0\nPss: 4 kB\nVmFlags: rd nr nh\n";
        let expected = [
            Mapping { start: 0x40_0000, end: 0x40_2000, pss_kib: 5.0, no_reserve: false },
            Mapping {
                start: 0x7f00_0000_0000,
                end: 0x7f00_0000_1000,
                pss_kib: 4.0,
                no_reserve: true,
            },
        ];
        assert_eq!(parse_mappings(text), expected);
    }

    #[test]
    fn a_process_can_be_read() {
        // A process whose threads do not come and go, as those of a test runner do.
        let sleeper = Sleeper::start();
        let pid = sleeper.0.id().cast_signed();
        assert!(own_threads(pid).unwrap() >= 1.0);
        assert!(context_switches(pid).unwrap() >= 0.0);
        assert!(processor_seconds(pid).unwrap() >= 0.0);
        // A process that has just been forked may not have run yet.
        assert!(precise_processor_seconds(pid).unwrap() >= 0.0);
        assert!(!mappings(pid).unwrap().is_empty());
        // One that has just been started may have its stack alone, and nothing of its program yet.
        let all = || mappings(pid).unwrap().iter().map(|mapping| mapping.pss_kib).sum::<f64>();
        let until = Instant::now() + Duration::from_secs(10);
        while all() <= own_pss_kib(pid).unwrap() && Instant::now() < until {
            sleep(Duration::from_millis(1));
        }
        let (own, all) = (own_pss_kib(pid).unwrap(), all());
        assert!(own > 0.0 && own < all, "{own} of {all}");
        assert!(children(std::process::id().cast_signed()).unwrap().contains(&pid));
    }

    struct Sleeper(std::process::Child);

    impl Sleeper {
        fn start() -> Self {
            Self(std::process::Command::new("sleep").arg("600").spawn().unwrap())
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
