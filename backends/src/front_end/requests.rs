//! The requests of the vhost-user protocol, as the `vhost` crate has parsed them.

use super::{FEATURE_PROTOCOL, FrontEnd, refused, unwatch, watch};
use crate::in_flight::{self, Region};
use crate::memory::Table;
use crate::ring::{Ring, SIZE_MAX};
use std::fs::File;
use std::io;
use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig,
    VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};

/// Most bytes of a configuration space that a front end may ask for.
const CONFIG_MAX: u32 = 256;

/// A request that was not offered and is refused.
fn unsupported<T>() -> Result<T> {
    Err(Error::InvalidOperation("a request that was not offered"))
}

fn failed(error: io::Error) -> Error {
    Error::ReqHandlerError(error)
}

impl FrontEnd {
    fn ring(&mut self, index: u32) -> Result<&mut Ring> {
        self.rings.get_mut(index as usize).ok_or_else(|| failed(refused("there is no such ring")))
    }

    /// A ring that may be described, because the device does not work on it.
    fn stopped_ring(&mut self, index: u32) -> Result<&mut Ring> {
        let ring = self.ring(index)?;
        if ring.started {
            return Err(failed(refused("a ring was changed while it was started")));
        }
        Ok(ring)
    }

    fn stop_all(&mut self) -> Result<()> {
        for index in 0..self.rings.len() {
            self.rings[index].enabled = false;
            self.update(index).map_err(failed)?;
        }
        Ok(())
    }
}

impl VhostUserBackendReqHandlerMut for FrontEnd {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.stop_all()
    }

    fn reset_device(&mut self) -> Result<()> {
        self.stop_all()?;
        self.agreed = None;
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(self.features)
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        if features & !self.features != 0 {
            return Err(failed(refused("features were agreed on that were not offered")));
        }
        if self.active && self.agreed != Some(features) {
            return Err(failed(refused("features were changed while rings ran")));
        }
        self.agreed = Some(features);
        if features & FEATURE_PROTOCOL == 0 {
            // Rings cannot be enabled one by one then, so they always are.
            for index in 0..self.rings.len() {
                self.rings[index].enabled = true;
                self.update(index).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        let table = Table::map(regions, files).map_err(failed)?;
        self.exchange_memory(table).map_err(failed)?;
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, size: u32) -> Result<()> {
        let ring = self.stopped_ring(index)?;
        ring.size = u16::try_from(size).map_err(|_| failed(refused("a ring is too large")))?;
        Ok(())
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptors: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let Some(table) = &self.table else {
            return Err(failed(refused("a ring was described before the memory")));
        };
        let user = [descriptors, available, used];
        let [Some(descriptors), Some(available), Some(used)] =
            user.map(|address| table.guest_address(address))
        else {
            return Err(failed(refused("a ring is outside the memory table")));
        };
        self.stopped_ring(index)?.addresses = Some([descriptors, available, used]);
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        self.stopped_ring(index)?.base = base as u16;
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let place = index as usize;
        let ring = self.ring(index)?;
        ring.started = false;
        self.update(place).map_err(failed)?;
        let ring = &mut self.rings[place];
        ring.kick = None;
        ring.call = None;
        Ok(VhostUserVringState::new(index, u32::from(ring.base)))
    }

    fn set_vring_kick(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let place = usize::from(index);
        self.ring(u32::from(index))?;
        if file.is_none() {
            return Err(failed(refused("a ring has no eventfd; it would have to be polled")));
        }
        let epoll = &self.epoll;
        let ring = &mut self.rings[place];
        if let Some(old) = &ring.kick {
            unwatch(epoll, old);
        }
        ring.kick = file;
        if self.queues[place].ready() {
            // The ring goes on with another eventfd.
            return match &self.rings[place].kick {
                Some(kick) => watch(epoll, kick, place as u64).map_err(failed),
                None => Ok(()),
            };
        }
        self.rings[place].started = true;
        self.update(place).map_err(failed)
    }

    fn set_vring_call(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let ring = self.ring(u32::from(index))?;
        ring.call = file;
        // What was returned before this eventfd was known may not have been told.
        if ring.runs() {
            ring.interrupt();
        }
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, file: Option<File>) -> Result<()> {
        self.ring(u32::from(index))?.error = file;
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        let config = match self.device.config {
            true => VhostUserProtocolFeatures::CONFIG,
            false => VhostUserProtocolFeatures::empty(),
        };
        Ok(config
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::INFLIGHT_SHMFD
            | VhostUserProtocolFeatures::RESET_DEVICE)
    }

    fn set_protocol_features(&mut self, features: u64) -> Result<()> {
        let offered = self.get_protocol_features()?.bits();
        if features & !offered != 0 {
            return Err(failed(refused("protocol features were agreed on that were not offered")));
        }
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(self.rings.len() as u64)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.ring(index)?.enabled = enable;
        self.update(index as usize).map_err(failed)
    }

    fn get_config(
        &mut self,
        offset: u32,
        size: u32,
        _flags: VhostUserConfigFlags,
    ) -> Result<Vec<u8>> {
        if size > CONFIG_MAX || offset > CONFIG_MAX {
            return Err(failed(refused("more of the configuration was asked for than there is")));
        }
        let config = self.device.device.config();
        let byte = |at: u32| config.get(at as usize).copied().unwrap_or(0);
        Ok((offset..offset + size).map(byte).collect())
    }

    fn set_config(
        &mut self,
        _offset: u32,
        _bytes: &[u8],
        _flags: VhostUserConfigFlags,
    ) -> Result<()> {
        // Nothing in it can be written; as in registers, what is written there is ignored.
        Ok(())
    }

    fn get_inflight_fd(&mut self, wanted: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        if usize::from(wanted.num_queues) > self.rings.len() || wanted.queue_size > SIZE_MAX {
            return Err(failed(refused("more rings or larger ones were asked for than there are")));
        }
        in_flight::make(wanted.num_queues, wanted.queue_size).map_err(failed)
    }

    fn set_inflight_fd(&mut self, described: &VhostUserInflight, file: File) -> Result<()> {
        let rings = self.rings.len();
        if usize::from(described.num_queues) > rings || self.active {
            return Err(failed(refused(
                "the region for requests in flight does not fit the rings",
            )));
        }
        self.in_flight = Some(Region::map(described, file).map_err(failed)?);
        Ok(())
    }

    fn set_gpu_socket(&mut self, _socket: GpuBackend) -> Result<()> {
        unsupported()
    }

    fn get_shared_object(&mut self, _uuid: VhostUserSharedMsg) -> Result<File> {
        unsupported()
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        unsupported()
    }

    fn add_mem_region(
        &mut self,
        _region: &VhostUserSingleMemoryRegion,
        _file: File,
        _postcopy: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        unsupported()
    }

    fn remove_mem_region(&mut self, _region: &VhostUserSingleMemoryRegion) -> Result<()> {
        unsupported()
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _file: File,
    ) -> Result<Option<File>> {
        unsupported()
    }

    fn check_device_state(&mut self) -> Result<()> {
        unsupported()
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        unsupported()
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> Result<()> {
        unsupported()
    }
}
