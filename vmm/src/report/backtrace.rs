//! Follows frame pointers through a stack that may be anything.

use denali_arch::space::Access;
use denali_hypervisor::{GuestRam, Registers};
use vm_memory::{Bytes, GuestAddress};

/// Most callers that are followed.
const CALLERS_MAX: usize = 32;

const RBP: usize = 6;

/// Return addresses into code, innermost first, as the chain of frame pointers gives them. The chain
/// ends where it leaves readable memory, does not rise, or a return address is not code.
pub(super) fn callers(ram: &GuestRam, registers: &Registers) -> Vec<u64> {
    let mut callers = Vec::new();
    if !is_code(ram, registers.rip) {
        // A call to a bad address has pushed where it came from and nothing else.
        callers.extend(word(ram, registers.rsp()).filter(|&address| is_code(ram, address)));
    }
    let mut frame = registers.gpr[RBP];
    while callers.len() < CALLERS_MAX {
        let saved = word(ram, frame);
        let back = frame.checked_add(8).and_then(|at| word(ram, at));
        let (Some(next), Some(address)) = (saved, back) else { break };
        if !is_code(ram, address) {
            break;
        }
        callers.push(address);
        if next <= frame {
            break;
        }
        frame = next;
    }
    callers
}

/// The word at an aligned address that the guest may read.
fn word(ram: &GuestRam, address: u64) -> Option<u64> {
    if !address.is_multiple_of(8) {
        return None;
    }
    ram.read_obj::<u64>(GuestAddress(address)).ok()
}

fn is_code(ram: &GuestRam, address: u64) -> bool {
    ram.space().access_at(address) == Some(Access::ReadExecute)
}
