//! Makes block devices of what the launcher opened.

use super::vhost_user;
use crate::events::Events;
use crate::output::Output;
use denali_devices::virtio::VirtioDevice;
use denali_hypervisor::GuestRam;
use denali_launcher::spec::{BlockBackendSpec, BlockSpec};
use denali_vhost_user::Profile;
use std::io;

/// Makes the block device that `spec` describes, woken through the events.
pub(super) fn create(
    spec: &BlockSpec,
    surroundings: (&GuestRam, &Events, Output),
) -> io::Result<Box<dyn VirtioDevice<GuestRam>>> {
    match spec.backend {
        BlockBackendSpec::File { .. } => Err(io::ErrorKind::Unsupported.into()),
        BlockBackendSpec::VhostUser { socket, broker } => Ok(Box::new(vhost_user::create(
            &spec.name,
            Profile::Block,
            (socket, broker),
            surroundings,
        )?)),
    }
}
