//! Makes console and entropy devices of what the launcher opened.

use super::limit;
use crate::events::Events;
use crate::output::Output;
use crate::start::inherited;
use denali_devices::console::{ConsoleBackend, ConsoleDevice};
use denali_devices::entropy::EntropyDevice;
use denali_devices::virtio::VirtioDevice;
use denali_hypervisor::GuestRam;
use denali_launcher::spec::{ConsoleBackendSpec, ConsoleSpec, EntropySpec};
use denali_streams::{Duplex, HostEntropy, SocketConsole};
use std::io;
use std::os::fd::AsRawFd;

/// Makes the console that `spec` describes, woken through `events`.
pub(super) fn create(
    spec: &ConsoleSpec,
    events: &Events,
    output: Output,
) -> io::Result<Box<dyn VirtioDevice<GuestRam>>> {
    match spec.backend {
        ConsoleBackendSpec::Terminal => {
            watched(Duplex::terminal(output.device_encoder(&spec.name))?, events)
        }
        ConsoleBackendSpec::File { input, output } => {
            watched(Duplex::files(input.map(inherited), output.map(inherited))?, events)
        }
        ConsoleBackendSpec::Socket { listener } => {
            watched(SocketConsole::new(inherited(listener))?, events)
        }
    }
}

fn watched(
    backend: impl ConsoleBackend + AsRawFd + 'static,
    events: &Events,
) -> io::Result<Box<dyn VirtioDevice<GuestRam>>> {
    events.watch(backend.as_raw_fd())?;
    Ok(Box::new(ConsoleDevice::new(backend)))
}

/// Makes the entropy device that `spec` describes.
pub(super) fn create_entropy(spec: &EntropySpec) -> Box<dyn VirtioDevice<GuestRam>> {
    Box::new(EntropyDevice::new(HostEntropy, limit::limiter(spec.limit)))
}
