//! One virtqueue as a device uses it: take validated chains, return them, decide about interrupts.

mod state;

use super::chain::{Chain, Direction};
use super::in_flight::InFlight;
use std::collections::VecDeque;
use std::sync::atomic::{Ordering, fence};
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemory};

/// Flag in the available ring: the driver wants no interrupts.
const AVAIL_NO_INTERRUPT: u16 = 1;

/// Offset of the elements in the available ring, and behind them of the used event.
const AVAIL_ELEMENTS: u64 = 4;
/// Offset of the elements in the used ring.
const USED_ELEMENTS: u64 = 4;
/// Bytes of an element of the used ring: descriptor index and bytes written, 32 bits each.
const USED_ELEMENT: u64 = 8;

/// What is wrong with a queue; the guest's doing, and the guest's loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// Its size is not a power of two, or is above the queue's maximum.
    #[error("queue size")]
    Size,
    /// A ring or table is misaligned or not in memory the guest may use so.
    #[error("ring address")]
    RingAddress,
    /// More chains are said to be available than there are entries.
    #[error("available index")]
    AvailableIndex,
    /// The used ring's index is not where the device has left it.
    #[error("used index")]
    UsedIndex,
    /// A descriptor index is outside its table.
    #[error("descriptor index")]
    DescriptorIndex,
    /// A chain is longer than the queue (so it may loop), or than 4 GiB.
    #[error("chain too long")]
    ChainTooLong,
    /// An indirect table is nested, chained, of an odd length, or was not agreed on.
    #[error("indirect table")]
    Indirect,
    /// A buffer is for the driver to write where the device would, or the other way round.
    #[error("buffer direction")]
    WrongDirection,
    /// A buffer is not in memory the guest may use so.
    #[error("buffer address")]
    OutOfRange,
    /// A chain is made available again while it is in flight.
    #[error("chain in flight")]
    HeadInUse,
}

/// What the driver has written about a queue, not yet believed.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueSetup {
    pub size: u32,
    pub ready: bool,
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
}

/// A queue that a device works on.
#[derive(Debug)]
pub struct DeviceQueue {
    queue: Queue,
    ready: bool,
    event_idx: bool,
    indirect: bool,
    /// Chains returned since the driver was last thought of.
    returned: bool,
    /// Where the used ring had reached when the driver was last thought of.
    told_used: u16,
    /// The driver wants an interrupt that the queue's keeper has not asked for yet.
    interrupt: bool,
    /// No chain is taken from the available ring.
    paused: bool,
    /// Chains taken and not returned.
    outstanding: usize,
    account: Option<Account>,
}

/// What is kept beside a queue whose chains outlive this process.
#[derive(Debug)]
struct Account {
    book: Box<dyn InFlight>,
    /// Chains that someone else took and did not return; they are taken again before all others.
    owed: VecDeque<u16>,
    /// Chains that were taken and not returned, in order, and whether each was an owed one.
    taken: Vec<(u16, bool)>,
}

impl Account {
    /// A chain was returned: it is not put back any more.
    fn forget(&mut self, head: u16) {
        if let Some(index) = self.taken.iter().position(|&(taken, _)| taken == head) {
            self.taken.remove(index);
        }
    }
}

impl DeviceQueue {
    /// A queue the driver does not use.
    #[must_use]
    pub fn unused() -> Self {
        Self::of(Queue::default(), false, 0)
    }

    fn of(queue: Queue, ready: bool, features: u64) -> Self {
        let told_used = queue.next_used();
        Self {
            queue,
            ready,
            event_idx: features & denali_abi::virtio::FEATURE_EVENT_IDX != 0,
            indirect: features & denali_abi::virtio::FEATURE_INDIRECT_DESC != 0,
            returned: false,
            told_used,
            interrupt: false,
            paused: false,
            outstanding: 0,
            account: None,
        }
    }

    /// The queue a driver has set up, with every address checked.
    pub(super) fn new<M: GuestMemory>(
        memory: &M,
        size_max: u16,
        setup: &QueueSetup,
        features: u64,
    ) -> Result<Self, QueueError> {
        if !setup.ready {
            return Ok(Self::unused());
        }
        let size = u16::try_from(setup.size).map_err(|_| QueueError::Size)?;
        let mut queue = Queue::new(size_max).map_err(|_| QueueError::Size)?;
        queue.try_set_size(size).map_err(|_| QueueError::Size)?;
        let address = |_| QueueError::RingAddress;
        queue.try_set_desc_table_address(GuestAddress(setup.descriptors)).map_err(address)?;
        queue.try_set_avail_ring_address(GuestAddress(setup.available)).map_err(address)?;
        queue.try_set_used_ring_address(GuestAddress(setup.used)).map_err(address)?;
        let event_idx = features & denali_abi::virtio::FEATURE_EVENT_IDX != 0;
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        if setup.available == 0 || !queue.is_valid(memory) {
            return Err(QueueError::RingAddress);
        }
        Ok(Self::of(queue, true, features))
    }

