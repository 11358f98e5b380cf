//! Random bytes from an entropy device.

use crate::virtio::queue::{ENTRIES, Layout, Queue, Rings};
use crate::virtio::{RegisterFile, start};
use crate::waiters::Waiters;
use crate::{idle, memory, registers, virtio};
use alloc::boxed::Box;
use core::cell::RefCell;
use core::fmt;
use core::future::poll_fn;
use core::task::Poll;
use denali_abi::boot::KIND_ENTROPY;
use denali_abi::virtio::ENTROPY_QUEUE;

/// The one buffer: enough for a key, with a margin for devices that give less than was asked for.
const BUFFER: Layout = Layout { large: 1, large_len: 64, small_len: 0 };

/// There is no entropy device, or it does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoDevice;

impl fmt::Display for NoDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no entropy device is attached, or it does not work")
    }
}

impl core::error::Error for NoDevice {}

struct Device {
    queue: Queue,
    /// The device has the buffer.
    asked: bool,
    waiting: Waiters,
}

vcpu_local! {
    static DEVICE: RefCell<Option<Device>> = RefCell::new(None);
}

/// The device's part in every turn of the idle loop.
struct Turn;

impl idle::Device for Turn {
    fn receive(&self) {
        DEVICE.with(|cell| {
            if let Some(device) = cell.borrow_mut().as_mut()
                && device.queue.has_used()
            {
                device.waiting.wake_all();
            }
        });
    }
}

fn start() -> Result<Device, NoDevice> {
    let entry = registers::devices(KIND_ENTROPY).next().ok_or(NoDevice)?;
    let registers = RegisterFile::of_device(u16::try_from(entry.number).map_err(|_| NoDevice)?);
    start::agree(registers, 0).ok_or(NoDevice)?;
    if start::queue_size_max(registers, ENTROPY_QUEUE) < ENTRIES {
        return Err(NoDevice);
    }
    let rings: &'static Rings = Box::leak(Box::new(Rings::new()));
    let queue = Queue::new(rings, memory::fresh(BUFFER.bytes()).ok_or(NoDevice)?, BUFFER);
    start::set_up_queue(registers, ENTROPY_QUEUE, ENTRIES, rings.addresses());
    start::run(registers);
    idle::add_device(idle::Part::Entropy, &Turn);
    Ok(Device { queue, asked: false, waiting: Waiters::new() })
}

impl Device {
    /// Bytes from the device, as many as `room` takes, and asks for them if nobody has.
    fn poll(&mut self, room: &mut [u8]) -> Option<usize> {
        if let Some((id, len)) = self.queue.take_used()
            && self.asked
        {
            self.asked = false;
            let count = len.min(room.len());
            let buffer = self.queue.buffer(id);
            room[..count].copy_from_slice(&buffer[..count]);
            // Nothing that was given out stays in memory.
            buffer.fill(0);
            if count > 0 {
                return Some(count);
            }
        }
        if !self.asked {
            self.asked = true;
            self.queue.give_to_write(0);
            virtio::note_given();
        }
        None
    }
}

/// Fills `bytes` from the first entropy device of this guest, which is started at its first use.
pub(super) async fn read(bytes: &mut [u8]) -> Result<(), NoDevice> {
    DEVICE.with(|cell| {
        let mut device = cell.borrow_mut();
        if device.is_none() {
            *device = Some(start()?);
        }
        Ok(())
    })?;
    let mut done = 0;
    while done < bytes.len() {
        done += poll_fn(|context| {
            DEVICE.with(|cell| {
                let mut device = cell.borrow_mut();
                let Some(device) = device.as_mut() else { return Poll::Ready(Err(NoDevice)) };
                if let Some(count) = device.poll(&mut bytes[done..]) {
                    // Others who wait ask for themselves.
                    device.waiting.wake_all();
                    return Poll::Ready(Ok(count));
                }
                device.waiting.add(context);
                Poll::Pending
            })
        })
        .await?;
    }
    Ok(())
}
