//! Pages come back: the working set at once, the rest as the guest touches it.

use super::leave::runs;
use super::working_set::Plan;
use super::{REGISTERS, Residence, ResidenceError, host};
use crate::end::memory_lost;
use denali_abi::layout::{PAGE_SIZE, RAM_START};
use denali_disk::Disk;
use denali_hypervisor::{GuestRam, ImagePart};
use denali_pager::{Failure, HostPages, Limit, Pager, Policy, Prefetched, Setup};
use denali_swap::{Fetched, PAGE, PageNumber, Store};
use nix::time::{ClockId, clock_gettime};
use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

/// Pages that are read at once where everything is: 1 MiB.
const AT_ONCE: usize = 256;

/// Runs of pages that are given memory together rather than one by one.
const WORTH_POPULATING: usize = 4;

/// Most bytes of an image that is copied for a guest which wakes: more are not needed at once.
const COPIED_IMAGE_MOST: u64 = 1 << 20;

/// Ranges of missing pages that lie no further apart than this are one: a guest has few mappings.
const GAP: u32 = 64;

/// When what the guest does not touch is brought back too: one that sleeps again soon need not have it.
const COMPLETE_AFTER: Duration = Duration::from_secs(10);

/// A page that the guest has not used for so much of its own time is in no working set, in ns.
const WINDOW_NS: u64 = 200_000_000;

/// Pages that come with one that was touched.
const READ_AHEAD: usize = 16;

impl Residence {
    /// Brings the memory back, if it is out, so that the guest can go on; says whether it was.
    pub(crate) fn bring_in(&mut self) -> Result<bool, ResidenceError> {
        if !std::mem::take(&mut self.out) {
            return Ok(false);
        }
        self.counters.woken += 1;
        self.let_go();
        self.restore_originals()?;
        match self.plan()? {
            Plan::Ahead(pages) => {
                // While the disks are at work, if it was begun to be read.
                if self.copies_image {
                    self.ram.copy_image(COPIED_IMAGE_MOST);
                }
                self.read_in(&pages)?;
                self.go_on()?;
            }
            Plan::Sample(pages) => self.start_sampling(pages)?,
        }
        Ok(true)
    }

    /// How the memory comes back. The virtual registers are always there before anybody looks.
    fn plan(&mut self) -> Result<Plan, ResidenceError> {
        let stored: Vec<PageNumber> = self.store()?.pages().collect();
        if self.uffd.is_none() || self.ram.has_base() {
            return Ok(Plan::Ahead(stored));
        }
        if !self.prefetch || self.limit.is_some() {
            let registers = stored.into_iter().filter(|&page| page == REGISTERS);
            return Ok(Plan::Ahead(registers.collect()));
        }
        Ok(self.working_set.wake(&stored))
    }

    /// Reads pages, but gives them to the guest only as it touches them: so it is seen which it needs.
    fn start_sampling(&mut self, mut pages: Vec<PageNumber>) -> Result<(), ResidenceError> {
        // What was begun to be read is in the guest's memory, of which it is to touch it as missing.
        if let Some(mut fetched) = self.store()?.fetched()? {
            fetched.pages.sort_unstable();
            for run in runs(&fetched.pages) {
                self.ram.release(run).map_err(host("give the guest's memory back"))?;
            }
        }
        if self.store()?.contains(REGISTERS) {
            self.read_in(&[REGISTERS])?;
        }
        pages.retain(|&page| page != REGISTERS);
        pages.sort_unstable();
        let mut content = vec![0; pages.len() * PAGE];
        self.store()?.read(&pages, &mut content)?;
        self.start_pager(Prefetched::new(pages, content).unwrap_or_default())
    }

    /// Has pages evicted from the start, if there may not be more than so many in memory.
    pub(crate) fn begin_paging(&mut self) -> Result<(), ResidenceError> {
        if self.watches_all() && self.pager.is_none() { self.go_on() } else { Ok(()) }
    }

    /// Has a pager bring back what is still out, or evict what is too much.
    pub(super) fn go_on(&mut self) -> Result<(), ResidenceError> {
        let needed = !self.out && (self.watches_all() || !self.store()?.is_empty());
        if needed { self.start_pager(Prefetched::default()) } else { Ok(()) }
    }

    /// As [`Residence::go_on`], of a guest that is about to go on: without a pager it would wait for ever.
    pub(super) fn go_on_or_end(&mut self) {
        if let Err(error) = self.go_on() {
            memory_lost(&self.name, self.output, &error.to_string());
        }
    }

    /// Whether a pager hears of all pages that the guest touches first, and not just of those that are out. A file
    /// that is mapped has no pager: a clone has no limit before it was parked once.
    fn watches_all(&self) -> bool {
        (self.limit.is_some() || self.growth.is_some()) && !self.ram.has_base()
    }

