//! The vCPU's x87 and vector registers, as KVM gives and takes them.

use crate::Error;
use kvm_ioctls::{Cap, VcpuFd, VmFd};
use std::os::fd::AsRawFd;

const KVM_GET_XSAVE: libc::c_ulong = 0x9000_aea4;
const KVM_SET_XSAVE: libc::c_ulong = 0x5000_aea5;
const KVM_GET_XSAVE2: libc::c_ulong = 0x9000_aecf;

/// Requests of [`Vcpu::save`](crate::Vcpu::save) to the vCPU beyond those with which it runs: one or the
/// other, as the host's KVM has it.
pub const SAVE_IOCTLS: [libc::c_ulong; 2] = [KVM_GET_XSAVE, KVM_GET_XSAVE2];

/// Requests of [`Vcpu::restore`](crate::Vcpu::restore) beyond those with which a vCPU runs.
pub const RESTORE_IOCTLS: [libc::c_ulong; 1] = [KVM_SET_XSAVE];

/// Bytes of what the first two requests transfer on hosts that do not say otherwise.
const PLAIN_BYTES: usize = 4096;

/// How a host transfers an XSAVE area in the standard format.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    /// KVM_GET_XSAVE, or its successor where there is one.
    get: libc::c_ulong,
    bytes: usize,
}

impl Transfer {
    /// The way of this host.
    pub(super) fn of(vm: &VmFd) -> Self {
        match usize::try_from(vm.check_extension_int(Cap::Xsave2)) {
            Ok(bytes @ PLAIN_BYTES..) => Self { get: KVM_GET_XSAVE2, bytes },
            _ => Self { get: KVM_GET_XSAVE, bytes: PLAIN_BYTES },
        }
    }

    /// An area of the right size in which everything is as after a reset.
    pub(super) fn clean(&self) -> Vec<u8> {
        vec![0; self.bytes]
    }

    /// The vCPU's registers.
    pub(super) fn get(&self, vcpu: &VcpuFd) -> Result<Vec<u8>, Error> {
        let mut area = self.clean();
        // SAFETY: KVM writes as many bytes as it said, which the area has, or 4096 where it did not say.
        let status = unsafe { libc::ioctl(vcpu.as_raw_fd(), self.get, area.as_mut_ptr()) };
        if status < 0 { Err(Error::last("read extended processor state")) } else { Ok(area) }
    }

    /// Replaces the vCPU's registers by those in an area that [`Transfer::clean`] made.
    pub(super) fn set(&self, vcpu: &VcpuFd, area: &[u8]) -> Result<(), Error> {
        if area.len() != self.bytes {
            return Err(Error::Misuse("extended processor state of the wrong size"));
        }
        // SAFETY: KVM reads as many bytes as it said, which the area has (checked), or 4096 where it did
        // not say.
        let status = unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_SET_XSAVE, area.as_ptr()) };
        if status < 0 { Err(Error::last("set extended processor state")) } else { Ok(()) }
    }
}
