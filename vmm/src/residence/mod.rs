//! Where the guest's memory is: in memory, in its region, or on its way back.
//!
//! | file | its job |
//! |---|---|
//! | `create` | makes the store of what the launcher opened, before the sandbox |
//! | `leave` | pages leave memory: swapped out, or written down to be parked |
//! | `copy` | all pages, for a copy of the guest |
//! | `come` | pages come back: the working set at once, the rest by faults |
//! | `growth` | a guest that may not have all its pages is held |
//! | `working_set` | which pages the guest needs when it wakes |

mod come;
mod copy;
mod create;
mod growth;
mod leave;
mod working_set;

use crate::output::Output;
use denali_disk::Disk;
use denali_hypervisor::GuestRam;
use denali_pager::{Pager, Uffd};
use denali_swap::{PageNumber, Store, StoreError};
use std::fmt;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use working_set::WorkingSet;

pub(crate) use copy::each_page;
pub(crate) use create::{Found, Seeking};

/// The page of the virtual registers, which stays in memory as long as the monitor lives.
const REGISTERS: PageNumber =
    PageNumber((denali_abi::layout::VIRTUAL_REGISTERS / denali_abi::layout::PAGE_SIZE) as u32);

/// The memory of a guest that can leave.
pub(crate) struct Residence {
    /// `None` only while a pager has it. In front of the memory into which it reads.
    store: Option<Store<Disk>>,
    ram: Rc<GuestRam>,
    /// `None` while a pager has it, and where there is none.
    uffd: Option<Uffd>,
    /// Brings back what the guest touches.
    pager: Option<Pager<Store<Disk>>>,
    /// The memory is out.
    out: bool,
    /// Ranges in which touching a missing page waits for a pager.
    registered: Vec<Range<PageNumber>>,
    /// Pages that were not stored because they are as the image has them, which they are to be again.
    as_in_image: Vec<PageNumber>,
    working_set: WorkingSet,
    /// Most pages in memory while the guest runs.
    limit: Option<usize>,
    /// Most pages of the guest's own, wherever they are; `None` = all it can have.
    growth: Option<u32>,
    /// The working set is read ahead.
    prefetch: bool,
    /// A guest that wakes gets a copy of its image, as long as it is in memory.
    copies_image: bool,
    counters: Counters,
    name: String,
    output: Output,
}

/// What was counted since the monitor started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    /// Times the memory has left.
    pub(crate) swapped_out: u64,
    /// Times it has come back.
    pub(crate) woken: u64,
    /// Pages that came back at once when it did.
    pub(crate) prefetched: u64,
    /// Pages that came back because the guest touched them, pagers that are at work left out.
    pub(crate) faults: u64,
}

/// Memory can neither leave nor come.
#[derive(Debug)]
pub(crate) enum ResidenceError {
    /// The region cannot be read or written.
    Store(StoreError),
    /// The host refuses.
    Host(&'static str, io::Error),
    /// There is no pager.
    Pager(String),
}

impl fmt::Display for ResidenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => write!(f, "swap: {error}"),
            Self::Pager(why) => write!(f, "swap: {why}"),
            Self::Host(what, error) => write!(f, "swap: cannot {what}: {error}"),
        }
    }
}

impl From<StoreError> for ResidenceError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn host(what: &'static str) -> impl FnOnce(io::Error) -> ResidenceError {
    move |error| ResidenceError::Host(what, error)
}

impl Residence {
    /// Whether the memory is out.
    pub(crate) fn is_out(&self) -> bool {
        self.out
    }

    /// What was counted so far.
    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    /// Pages of the guest's own that are in memory, and pages in the store.
    pub(crate) fn pages(&self) -> (u64, u64) {
        let resident = self.ram.resident_pages().map_or(0, |pages| pages.len() as u64);
        match (&self.store, &self.pager) {
            (Some(store), _) => (resident, store.len() as u64),
            (None, _) => (resident, 0),
        }
    }
}
