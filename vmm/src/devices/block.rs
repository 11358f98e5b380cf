//! Makes block devices of what the launcher opened.

use super::{limit, vhost_user};
use crate::events::Events;
use crate::output::Output;
use crate::start::inherited;
use denali_devices::block::{BlockConfig, BlockDevice};
use denali_devices::virtio::VirtioDevice;
use denali_disk::{Disk, DiskOptions, Method};
use denali_hypervisor::GuestRam;
use denali_launcher::spec::{BlockBackendSpec, BlockSpec, IoSpec};
use denali_vhost_user::Profile;
use std::io;

/// Makes the block device that `spec` describes, woken through the events.
pub(super) fn create(
    spec: &BlockSpec,
    surroundings: (&GuestRam, &Events, Output),
) -> io::Result<Box<dyn VirtioDevice<GuestRam>>> {
    match spec.backend {
        BlockBackendSpec::File { file, direct, io } => {
            let method = method(io);
            let options = DiskOptions { direct, method, ..DiskOptions::default() };
            let disk = Disk::new(vec![inherited(file)], &options).map_err(io::Error::other)?;
            if let Some(descriptor) = disk.descriptor() {
                surroundings.1.watch(descriptor)?;
            }
            let config = BlockConfig::new(&spec.name, spec.read_only);
            Ok(Box::new(BlockDevice::new(config, disk).limited(limit::limiter(spec.limit))))
        }
        BlockBackendSpec::VhostUser { socket, broker } => Ok(Box::new(vhost_user::create(
            &spec.name,
            Profile::Block,
            (socket, broker),
            surroundings,
        )?)),
    }
}

fn method(io: IoSpec) -> Method {
    match io {
        IoSpec::Auto => Method::Auto,
        IoSpec::IoUring => Method::IoUring,
        IoSpec::Sync => Method::Plain,
    }
}