    /// Missing pages are ordinary memory again, which this thread can fill.
    fn let_go(&mut self) {
        if let (Some(uffd), Ok(pages)) = (&self.uffd, self.host_pages()) {
            uffd.let_go(&pages, &std::mem::take(&mut self.registered));
        }
    }

    /// From here on there is no pager, and the store is here.
    pub(super) fn settle(&mut self) {
        let Some(pager) = self.pager.take() else { return };
        let stopped = pager.stop();
        self.counters.faults += stopped.counters.faults;
        self.working_set.touched(stopped.faulted);
        self.store = Some(stopped.store);
        self.uffd = Some(stopped.uffd);
    }

    /// Pages that were as the image or a snapshot has them are so again. A snapshot's that is mapped shows
    /// again by itself.
    fn restore_originals(&mut self) -> Result<(), ResidenceError> {
        let pages = std::mem::take(&mut self.as_in_image);
        let shows = self.ram.has_base() && self.ram.memfd().is_none();
        for page in pages.into_iter().filter(|_| !shows) {
            let original = self.ram.original_of(page.0).map_err(host("read the image"))?;
            self.fill(page, original.content())?;
        }
        Ok(())
    }

    /// Reads pages into the guest's memory, where they are missing. What was begun to be read already comes first.
    fn read_in(&mut self, pages: &[PageNumber]) -> Result<(), ResidenceError> {
        let first = self.store()?.fetched()?;
        let mut left: Vec<PageNumber> = pages.to_vec();
        if let Some(fetched) = &first {
            let come: HashSet<PageNumber> = fetched.pages.iter().copied().collect();
            left.retain(|page| !come.contains(page));
        }
        if let Some(fetched) = first {
            self.take_in(&fetched)?;
        }
        let mut parts = left.chunks(AT_ONCE).peekable();
        while let Some(part) = parts.next() {
            fetch_into(&self.ram.clone(), self.store()?, part)?;
            if let Some(next) = parts.peek() {
                // While the disks are at work.
                populate(&self.ram, next);
            }
            if let Some(fetched) = self.store()?.fetched()? {
                self.take_in(&fetched)?;
            }
            self.read_rest(part)?;
        }
        Ok(())
    }

    /// Pages that have come into the guest's memory are not in the store from here on.
    fn take_in(&mut self, fetched: &Fetched) -> Result<(), ResidenceError> {
        let store = self.store()?;
        fetched.pages.iter().for_each(|&page| store.forget(page));
        self.counters.prefetched += fetched.pages.len() as u64;
        Ok(())
    }

    /// Pages may be so scattered that they do not come at one go.
    fn read_rest(&mut self, part: &[PageNumber]) -> Result<(), ResidenceError> {
        loop {
            let store = self.store()?;
            let rest: Vec<PageNumber> =
                part.iter().copied().filter(|&page| store.contains(page)).collect();
            if rest.is_empty() {
                return Ok(());
            }
            let ram = self.ram.clone();
            fetch_into(&ram, self.store()?, &rest)?;
            if let Some(fetched) = self.store()?.fetched()? {
                self.take_in(&fetched)?;
            }
        }
    }

    fn fill(&self, page: PageNumber, content: &[u8; PAGE]) -> Result<(), ResidenceError> {
        self.ram.fill_page(page.0, content).map_err(host("fill the guest's memory"))
    }

    /// Starts the pager, which has the store from here on. `prefetched` are pages in ascending order.
    fn start_pager(&mut self, prefetched: Prefetched) -> Result<(), ResidenceError> {
        // What an earlier pager had registered and this one will not is ordinary memory.
        self.let_go();
        let missing = if self.watches_all() { anonymous(&self.ram) } else { self.ranges() };
        let (Some(store), Some(uffd)) = (self.store.take(), self.uffd.take()) else {
            return Err(lacking("a store and a userfaultfd"));
        };
        let (name, output) = (self.name.clone(), self.output);
        let failed =
            Box::new(move |failure: Failure| memory_lost(&name, output, &failure.to_string()));
        let limit = self.limit.map(limited).transpose()?;
        let setup = Setup {
            uffd,
            pages: self.host_pages()?,
            store,
            originals: Box::new(()),
            missing: missing.clone(),
            policy: Policy { complete_after: Some(COMPLETE_AFTER), read_ahead: READ_AHEAD },
            limit,
            growth: self.growth.map(|pages| pages as usize),
            prefetched,
            failed,
        };
        let pager = Pager::start(setup);
        self.pager = Some(pager.map_err(|error| ResidenceError::Pager(error.to_string()))?);
        self.registered = missing;
        Ok(())
    }

    fn host_pages(&self) -> Result<HostPages, ResidenceError> {
        const FIRST: u64 = RAM_START / PAGE_SIZE;
        let count = self.ram.space().memory_size() / PAGE_SIZE - FIRST;
        // SAFETY: guest RAM is one private mapping from its base on, but for parts of the image, in
        // which no range of missing pages lies. It lives as long as the process, as the loop does.
        let pages =
            unsafe { HostPages::new(self.ram.host_base(), PageNumber(FIRST as u32), count as u32) };
        pages.ok_or_else(|| lacking("guest memory at a page"))
    }

