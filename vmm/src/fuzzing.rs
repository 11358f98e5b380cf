//! For fuzzing: guests as they are saved, without a machine.

use crate::start::SavedGuest;
use denali_devices::BusState;
use denali_vcpu::SavedLoop;

/// The memory and the image of guests that are read.
const GUEST: (u64, &str) = (MEMORY, IMAGE);
/// Bytes of their memory.
pub const MEMORY: u64 = 4 << 20;
/// What stands for the SHA-256 of their image.
pub const IMAGE: &str = "1f";

/// A guest that was read.
#[derive(Debug)]
pub struct Saved {
    /// Registers and time.
    pub vcpu: SavedLoop,
    /// Devices.
    pub devices: BusState,
    /// All of it, written down again.
    pub text: Vec<u8>,
}

/// Reads a guest; `None` if it is none, or another.
#[must_use]
pub fn read(text: &[u8]) -> Option<Saved> {
    let saved = SavedGuest::parse(text, GUEST).ok()?;
    // As the monitor does when the guest goes on.
    assert!(saved.generation.checked_add(1).is_some(), "a generation that cannot go on");
    let text = serde_json::to_vec(&saved).expect("a guest that was read can be written");
    let SavedGuest { vcpu, devices, .. } = saved;
    Some(Saved { vcpu, devices, text })
}

/// Writes a guest down.
#[must_use]
pub fn write(generation: u64, vcpu: SavedLoop, devices: BusState) -> Vec<u8> {
    let saved = SavedGuest::new((MEMORY, IMAGE.into()), generation, vcpu, devices);
    serde_json::to_vec(&saved).expect("guests can be written")
}
