//! How a driver starts its device, as all devices but the network card share it.

use super::RegisterFile;
use denali_abi::virtio::{
    DEVICE_FEATURES, DEVICE_FEATURES_SEL, DRIVER_FEATURES, DRIVER_FEATURES_SEL, FEATURE_VERSION_1,
    QUEUE_DESC_LOW, QUEUE_DEVICE_LOW, QUEUE_DRIVER_LOW, QUEUE_READY, QUEUE_SEL, QUEUE_SIZE,
    QUEUE_SIZE_MAX, STATUS, STATUS_ACKNOWLEDGE, STATUS_DRIVER, STATUS_DRIVER_OK,
    STATUS_FEATURES_OK,
};

/// Status of a device whose driver has agreed on features with it.
const AGREED: u32 = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK;

/// Agrees on `VERSION_1` and those of the `wanted` features that the device offers, which are returned;
/// `None` if the device refuses.
pub(crate) fn agree(registers: RegisterFile, wanted: u64) -> Option<u64> {
    registers.write(STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    let low = registers.read(DEVICE_FEATURES);
    registers.write(DEVICE_FEATURES_SEL, 1);
    let high = registers.read(DEVICE_FEATURES);
    let offered = u64::from(low) | u64::from(high) << 32;
    let features = offered & (wanted | FEATURE_VERSION_1);
    for half in 0..2 {
        registers.write(DRIVER_FEATURES_SEL, half);
        registers.write(DRIVER_FEATURES, (features >> (32 * half)) as u32);
    }
    registers.write(STATUS, AGREED);
    (registers.read(STATUS) & STATUS_FEATURES_OK != 0).then_some(features)
}

/// Most entries of queue number `queue`; 0 = there is no such queue.
pub(crate) fn queue_size_max(registers: RegisterFile, queue: u16) -> usize {
    registers.write(QUEUE_SEL, u32::from(queue));
    registers.read(QUEUE_SIZE_MAX) as usize
}

/// Tells the device where queue number `queue` is, whose `entries` are a power of two. The high halves of
/// the addresses stay 0: all of a guest's memory is below 4 GiB.
pub(crate) fn set_up_queue(
    registers: RegisterFile,
    queue: u16,
    entries: usize,
    [descriptors, available, used]: [u64; 3],
) {
    registers.write(QUEUE_SEL, u32::from(queue));
    registers.write(QUEUE_SIZE, entries as u32);
    registers.write(QUEUE_DESC_LOW, descriptors as u32);
    registers.write(QUEUE_DRIVER_LOW, available as u32);
    registers.write(QUEUE_DEVICE_LOW, used as u32);
    registers.write(QUEUE_READY, 1);
}

/// Lets the device run.
pub(crate) fn run(registers: RegisterFile) {
    registers.write(STATUS, AGREED | STATUS_DRIVER_OK);
}