    /// Ranges in which everything lies that is out, and no part of the image's file.
    fn ranges(&self) -> Vec<Range<PageNumber>> {
        let mut stored: Vec<PageNumber> =
            self.store.as_ref().map(|store| store.pages().collect()).unwrap_or_default();
        stored.sort_unstable();
        let mut ranges: Vec<Range<PageNumber>> = Vec::new();
        for run in runs(&stored) {
            match ranges.last_mut() {
                Some(last)
                    if run.start - last.end.0 <= GAP
                        && self.is_anonymous(last.end.0..run.start) =>
                {
                    last.end = PageNumber(run.end);
                }
                _ => ranges.push(PageNumber(run.start)..PageNumber(run.end)),
            }
        }
        ranges
    }

    /// Whether no part of the image's file is mapped there.
    fn is_anonymous(&self, pages: Range<u32>) -> bool {
        let (start, end) = (u64::from(pages.start) * PAGE_SIZE, u64::from(pages.end) * PAGE_SIZE);
        self.ram.image().is_none_or(|(_, parts)| {
            parts.iter().all(|part| part.end <= start || end <= part.start)
        })
    }
}

/// All memory that is no part of the image's file: also what the guest can only read, as it is told of its devices
/// there.
fn anonymous(ram: &GuestRam) -> Vec<Range<PageNumber>> {
    let page = |address: u64| PageNumber((address / PAGE_SIZE) as u32);
    let mut parts = ram.image().map_or(Vec::new(), |(_, parts)| parts.to_vec());
    parts.sort_by_key(|part| part.start);
    let mut ranges = Vec::new();
    for region in ram.space().regions() {
        let mut start = region.start;
        let inside = |part: &&ImagePart| part.start < region.end && part.end > region.start;
        for part in parts.iter().filter(inside) {
            if part.start > start {
                ranges.push(page(start)..page(part.start));
            }
            start = part.end.min(region.end);
        }
        if start < region.end {
            ranges.push(page(start)..page(region.end));
        }
    }
    ranges
}

/// How many pages that is.
pub(super) fn anonymous_pages(ram: &GuestRam) -> usize {
    anonymous(ram).iter().map(|range| (range.end.0 - range.start.0) as usize).sum()
}

/// Gives pages memory that are about to be read.
fn populate(ram: &GuestRam, pages: &[PageNumber]) {
    let mut sorted = pages.to_vec();
    sorted.sort_unstable();
    for run in runs(&sorted).into_iter().filter(|run| run.len() >= WORTH_POPULATING) {
        ram.populate(run);
    }
}

/// Begins to read pages into a guest's memory, where they are missing. Whoever has the store holds the memory too,
/// for longer.
pub(super) fn fetch_into(
    ram: &Rc<GuestRam>,
    store: &mut Store<Disk>,
    pages: &[PageNumber],
) -> Result<(), ResidenceError> {
    let mut sorted: Vec<PageNumber> =
        pages.iter().copied().filter(|&page| store.contains(page)).collect();
    sorted.sort_unstable();
    let place = |page: PageNumber| ram.host_place(page.0);
    let checked: io::Result<Vec<_>> = sorted.iter().map(|&page| place(page)).collect();
    let places = checked.map_err(host("fill the guest's memory"))?;
    populate(ram, &sorted);
    let known = |page: PageNumber| sorted.binary_search(&page).ok().map(|index| places[index]);
    let Some(&other) = places.first() else { return Ok(()) };
    // SAFETY: the places are pages of guest memory, which is held in `Found` and in `Residence` behind the store and
    // has no Rust references to it; no vCPU runs, no device is at work, and no other thread exists before the
    // store has said that the pages are there. Only pages that are in `sorted` are read.
    unsafe { store.fetch_to(&sorted, &|page| known(page).unwrap_or(other)) }.map_err(Into::into)
}

/// Most pages in memory, by the time that this thread, which executes the guest, has computed.
fn limited(pages: usize) -> Result<Limit, ResidenceError> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: the clock's place is writable; the thread is this one.
    let error = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) };
    if error != 0 {
        return Err(host("find the guest's clock")(io::Error::from_raw_os_error(error)));
    }
    let clock = ClockId::from_raw(clock);
    let now_ns =
        move || clock_gettime(clock).map_or(0, |time| Duration::from(time).as_nanos() as u64);
    Ok(Limit { pages, clock: Box::new(now_ns), window_ns: WINDOW_NS, pinned: vec![REGISTERS] })
}

fn lacking(what: &'static str) -> ResidenceError {
    ResidenceError::Host(
        "bring the guest's memory back",
        io::Error::other(format!("there is not {what}")),
    )
}
