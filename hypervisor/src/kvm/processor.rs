//! How the vCPU is set up before its first entry: CPUID, control registers, segments, extended state.

use super::cpuid::{self, Features};
use crate::Error;
use denali_arch::tables;
use kvm_bindings::{
    Msrs, kvm_device_attr, kvm_dtable, kvm_msr_entry, kvm_segment, kvm_xcr, kvm_xcrs,
};
use kvm_ioctls::VcpuFd;
use std::os::fd::AsRawFd;

// Protected mode, monitored coprocessor, 387, native errors, write protection, alignment checks,
// paging: what Linux sets, so that a process and a virtual machine behave alike.
const CR0: u64 = 1 << 0 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18 | 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const CR4_OSFXSR: u64 = 1 << 9;
const CR4_OSXMMEXCPT: u64 = 1 << 10;
const CR4_FSGSBASE: u64 = 1 << 16;
const CR4_OSXSAVE: u64 = 1 << 18;
// Long mode enabled and active, no-execute. SYSCALL stays off and is an invalid opcode.
const EFER: u64 = 1 << 8 | 1 << 10 | 1 << 11;

/// Sets everything but the general registers, and tells what the guest's processor has.
pub(super) fn set_up(vcpu: &VcpuFd) -> Result<Features, Error> {
    let features = set_cpuid(vcpu)?;
    set_system_registers(vcpu, features)?;
    if features.xsave {
        enable_extended_state(vcpu, features)?;
    }
    aim_system_calls(vcpu)?;
    share_time_stamp_counter(vcpu);
    Ok(features)
}

/// Gives the guest its processor.
fn set_cpuid(vcpu: &VcpuFd) -> Result<Features, Error> {
    let (table, features) = cpuid::table().ok_or(Error::Misuse("the CPUID table is too long"))?;
    vcpu.set_cpuid2(&table).map_err(Error::host("set the vCPU's CPUID"))?;
    Ok(features)
}

fn set_system_registers(vcpu: &VcpuFd, features: Features) -> Result<(), Error> {
    let mut sregs = vcpu.get_sregs().map_err(Error::host("read system registers"))?;
    sregs.cr0 = CR0;
    sregs.cr3 = tables::PML4;
    sregs.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    sregs.cr4 |= if features.fsgsbase { CR4_FSGSBASE } else { 0 };
    sregs.cr4 |= if features.xsave { CR4_OSXSAVE } else { 0 };
    sregs.efer = EFER;
    sregs.gdt =
        kvm_dtable { base: tables::GDT, limit: tables::GDT_SIZE as u16 - 1, ..Default::default() };
    sregs.idt =
        kvm_dtable { base: tables::IDT, limit: tables::IDT_SIZE as u16 - 1, ..Default::default() };
    set_user_segments(&mut sregs);
    for data in [&mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs] {
        *data = user_data();
    }
    sregs.tr = kvm_segment {
        base: tables::TSS,
        limit: tables::TSS_LIMIT,
        selector: tables::TSS_SELECTOR,
        type_: 0xb, // busy 64-bit TSS: VMX enters with nothing else
        present: 1,
        ..Default::default()
    };
    sregs.ldt = kvm_segment { unusable: 1, ..Default::default() };
    vcpu.set_sregs(&sregs).map_err(Error::host("set system registers"))
}

/// CS and SS of CPL 3: the state in which a guest always runs.
pub(super) fn set_user_segments(sregs: &mut kvm_bindings::kvm_sregs) {
    sregs.cs = kvm_segment {
        selector: tables::USER_CODE,
        limit: u32::MAX,
        type_: 0xb,
        present: 1,
        dpl: 3,
        s: 1,
        l: 1,
        g: 1,
        ..Default::default()
    };
    sregs.ss = user_data();
}

fn user_data() -> kvm_segment {
    kvm_segment {
        selector: tables::USER_DATA,
        limit: u32::MAX,
        type_: 0x3,
        present: 1,
        dpl: 3,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    }
}

/// Opens x87, SSE, AVX and AVX-512 state as far as the processor has them.
fn enable_extended_state(vcpu: &VcpuFd, features: Features) -> Result<(), Error> {
    let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..Default::default() };
    xcrs.xcrs[0] = kvm_xcr { xcr: 0, value: features.components, ..Default::default() };
    vcpu.set_xcrs(&xcrs).map_err(Error::host("enable extended processor state"))
}

/// SYSCALL is off; where a host lets it through all the same, it leads where it can be recognised.
fn aim_system_calls(vcpu: &VcpuFd) -> Result<(), Error> {
    const MSR_LSTAR: u32 = 0xc000_0082;
    let target =
        kvm_msr_entry { index: MSR_LSTAR, data: tables::SYSCALL_TARGET, ..Default::default() };
    let msrs = Msrs::from_entries(&[target])
        .map_err(|_| Error::Misuse("a list of one register is too long"))?;
    match vcpu.set_msrs(&msrs).map_err(Error::host("set model-specific registers"))? {
        1 => Ok(()),
        _ => Err(Error::Unsupported("the target of SYSCALL cannot be set")),
    }
}

/// Makes the guest's time-stamp counter the host's. Hosts without the attribute share it already (or
/// are told apart by [`Vcpu::tsc_offset`](crate::Vcpu::tsc_offset)), so a refusal is no error.
fn share_time_stamp_counter(vcpu: &VcpuFd) {
    const KVM_SET_DEVICE_ATTR: libc::c_ulong = 0x4018_aee1;
    const KVM_VCPU_TSC_CTRL: u32 = 0;
    const KVM_VCPU_TSC_OFFSET: u64 = 0;
    let offset = 0_u64;
    let attribute = kvm_device_attr {
        group: KVM_VCPU_TSC_CTRL,
        attr: KVM_VCPU_TSC_OFFSET,
        addr: (&raw const offset) as u64,
        flags: 0,
    };
    // SAFETY: the ioctl reads the attribute and the 8 bytes at `addr`, both alive during the call.
    unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_SET_DEVICE_ATTR, &raw const attribute) };
}
