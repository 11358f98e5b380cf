//! The guest's surroundings as the vCPU loop sees them: bus, events and console of one guest.

mod memory;
mod requests;
mod saving;

pub(crate) use saving::Identity;

use crate::control::Control;
use crate::devices::{self, DeviceCounters};
use crate::events::Events;
use crate::output::Output;
use crate::residence::Residence;
use denali_devices::{Bus, BusState, NotAtRest};
use denali_hypervisor::{GuestRam, Width};
use denali_vcpu::{Alarm, Asked, Machine, SavedLoop};
use serde::Serialize;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::time::Duration;

/// Most bytes written to the console between two looks at the signals: what a pipe takes whole.
const CONSOLE_CHUNK: usize = 4096;

/// What surrounds one guest.
pub(crate) struct GuestMachine {
    pub(crate) bus: Bus<GuestRam>,
    pub(crate) ram: Rc<GuestRam>,
    pub(crate) events: Events,
    pub(crate) output: Output,
    /// Names of the devices in order of their numbers.
    pub(crate) names: Vec<String>,
    /// The guest is deeply idle.
    pub(crate) deep: bool,
    /// Who asks from outside.
    pub(crate) control: Option<Control>,
    /// Where the guest's memory is, if it can be elsewhere.
    pub(crate) residence: Option<Residence>,
    /// What the guest has in its virtual registers.
    pub(crate) generation: u64,
    /// The devices as they were when the memory left.
    pub(crate) devices_saved: Option<Result<BusState, NotAtRest>>,
    /// Who the guest is.
    pub(crate) identity: Identity,
}

impl GuestMachine {
    /// What each device has counted so far.
    pub(crate) fn device_counters(&self) -> DeviceCounters {
        devices::counters(&self.names, &self.bus)
    }

    fn tell_counters(&mut self) {
        if self.events.signals().take_counters_asked() {
            let told = Counted { devices: self.device_counters() };
            self.output.message(&told.to_string());
            self.output.event(&told);
        }
    }
}

/// What a guest is doing, told when it changes.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Life {
    /// It is deeply idle.
    Idle,
    /// It runs after it was deeply idle.
    Awake,
    /// It is held.
    Held {
        /// Because it has all the pages that its `swap.limit` allows, so many, and wants more.
        #[serde(skip_serializing_if = "Option::is_none")]
        limit_pages: Option<u32>,
    },
    /// It is released.
    Released,
    /// Its memory is out.
    #[serde(rename = "swapped_out")]
    SwappedOut {
        /// Pages in its region.
        pages: u64,
    },
    /// Its memory is back, or on its way.
    Woken,
    /// It goes on elsewhere.
    Parked,
}

/// Counters that were asked for.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "counters")]
struct Counted {
    devices: DeviceCounters,
}

/// A line for each device; what has counted nothing is left out.
impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("denali: counters")?;
        for (device, counters) in &self.devices {
            write!(f, "\n  {device}:")?;
            for (name, value) in counters.iter().filter(|(_, value)| **value > 0) {
                write!(f, " {name} {value}")?;
            }
        }
        Ok(())
    }
}

impl Machine for GuestMachine {
    /// A console that is slow holds the guest, never its signals.
    fn console(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stdout = io::stdout();
        let bytes = self.output.console(bytes);
        let mut left = &bytes[..];
        while !left.is_empty() && self.events.wait_writable(stdout.as_fd())? {
            let chunk = &left[..left.len().min(CONSOLE_CHUNK)];
            // SAFETY: the chunk is readable for its length.
            let written =
                unsafe { libc::write(stdout.as_raw_fd(), chunk.as_ptr().cast(), chunk.len()) };
            match usize::try_from(written) {
                Ok(written) => left = &left[written..],
                Err(_) => retry(io::Error::last_os_error())?,
            }
        }
        Ok(())
    }

    fn read_register(&mut self, device: usize, offset: u16, width: Width) -> u32 {
        self.bus.read(device, offset, width.bytes())
    }

    fn write_register(&mut self, device: usize, offset: u16, width: Width, value: u32) -> bool {
        self.bus.write(device, offset, width.bytes(), value)
    }

    fn service(&mut self, now_ns: u64) -> io::Result<bool> {
        self.events.looks();
        self.bring_in();
        Ok(self.bus.service(&self.ram, now_ns).more)
    }

    fn deadline(&self) -> Option<u64> {
        self.bus.deadline()
    }

    fn wait(&mut self, timeout_ns: Option<u64>) -> io::Result<()> {
        self.events.wait(timeout_ns.map(Duration::from_nanos))?;
        self.tell_counters();
        self.hear(true)
    }

    fn look(&mut self) -> io::Result<()> {
        self.events.look()?;
        self.tell_counters();
        self.hear(true)
    }

    /// Gives the host back what the guest's work needed and its idle life does not.
    fn deepen(&mut self) -> io::Result<()> {
        self.bus.tidy();
        // SAFETY: the C library releases pages that hold no allocation; no memory in use is touched.
        unsafe { libc::malloc_trim(0) };
        self.deep = true;
        self.output.event(&Life::Idle);
        Ok(())
    }

    fn before_entry(&mut self, alarm: Option<Alarm>) -> io::Result<()> {
        self.events.before_entry(alarm)?;
        if std::mem::take(&mut self.deep) {
            self.output.event(&Life::Awake);
        }
        self.tell_counters();
        self.hear(false)?;
        self.lift_for_end();
        if self.asked() == Asked::Nothing && !self.is_held() {
            self.bring_in();
        }
        Ok(())
    }

    fn inside(&self, inside: bool) {
        if let Some(residence) = &self.residence {
            residence.inside(inside);
        }
    }

    fn is_held(&self) -> bool {
        self.events.is_held() || self.full().is_some()
    }

    fn wait_released(&mut self) -> io::Result<()> {
        self.tell_held();
        while self.is_held() && self.events.ended_by().is_none() && self.asked() == Asked::Nothing {
            self.events.wait_signals()?;
            self.tell_counters();
            self.hear(true)?;
            self.lift_for_end();
        }
        self.output.event(&Life::Released);
        Ok(())
    }

    fn rests(&self, now_ns: u64) -> bool {
        let out = self.residence.as_ref().is_some_and(Residence::is_out);
        out && !self.events.has_come() && self.bus.deadline().is_none_or(|at| at > now_ns)
    }

    fn swap_out(&mut self) -> io::Result<()> {
        // What stands against it has been said.
        let _ = self.leave();
        Ok(())
    }

    fn is_kept(&self) -> bool {
        self.control.as_ref().is_some_and(Control::has_keeper)
    }

    fn may_park(&mut self, _now_ns: u64) -> bool {
        self.residence.is_some() && self.is_kept() && self.can_save_devices()
    }

    fn asked(&self) -> Asked {
        self.save_asked()
    }

    fn boot_id(&self) -> &str {
        &self.identity.boot_id
    }

    fn save(&mut self, state: SavedLoop, _now_ns: u64) -> io::Result<bool> {
        Ok(self.save_as_asked(state))
    }

    fn ended_by_signal(&self) -> Option<i32> {
        self.events.ended_by()
    }
}

/// Errors after which writing goes on; a reader that is gone takes everything.
fn retry(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => Ok(()),
        _ => Err(error),
    }
}
