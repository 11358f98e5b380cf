//! Random bytes: ChaCha20 keyed from the entropy of the virtual registers, and keyed anew whenever
//! this guest turns out to be a copy, or to have come back from swap or a snapshot.

mod device;

pub use device::NoDevice;

use crate::chacha;
use crate::registers::virtual_registers;
use core::cell::RefCell;
use core::sync::atomic::Ordering;
use denali_abi::registers::VirtualRegisters;

struct Generator {
    seeded: bool,
    generation: u64,
    key: [u8; 32],
}

vcpu_local! {
    static GENERATOR: RefCell<Generator> =
        RefCell::new(Generator { seeded: false, generation: 0, key: [0; 32] });
}

/// Fills `bytes` with random bytes fit for cryptography.
pub fn fill(bytes: &mut [u8]) {
    GENERATOR.with(|generator| generator.borrow_mut().fill(virtual_registers(), bytes));
}

/// Mixes 32 bytes of the first entropy device into the generator's key. It is good without, but who trusts
/// several sources more than one can call this at the start, or from time to time.
///
/// # Errors
/// When there is no entropy device, or it does not work; the generator is then as before.
pub async fn reseed() -> Result<(), NoDevice> {
    let mut bytes = [0; 32];
    device::read(&mut bytes).await?;
    GENERATOR.with(|generator| generator.borrow_mut().mix(&bytes));
    Ok(())
}

/// Fills `bytes` with what the first entropy device gives, as it gives it.
///
/// # Errors
/// When there is no entropy device, or it does not work.
pub async fn read_device(bytes: &mut [u8]) -> Result<(), NoDevice> {
    device::read(bytes).await
}

/// A random number.
#[must_use]
pub fn next_u64() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

impl Generator {
    fn fill(&mut self, registers: &VirtualRegisters, bytes: &mut [u8]) {
        self.reseed_if_needed(registers);
        // The first half of each batch's first block becomes the next key and is never given out,
        // so that a leaked state says nothing about earlier output.
        let first = chacha::block(&self.key, 0, [0; 3]);
        let old = self.key;
        self.key.copy_from_slice(&first[..32]);
        let (head, rest) = bytes.split_at_mut(bytes.len().min(32));
        head.copy_from_slice(&first[32..32 + head.len()]);
        for (index, part) in rest.chunks_mut(64).enumerate() {
            let counter = (index + 1) as u64;
            let nonce = [(counter >> 32) as u32, 0, 0];
            let block = chacha::block(&old, counter as u32, nonce);
            part.copy_from_slice(&block[..part.len()]);
        }
    }

    /// Makes the key depend on `bytes` too. It becomes no easier to guess, whoever chose them.
    fn mix(&mut self, bytes: &[u8; 32]) {
        for (key, byte) in self.key.iter_mut().zip(bytes) {
            *key ^= byte;
        }
    }

    fn reseed_if_needed(&mut self, registers: &VirtualRegisters) {
        while !self.seeded || self.generation != registers.generation.load(Ordering::Acquire) {
            self.seeded = true;
            self.generation = registers.generation.load(Ordering::Acquire);
            for (bytes, word) in self.key.as_chunks_mut::<8>().0.iter_mut().zip(&registers.entropy)
            {
                let mixed = u64::from_le_bytes(*bytes) ^ word.load(Ordering::Relaxed);
                *bytes = mixed.to_le_bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers(seed: u64) -> VirtualRegisters {
        // SAFETY: the registers are integers and atomic integers, for which all-zero is valid.
        let registers: VirtualRegisters = unsafe { core::mem::zeroed() };
        registers.generation.store(1, Ordering::Relaxed);
        registers.entropy[0].store(seed, Ordering::Relaxed);
        registers
    }

    fn fresh() -> Generator {
        Generator { seeded: false, generation: 0, key: [0; 32] }
    }

    #[test]
    fn output_depends_on_the_seed_and_never_repeats() {
        let (mut one, mut other) = ([0; 100], [0; 100]);
        let mut generator = fresh();
        generator.fill(&registers(1), &mut one);
        generator.fill(&registers(1), &mut other);
        assert_ne!(one, other);
        assert_ne!(one[..32], one[32..64]);
        fresh().fill(&registers(2), &mut other);
        assert_ne!(one, other);
        fresh().fill(&registers(1), &mut other);
        assert_eq!(one, other);
    }

    #[test]
    fn what_is_mixed_in_changes_what_comes_out() {
        let (mut one, mut other) = ([0; 32], [0; 32]);
        let (mut plain, mut mixed) = (fresh(), fresh());
        mixed.mix(&[1; 32]);
        plain.fill(&registers(1), &mut one);
        mixed.fill(&registers(1), &mut other);
        assert_ne!(one, other);
    }

    #[test]
    fn copies_of_a_guest_diverge() {
        let before = registers(1);
        let mut original = fresh();
        original.fill(&before, &mut [0; 8]);
        let mut copy =
            Generator { seeded: true, generation: original.generation, key: original.key };
        let after = registers(99);
        after.generation.store(2, Ordering::Relaxed);
        let (mut one, mut other) = ([0; 32], [0; 32]);
        original.fill(&before, &mut one);
        copy.fill(&after, &mut other);
        assert_ne!(one, other);
    }
}
