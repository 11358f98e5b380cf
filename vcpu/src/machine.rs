//! What the vCPU loop needs of everything around the vCPU: devices, console, events, sleep.

use crate::SavedLoop;
use denali_hypervisor::Width;
use std::io;

/// A moment at which a guest that runs wants to be interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// The moment, in ns of monotonic time.
    pub at_ns: u64,
    /// How far it is away, in ns.
    pub left_ns: u64,
}

/// What was asked of the loop from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// Nothing.
    #[default]
    Nothing,
    /// To save the guest: the machine knows where and what for.
    Save,
}

/// The guest's surroundings, driven by the loop on its one thread.
pub trait Machine {
    /// Writes the guest's bytes to the console.
    ///
    /// # Errors
    /// When the console is gone.
    fn console(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Reads a register of device `device`; 0 where there is none.
    fn read_register(&mut self, device: usize, offset: u16, width: Width) -> u32;

    /// Writes a register of device `device`; ignored where there is none. True: there is something to
    /// [service](Machine::service) now.
    fn write_register(&mut self, device: usize, offset: u16, width: Width, value: u32) -> bool;

    /// Processes all queues and whatever the outside has ready, without waiting, and raises the lines
    /// of devices that have something for the guest. Says whether more could be done at once.
    ///
    /// # Errors
    /// When the host fails.
    fn service(&mut self, now_ns: u64) -> io::Result<bool>;

    /// When a device must be serviced next at the latest, in ns, if nothing happens before.
    fn deadline(&self) -> Option<u64>;

    /// Sleeps until an event or for `timeout_ns`, `None` = until an event.
    ///
    /// # Errors
    /// When the host fails.
    fn wait(&mut self, timeout_ns: Option<u64>) -> io::Result<()>;

    /// Looks for events without waiting.
    ///
    /// # Errors
    /// When the host fails.
    fn look(&mut self) -> io::Result<()>;

    /// The guest is deeply idle: it has slept for long in one piece. Called once until it runs again.
    ///
    /// # Errors
    /// When the host fails.
    fn deepen(&mut self) -> io::Result<()>;

    /// Whether the guest's memory is out and nothing has come for it since: then there is nothing to service.
    fn rests(&self, now_ns: u64) -> bool;

    /// The guest's memory is to leave, as it sleeps on and on. It comes back with the next
    /// [service](Machine::service) or entry. A host that cannot do it leaves the memory where it is.
    ///
    /// # Errors
    /// When the memory can neither leave nor stay.
    fn swap_out(&mut self) -> io::Result<()>;

    /// Whether somebody is there who would wake the guest, were it parked.
    fn is_kept(&self) -> bool;

    /// Whether the guest, which sleeps, is to be saved and to go on elsewhere.
    fn may_park(&mut self, now_ns: u64) -> bool;

    /// What was asked for and is not yet done.
    fn asked(&self) -> Asked;

    /// What this boot of the host is called; empty = unknown.
    fn boot_id(&self) -> &str;

    /// Saves the guest with everything around it. True: it goes on elsewhere, and ends here.
    ///
    /// # Errors
    /// When the guest can neither be saved nor go on.
    fn save(&mut self, state: SavedLoop, now_ns: u64) -> io::Result<bool>;

    /// Called before every entry: makes sure that a guest which computes is interrupted after a
    /// quantum, or for `alarm` where that is sooner, and looks at the outside when one has passed.
    ///
    /// # Errors
    /// When the host fails.
    fn before_entry(&mut self, alarm: Option<Alarm>) -> io::Result<()>;

    /// The vCPU is about to be entered, or has just come out.
    fn inside(&self, _inside: bool) {}

    /// Whether the guest is held: neither entered nor given anything until it is released.
    fn is_held(&self) -> bool;

    /// Sleeps until the guest is released, or a signal ends it.
    ///
    /// # Errors
    /// When the host fails.
    fn wait_released(&mut self) -> io::Result<()>;

    /// The signal that ends the guest now, if one came.
    fn ended_by_signal(&self) -> Option<i32>;
}
