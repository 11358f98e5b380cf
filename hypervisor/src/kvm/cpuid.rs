//! The processor a guest sees under KVM: the host's instructions that need no help of a hypervisor.
//!
//! A guest at CPL 3 can only use user-mode instructions, so an allow-list of those replaces the long
//! list that `KVM_GET_SUPPORTED_CPUID` makes: asking for that list costs 0.4 ms for each guest on
//! hosts that are themselves virtual machines, where every CPUID instruction is trapped.

use core::arch::x86_64::{__cpuid_count, CpuidResult};
use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// CLFLUSH line size; the rest of leaf 1 EBX tells CPUs apart, and there is one.
const LEAF_1_EBX: u32 = 0x0000_ff00;
const LEAF_1_ECX: u32 = bits(&[
    0,  // SSE3
    1,  // PCLMULQDQ
    9,  // SSSE3
    12, // FMA
    13, // CMPXCHG16B
    19, // SSE4.1
    20, // SSE4.2
    22, // MOVBE
    23, // POPCNT
    25, // AES
    26, // XSAVE
    28, // AVX
    29, // F16C
    30, // RDRAND
    31, // runs under a hypervisor
]);
const LEAF_1_EDX: u32 = bits(&[
    0,  // x87
    4,  // TSC
    5,  // MSRs, which KVM's own long mode checks rest on
    6,  // PAE
    8,  // CMPXCHG8B
    15, // CMOV
    19, // CLFLUSH
    23, // MMX
    24, // FXSAVE
    25, // SSE
    26, // SSE2
]);
const LEAF_7_EBX: u32 = bits(&[
    0, // FSGSBASE
    3, // BMI1
    5, // AVX2
    8, // BMI2
    9, // fast REP MOVSB
    16, 17, 21, 28, 30, 31, // AVX-512 F, DQ, IFMA, CD, BW, VL
    18, // RDSEED
    19, // ADX
    23, 24, // CLFLUSHOPT, CLWB
    29, // SHA
]);
const LEAF_7_ECX: u32 = bits(&[
    1, 6, 11, 12, 14, // AVX-512 VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ
    8, 9, 10, // GFNI, VAES, VPCLMULQDQ
]);
const LEAF_7_EDX: u32 = bits(&[4]); // fast short REP MOV
const EXTENDED_1_ECX: u32 = bits(&[0, 5, 8]); // LAHF, LZCNT, PREFETCHW
const EXTENDED_1_EDX: u32 = bits(&[20, 29]); // no-execute, long mode
/// x87, SSE, AVX and the three parts of AVX-512.
const COMPONENTS: u32 = 0b1110_0111;
const XSAVE_FEATURES: u32 = bits(&[0, 1, 2]); // XSAVEOPT, XSAVEC, XGETBV with ECX = 1

const LEAF_MAX: u32 = 0xd;
const EXTENDED: u32 = 0x8000_0000;
const EXTENDED_MAX: u32 = 0x8000_0008;

const fn bits(positions: &[u32]) -> u32 {
    let mut set = 0;
    let mut index = 0;
    while index < positions.len() {
        set |= 1 << positions[index];
        index += 1;
    }
    set
}

/// What the guest's processor has that its set-up depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Features {
    /// XSAVE, and with it state beyond SSE.
    pub xsave: bool,
    /// FS and GS bases can be set at CPL 3.
    pub fsgsbase: bool,
    /// State components (XCR0 bits) the guest may enable.
    pub components: u64,
}

/// The table for `KVM_SET_CPUID2`, and what is in it; `None` if it does not fit, which it does.
pub(super) fn table() -> Option<(CpuId, Features)> {
    let one = masked(1, 0, [u32::MAX, LEAF_1_EBX, LEAF_1_ECX, LEAF_1_EDX]);
    let highest = host(0, 0);
    let mut entries = vec![
        kvm_cpuid_entry2 { eax: highest.eax.min(LEAF_MAX), ..entry(0, 0, highest) },
        kvm_cpuid_entry2 { ecx: one.ecx | 1 << 31, ..one },
    ];
    let mut features =
        Features { xsave: one.ecx & 1 << 26 != 0, components: 0b11, ..Features::default() };
    if highest.eax >= 7 {
        let seven = masked(7, 0, [0, LEAF_7_EBX, LEAF_7_ECX, LEAF_7_EDX]);
        features.fsgsbase = seven.ebx & 1 != 0;
        entries.push(indexed(seven));
    }
    if features.xsave && highest.eax >= 0xd {
        let sizes = masked(0xd, 0, [COMPONENTS, u32::MAX, u32::MAX, 0]);
        features.components = u64::from(sizes.eax);
        entries.push(indexed(sizes));
        entries.push(indexed(masked(0xd, 1, [XSAVE_FEATURES, 0, 0, 0])));
        for component in (2..8).filter(|component| sizes.eax & 1 << component != 0) {
            entries.push(indexed(masked(0xd, component, [u32::MAX, u32::MAX, u32::MAX, 0])));
        }
    }
    let extended = entry(EXTENDED, 0, CpuidResult { eax: EXTENDED_MAX, ..highest });
    entries.push(extended);
    entries.push(masked(EXTENDED + 1, 0, [0, 0, EXTENDED_1_ECX, EXTENDED_1_EDX]));
    entries.push(masked(EXTENDED_MAX, 0, [0xffff, 0, 0, 0]));
    CpuId::from_entries(&entries).ok().map(|table| (table, features))
}

fn host(leaf: u32, index: u32) -> CpuidResult {
    __cpuid_count(leaf, index)
}

fn masked(leaf: u32, index: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> kvm_cpuid_entry2 {
    let host = host(leaf, index);
    let kept = CpuidResult {
        eax: host.eax & eax,
        ebx: host.ebx & ebx,
        ecx: host.ecx & ecx,
        edx: host.edx & edx,
    };
    entry(leaf, index, kept)
}

fn entry(leaf: u32, index: u32, values: CpuidResult) -> kvm_cpuid_entry2 {
    let CpuidResult { eax, ebx, ecx, edx } = values;
    kvm_cpuid_entry2 { function: leaf, index, eax, ebx, ecx, edx, ..Default::default() }
}

fn indexed(entry: kvm_cpuid_entry2) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 { flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX, ..entry }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_nothing_the_host_lacks() {
        let (table, _) = table().unwrap();
        for entry in table.as_slice() {
            if matches!(entry.function, 7 | 0xd | 0x8000_0001) {
                let host = host(entry.function, entry.index);
                assert_eq!(entry.ebx & !host.ebx, 0, "leaf {:#x}", entry.function);
                assert_eq!(entry.edx & !host.edx, 0, "leaf {:#x}", entry.function);
            }
        }
    }

    #[test]
    fn what_needs_a_hypervisor_is_not_offered() {
        let (table, features) = table().unwrap();
        let leaf = |function| table.as_slice().iter().find(|e| e.function == function).unwrap();
        assert_eq!(leaf(1).ecx & (1 << 5 | 1 << 3 | 1 << 21 | 1 << 24), 0, "VMX, MWAIT, x2APIC");
        assert_eq!(leaf(1).edx & (1 << 9), 0, "no local APIC");
        assert_eq!(leaf(0x8000_0001).edx & (1 << 11), 0, "no SYSCALL");
        assert_eq!(features.components & !0xe7, 0, "no AMX, no MPX, no PKRU");
    }
}
