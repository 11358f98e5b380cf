//! Pushes the frame with which a guest is entered at `fault_entry` or `upcall_entry`.

use denali_abi::frame::{Frame, GPR_RDI, RESUME_DISTANCE};
use denali_hypervisor::{GuestRam, Registers};
use vm_memory::{Bytes, GuestAddress};

const FRAME_SIZE: u64 = size_of::<Frame>() as u64;
const WORDS: usize = FRAME_SIZE as usize / 8;

/// Why the guest is entered: what the frame's first words say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reason {
    pub vector: u64,
    pub error_code: u64,
    pub address: u64,
}

/// The guest's stack does not take a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StackUnusable;

/// Pushes the frame below the interrupted code's red zone and gives the registers with which the guest
/// continues at `entry`.
pub(crate) fn push(
    ram: &GuestRam,
    interrupted: &Registers,
    reason: Reason,
    entry: u64,
) -> Result<Registers, StackUnusable> {
    let resume_rsp = interrupted.rsp().checked_sub(RESUME_DISTANCE).ok_or(StackUnusable)?;
    let at = resume_rsp.checked_sub(FRAME_SIZE).ok_or(StackUnusable)? & !15;
    let frame = Frame {
        vector: reason.vector,
        error_code: reason.error_code,
        address: reason.address,
        resume_rsp,
        gpr: interrupted.gpr,
        rip: interrupted.rip,
        rflags: interrupted.rflags,
    };
    let resume = bytes(&[interrupted.rflags, interrupted.rip]);
    ram.write_slice(&resume, GuestAddress(resume_rsp)).map_err(|_| StackUnusable)?;
    ram.write_slice(&bytes(&words(&frame)), GuestAddress(at)).map_err(|_| StackUnusable)?;
    let mut entered = Registers { rip: entry, rflags: 2, ..Registers::default() };
    entered.gpr[GPR_RDI] = at;
    entered.gpr[denali_abi::frame::GPR_RSP] = at;
    Ok(entered)
}

fn words(frame: &Frame) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    words[..4].copy_from_slice(&[frame.vector, frame.error_code, frame.address, frame.resume_rsp]);
    words[4..20].copy_from_slice(&frame.gpr);
    words[20..].copy_from_slice(&[frame.rip, frame.rflags]);
    words
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use denali_arch::space::{Access, AddressSpace};
    use denali_hypervisor::Backing;

    const REASON: Reason = Reason { vector: 14, error_code: 6, address: 0x123 };

    fn ram() -> GuestRam {
        let mut space = AddressSpace::new(16 << 20).unwrap();
        space.set("text", 0x20_0000, 0x20_2000, Some(Access::ReadExecute)).unwrap();
        GuestRam::new(space, Backing::Private).unwrap()
    }

    fn interrupted(rsp: u64) -> Registers {
        let mut registers = Registers { rip: 0x20_0040, rflags: 0x246, ..Registers::default() };
        registers.gpr = std::array::from_fn(|n| n as u64 + 100);
        registers.gpr[denali_abi::frame::GPR_RSP] = rsp;
        registers
    }

    #[test]
    fn the_frame_lies_below_the_red_zone_and_resumes() {
        let ram = ram();
        let rsp = 0x40_1238;
        let entered = push(&ram, &interrupted(rsp), REASON, 0x20_1000).unwrap();
        let at = entered.rsp();
        assert_eq!((entered.rip, entered.rflags, entered.gpr[GPR_RDI]), (0x20_1000, 2, at));
        assert!(at.is_multiple_of(16) && at + FRAME_SIZE <= rsp - RESUME_DISTANCE);
        let word = |address: u64| ram.read_obj::<u64>(GuestAddress(address)).unwrap();
        assert_eq!([word(at), word(at + 8), word(at + 16)], [14, 6, 0x123]);
        assert_eq!(word(at + 24), rsp - 144);
        assert_eq!(word(at + 32 + 8 * 15), 115, "R15");
        assert_eq!([word(at + 160), word(at + 168)], [0x20_0040, 0x246]);
        assert_eq!([word(rsp - 144), word(rsp - 136)], [0x246, 0x20_0040], "popfq; ret 128");
    }

    #[test]
    fn stacks_that_cannot_take_it_are_refused() {
        let ram = ram();
        for rsp in [0, 8, 143, 144, 300, 0x10_0000, 0x20_1000, 0x20_2010, 17 << 20, u64::MAX] {
            let pushed = push(&ram, &interrupted(rsp), REASON, 0x20_1000);
            assert_eq!(pushed, Err(StackUnusable), "{rsp:#x}");
        }
    }
}
