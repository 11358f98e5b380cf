//! What the kernel tells of a process: fields of its status, descriptors, mappings, children.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

/// A field of `/proc/PID/status`.
#[track_caller]
pub fn status(pid: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in {text}")).trim().to_owned()
}

/// The limits of a process on the size of core dumps, the one in force and the hard one, in bytes.
pub fn core_limits(pid: u32) -> [String; 2] {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).expect("the process is there");
    let line = text.lines().find_map(|line| line.strip_prefix("Max core file size"));
    let mut words = line.expect("a limit on core dumps").split_whitespace();
    [0; 2].map(|_| words.next().expect("two limits").to_owned())
}

/// What the descriptors of a process are, by number.
pub fn descriptors(pid: u32) -> io::Result<Vec<(i32, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let number = entry.file_name().to_string_lossy().parse().map_err(io::Error::other)?;
        found.push((number, fs::read_link(entry.path())?.to_string_lossy().into_owned()));
    }
    found.sort();
    Ok(found)
}

/// A mapping of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// End, exclusive.
    pub end: u64,
    /// Like `r-xp`.
    pub access: String,
    /// File or label.
    pub name: String,
}

/// The mappings of a process.
pub fn mappings(pid: u32) -> io::Result<Vec<Mapping>> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    Ok(text.lines().filter_map(mapping).collect())
}

fn mapping(line: &str) -> Option<Mapping> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let access = words.next()?.to_owned();
    let name = words.nth(3).unwrap_or_default().to_owned();
    let address = |text| u64::from_str_radix(text, 16).ok();
    Some(Mapping { start: address(start)?, end: address(end)?, access, name })
}

/// What a process has in memory of a file that it maps, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// Pages of the file that others map as well.
    pub shared_clean_kib: u64,
    /// Its own copies of pages that it has written.
    pub changed_kib: u64,
    /// All of it, shared pages by the part that falls to this process.
    pub share_kib: u64,
}

/// What a process has in memory of a file.
pub fn resident(pid: u32, file: &str) -> io::Result<Resident> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let (mut found, mut is_of_file) = (Resident::default(), false);
    for line in text.lines() {
        match line.split_once(':').filter(|(field, _)| !field.contains(' ')) {
            None => is_of_file = mapping(line).is_some_and(|mapping| mapping.name == file),
            Some((field, value)) if is_of_file => found.count(field, value),
            Some(_) => {}
        }
    }
    Ok(found)
}

impl Resident {
    fn count(&mut self, field: &str, value: &str) {
        let counter = match field {
            "Shared_Clean" => &mut self.shared_clean_kib,
            "Anonymous" => &mut self.changed_kib,
            "Pss" => &mut self.share_kib,
            _ => return,
        };
        let kib = value.trim().strip_suffix(" kB").and_then(|kib| kib.parse::<u64>().ok());
        *counter += kib.expect("a number of KiB");
    }
}

/// Threads of a process, by name; those that the kernel itself starts for KVM and io_uring are not counted.
pub fn threads(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).filter(|name| !is_kernels(name)).collect()
}

fn is_kernels(name: &str) -> bool {
    name.starts_with("kvm-") || name.starts_with("iou-")
}

/// Children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    all().filter(|&id| parent(id) == Some(pid)).collect()
}

/// All processes there are.
fn all() -> impl Iterator<Item = u32> {
    let processes = fs::read_dir("/proc").expect("/proc is there");
    processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn parent(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything.
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Whether there is such a process; one that has ended and waits for its parent does not count.
pub fn exists(pid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = text.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
    state.is_some_and(|state| state != "Z" && state != "X")
}

/// Whether a process is stopped.
pub fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// Time a process has computed, in the kernel's ticks (usually 10 ms).
pub fn cpu_ticks(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process exists");
    let after_name = text.rsplit_once(')').expect("a name in parentheses").1;
    let field =
        |index: usize| after_name.split_whitespace().nth(index).and_then(|n| n.parse().ok());
    let both: Option<u64> =
        field(11).zip(field(12)).map(|(user, system): (u64, u64)| user + system);
    both.expect("user and system time")
}

/// Processes that have sockets open which are bound to paths like these, as far as this thread's network has them.
pub fn owners(wanted: impl Fn(&Path) -> bool) -> Vec<u32> {
    let text = fs::read_to_string("/proc/thread-self/net/unix").expect("the kernel tells sockets");
    let inode = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let path = words.get(7).filter(|path| wanted(Path::new(path)));
        path.map(|_| format!("socket:[{}]", words[6]))
    };
    let sockets: HashSet<String> = text.lines().filter_map(inode).collect();
    if sockets.is_empty() {
        return Vec::new();
    }
    // A process may close some, or end, just then.
    let open = |pid: u32| fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let name = |entry: fs::DirEntry| fs::read_link(entry.path()).unwrap_or_default();
    let has = |pid: &u32| open(*pid).any(|entry| sockets.contains(&*name(entry).to_string_lossy()));
    all().filter(has).collect()
}
