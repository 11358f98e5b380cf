//! What the launcher tells the monitor: a machine whose every resource is an open descriptor.

mod block;
mod console;
mod cpu;
mod descriptors;
mod limit;
mod net;
mod preparation;
mod swap;

pub use block::{BlockBackendSpec, BlockSpec, IoSpec};
pub use console::{ConsoleBackendSpec, ConsoleSpec, EntropySpec};
pub use cpu::CpuSpec;
pub use limit::{BucketSpec, LimitSpec};
pub use net::{NetBackendSpec, NetSpec, PublishSpec, PublishedSocket, UserSpec};
pub use preparation::{Likeness, PreparationSpec};
pub use swap::{CommitSpec, ControlSpec, ParkSpec, ResumeSpec, STATE_MAX, SwapSpec};

use serde::{Deserialize, Serialize};
use std::os::fd::RawFd;

/// One guest, ready to start. It travels as JSON in a sealed memfd whose number is the monitor's only
/// argument; descriptor numbers in it are those the monitor inherits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// Name of the guest in messages.
    pub name: String,
    /// What runs the guest.
    pub hypervisor: HypervisorSpec,
    /// End of RAM in bytes: whole pages, below 4 GiB.
    pub memory_size: u64,
    /// The guest's program.
    pub image: ImageSpec,
    /// Argument string of the guest, at most 4096 bytes.
    pub arguments: String,
    /// Network devices; device numbers follow their order.
    pub net: Vec<NetSpec>,
    /// Block devices, whose numbers follow.
    pub block: Vec<BlockSpec>,
    /// Console devices, whose numbers follow.
    pub console: Vec<ConsoleSpec>,
    /// Entropy devices, whose numbers follow.
    pub entropy: Vec<EntropySpec>,
    /// When it is interrupted, how it idles, and its share of the processor.
    pub cpu: CpuSpec,
    /// How output is written.
    pub output: OutputSpec,
    /// File that receives the crash report as JSON, open for writing.
    pub report: Option<RawFd>,
    /// Where the guest's memory goes while it idles; `None` = it stays where it is.
    pub swap: Option<SwapSpec>,
    /// Where the monitor takes commands.
    pub control: ControlSpec,
    /// What the guest continues from; `None` = it starts at its image's entry.
    pub resume: Option<ResumeSpec>,
    /// Which run of the host's kernel this is (`/proc/sys/kernel/random/boot_id`); empty where the host
    /// does not tell.
    pub boot_id: String,
}

/// What runs the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum HypervisorSpec {
    /// KVM.
    Kvm {
        /// `/dev/kvm`, open for reading and writing.
        device: RawFd,
        /// Whether it shadows the guest's page tables, so that each page that it maps costs an exit.
        shadows: bool,
    },
    /// A traced process: no virtual machine boundary.
    Process,
}

/// The guest's program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSpec {
    /// The ELF file: a sealed memfd, or a file of an image store, so that it does not change under the
    /// guest.
    pub file: RawFd,
    /// What the user called it, for messages.
    pub name: String,
    /// Its SHA-256 as 64 hexadecimal digits, for what is saved of the guest; empty where nothing ever is.
    pub hash: String,
}

/// How output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputSpec {
    /// The guest's console on standard output, messages on standard error.
    Human,
    /// One JSON object a line on standard output: console output, end of the guest, counters.
    Json,
}