    /// A queue that someone else has set up and keeps between uses, such as a vhost-user back end, with
    /// the features that were agreed on. Nothing is believed: every access to its rings is checked.
    #[must_use]
    pub fn from_queue(mut queue: Queue, features: u64) -> Self {
        let event_idx = features & denali_abi::virtio::FEATURE_EVENT_IDX != 0;
        queue.set_event_idx(event_idx);
        let ready = queue.ready() && queue.size() > 0;
        Self::of(queue, ready, features)
    }

    /// Keeps an account of chains taken and not returned, and takes `owed` chains, which someone else
    /// took before and did not return, before all others. For devices that put back one chain at a time.
    pub fn keep_account(&mut self, book: Box<dyn InFlight>, owed: Vec<u16>) {
        self.account = Some(Account { book, owed: owed.into(), taken: Vec::new() });
    }

    /// Stops taking chains from the available ring, or goes on. What is owed is still taken.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Chains that were taken, or are owed, and have not been returned.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding + self.account.as_ref().map_or(0, |account| account.owed.len())
    }

    /// Whether the driver wanted an interrupt for this queue since this was last asked: for those who
    /// have a line for each queue.
    pub fn take_interrupt(&mut self) -> bool {
        std::mem::take(&mut self.interrupt)
    }

    /// The queue as its keeper wants it back, with the positions reached.
    #[must_use]
    pub fn into_queue(self) -> Queue {
        self.queue
    }

    /// Entries; 0 where the driver does not use the queue.
    #[must_use]
    pub fn size(&self) -> u16 {
        if self.ready { self.queue.size() } else { 0 }
    }

    /// Guest addresses of the descriptor table, the available ring and the used ring.
    #[must_use]
    pub fn addresses(&self) -> [u64; 3] {
        [self.queue.desc_table(), self.queue.avail_ring(), self.queue.used_ring()]
    }

    /// Where in the available ring the next chain is taken from, modulo 65,536.
    #[must_use]
    pub fn next_available(&self) -> u16 {
        self.queue.next_avail()
    }

    /// Where in the used ring the next chain is returned, modulo 65,536.
    #[must_use]
    pub fn next_used(&self) -> u16 {
        self.queue.next_used()
    }

    /// The driver uses this queue.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.ready
    }

    /// Whether the driver has made chains available. One read of guest memory.
    ///
    /// # Errors
    /// When the ring is malformed.
    pub fn has_available<M: GuestMemory>(&self, memory: &M) -> Result<bool, QueueError> {
        if !self.ready {
            return Ok(false);
        }
        if self.account.as_ref().is_some_and(|account| !account.owed.is_empty()) {
            return Ok(true);
        }
        if self.paused {
            return Ok(false);
        }
        let index = self.queue.avail_idx(memory, Ordering::Acquire);
        let index = index.map_err(|_| QueueError::RingAddress)?.0;
        Ok(index != self.queue.next_avail())
    }

    /// Takes the next available chain into `chain`, validated whole; false when there is none.
    ///
    /// # Errors
    /// When the ring or the chain is malformed.
    pub fn take<M: GuestMemory>(
        &mut self,
        memory: &M,
        direction: Direction,
        chain: &mut Chain,
    ) -> Result<bool, QueueError> {
        if !self.has_available(memory)? {
            return Ok(false);
        }
        let owed = self.account.as_mut().and_then(|account| account.owed.pop_front());
        let head = match owed {
            Some(head) => head,
            None => self.next_head(memory)?,
        };
        let table = GuestAddress(self.queue.desc_table());
        chain.walk(memory, table, self.queue.size(), head, direction, self.indirect)?;
        self.outstanding += 1;
        if let Some(account) = &mut self.account {
            account.taken.push((head, owed.is_some()));
            account.book.taken(head);
        }
        Ok(true)
    }

    fn next_head<M: GuestMemory>(&mut self, memory: &M) -> Result<u16, QueueError> {
        let mut available = self.queue.iter(memory).map_err(|_| QueueError::AvailableIndex)?;
        Ok(available.next().ok_or(QueueError::RingAddress)?.head_index())
    }

    /// Undoes the last [`DeviceQueue::take`], whose chain will be taken again; several times, those
    /// before it, as long as nothing that was taken later has been returned.
    pub fn put_back(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
        if let Some(account) = &mut self.account {
            match account.taken.pop() {
                // Still in the book.
                Some((head, true)) => return account.owed.push_front(head),
                Some((head, false)) => account.book.put_back(head),
                None => {}
            }
        }
        self.queue.go_to_previous_position();
    }

    /// Returns a chain to the driver, with the number of bytes written into it.
    ///
    /// # Errors
    /// When the used ring cannot be written.
    pub fn give_back<M: GuestMemory>(
        &mut self,
        memory: &M,
        head: u16,
        written: u32,
    ) -> Result<(), QueueError> {
        self.returned = true;
        self.outstanding = self.outstanding.saturating_sub(1);
        if let Some(account) = &mut self.account {
            account.book.returning(head);
        }
        self.queue.add_used(memory, head, written).map_err(|_| QueueError::RingAddress)?;
        if let Some(account) = &mut self.account {
            account.forget(head);
            account.book.returned(head, self.queue.next_used());
        }
        Ok(())
    }

    /// Returns several chains to the driver, each with the number of bytes written into it, at once:
    /// no driver sees the first without the others.
    ///
    /// # Errors
    /// When the used ring cannot be written, or there are more chains than entries.
    pub fn give_back_together<M: GuestMemory>(
        &mut self,
        memory: &M,
        chains: &[(u16, u32)],
    ) -> Result<(), QueueError> {
        let Some((&(last, written), first)) = chains.split_last() else { return Ok(()) };
        if chains.len() > usize::from(self.queue.size()) {
            return Err(QueueError::RingAddress);
        }
        let ring = GuestAddress(self.queue.used_ring());
        for &(head, written) in first {
            let next = self.queue.next_used();
            let slot = u64::from(next % self.queue.size());
            let at = ring.checked_add(USED_ELEMENTS + USED_ELEMENT * slot);
            let at = at.ok_or(QueueError::RingAddress)?;
            let element = u64::from(head) | u64::from(written) << 32;
            memory.write_obj(element.to_le(), at).map_err(|_| QueueError::RingAddress)?;
            self.queue.set_next_used(next.wrapping_add(1));
        }
        // The index that is written now covers all of them.
        self.give_back(memory, last, written)?;
        self.outstanding = self.outstanding.saturating_sub(first.len());
        for &(head, _) in first {
            if let Some(account) = &mut self.account {
                account.forget(head);
                account.book.returned(head, self.queue.next_used());
            }
        }
        Ok(())
    }

    /// Whether the driver wants an interrupt for what was returned since this was last asked.
    ///
    /// # Errors
    /// When the available ring cannot be read.
    pub fn wants_interrupt<M: GuestMemory>(&mut self, memory: &M) -> Result<bool, QueueError> {
        let wants = std::mem::take(&mut self.returned) && self.returned_wants_interrupt(memory)?;
        self.interrupt |= wants;
        Ok(wants)
    }

    fn returned_wants_interrupt<M: GuestMemory>(&mut self, memory: &M) -> Result<bool, QueueError> {
        // The used index must be visible before the ring is read: the driver does the opposite.
        fence(Ordering::SeqCst);
        let ring = GuestAddress(self.queue.avail_ring());
        let now = self.queue.next_used();
        let before = std::mem::replace(&mut self.told_used, now);
        if self.event_idx {
            let at = ring.checked_add(AVAIL_ELEMENTS + 2 * u64::from(self.queue.size()));
            let at = at.ok_or(QueueError::RingAddress)?;
            let event: u16 =
                memory.load(at, Ordering::Relaxed).map_err(|_| QueueError::RingAddress)?;
            // Virtio 1.2, section 2.7.7.2: the event lies among what was returned since.
            let since_event = now.wrapping_sub(u16::from_le(event)).wrapping_sub(1);
            return Ok(since_event < now.wrapping_sub(before));
        }
        let flags: u16 =
            memory.load(ring, Ordering::Relaxed).map_err(|_| QueueError::RingAddress)?;
        Ok(u16::from_le(flags) & AVAIL_NO_INTERRUPT == 0)
    }

    /// Asks the driver to notify when it makes more chains available; true when it has done so
    /// already, and may not notify of those.
    ///
    /// # Errors
    /// When the rings cannot be accessed.
    pub fn ask_for_notification<M: GuestMemory>(&mut self, memory: &M) -> Result<bool, QueueError> {
        self.queue.enable_notification(memory).map_err(|_| QueueError::RingAddress)
    }

    /// Tells the driver that it need not notify.
    ///
    /// # Errors
    /// When the used ring cannot be written.
    pub fn decline_notification<M: GuestMemory>(&mut self, memory: &M) -> Result<(), QueueError> {
        self.queue.disable_notification(memory).map_err(|_| QueueError::RingAddress)
    }
}
