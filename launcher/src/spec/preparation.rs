//! What a monitor is told that waits for a guest.

use super::{BlockBackendSpec, ConsoleBackendSpec, HypervisorSpec, MachineSpec, NetBackendSpec};
use serde::{Deserialize, Serialize};
use std::os::fd::RawFd;

/// What a monitor makes before it has a guest. It is the first message on the socket whose number is the
/// monitor's only argument; the machine is the second. Descriptor numbers are those the monitor inherits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreparationSpec {
    /// `/dev/kvm`, open for reading and writing; for guests that KVM runs.
    pub kvm: Option<RawFd>,
    /// `/dev/userfaultfd`, where there are guests that need it.
    pub userfault: Option<RawFd>,
    /// An empty folder that nobody can put anything in, which becomes the monitor's file system.
    pub root: Option<RawFd>,
    /// What the guest will be like.
    pub likeness: Likeness,
}

/// What a monitor can be made for in advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Likeness {
    /// KVM runs the guest, and not a process.
    pub kvm: bool,
    /// End of its RAM in bytes.
    pub memory_size: u64,
    /// It has a swap region.
    pub swaps: bool,
    /// All that is left to be done when the guest comes is what the sandbox of any guest allows: KVM runs it, and
    /// it has no disks, no devices of other processes, and no console at the standard streams.
    pub plain: bool,
}

impl Likeness {
    /// That of a guest.
    #[must_use]
    pub fn of(machine: &MachineSpec) -> Self {
        let kvm = matches!(machine.hypervisor, HypervisorSpec::Kvm { .. });
        let no_disk = machine.block.iter().all(|block| match block.backend {
            BlockBackendSpec::File { .. } | BlockBackendSpec::VhostUser { .. } => false,
        });
        let own_nets = machine.net.iter().all(|net| match net.backend {
            NetBackendSpec::User(_)
            | NetBackendSpec::Tap { .. }
            | NetBackendSpec::Socket { .. } => true,
            NetBackendSpec::VhostUser { .. } => false,
        });
        let own_consoles = machine.console.iter().all(|console| match console.backend {
            ConsoleBackendSpec::File { .. } | ConsoleBackendSpec::Socket { .. } => true,
            ConsoleBackendSpec::Terminal => false,
        });
        Self {
            kvm,
            memory_size: machine.memory_size,
            swaps: machine.swap.is_some(),
            plain: kvm && no_disk && own_nets && own_consoles,
        }
    }

    /// Whether a monitor that was made for such a guest can have this one: memory of another size only takes
    /// it longer.
    #[must_use]
    pub fn serves(self, guest: Self) -> bool {
        self.kvm == guest.kvm && (self.swaps || !guest.swaps) && (guest.plain || !self.plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: Likeness = Likeness { kvm: true, memory_size: 16 << 20, swaps: true, plain: true };

    #[test]
    fn a_monitor_serves_guests_that_need_no_more_than_it_has() {
        let other = Likeness { memory_size: 4 << 20, ..WEB };
        let small = Likeness { swaps: false, ..WEB };
        let disk = Likeness { plain: false, ..WEB };
        let process = Likeness { kvm: false, plain: false, ..WEB };
        for (monitor, guest) in [(WEB, WEB), (WEB, other), (WEB, small), (disk, disk), (disk, WEB)]
        {
            assert!(monitor.serves(guest), "{monitor:?} for {guest:?}");
        }
        for (monitor, guest) in [(WEB, disk), (small, WEB), (WEB, process), (process, disk)] {
            assert!(!monitor.serves(guest), "{monitor:?} for {guest:?}");
        }
    }

    #[test]
    fn preparations_travel_as_they_are_and_unknown_fields_are_refused() {
        let preparation =
            PreparationSpec { kvm: Some(3), userfault: None, root: Some(4), likeness: WEB };
        let text = serde_json::to_string(&preparation).unwrap();
        assert_eq!(serde_json::from_str::<PreparationSpec>(&text).unwrap(), preparation);
        let more = text.replacen('{', r#"{"more": 1, "#, 1);
        assert!(serde_json::from_str::<PreparationSpec>(&more).is_err());
    }
}
