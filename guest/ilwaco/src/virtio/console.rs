//! The virtio console: bytes in and out of two queues, as tasks want them.

use super::queue::{ENTRIES, Layout, Queue, Rings};
use super::{RegisterFile, start};
use crate::memory;
use alloc::boxed::Box;
use denali_abi::virtio::{CONSOLE_RECEIVE_QUEUE, CONSOLE_TRANSMIT_QUEUE};

/// Buffers for input and their size, and those for output. Both take memory only as far as they are used.
const INPUT: Layout = Layout { large: 4, large_len: 1024, small_len: 0 };
const OUTPUT: Layout = Layout { large: 8, large_len: 4096, small_len: 0 };

/// A console that is ready.
pub(crate) struct ConsoleDevice {
    input: Queue,
    output: Queue,
    /// The buffer that is being read: its number, how far, and how many bytes it has.
    reading: Option<(u16, usize, usize)>,
    /// Output buffers that the device does not have, as bits.
    free: u64,
}

impl ConsoleDevice {
    /// Starts the console with device number `number`, once; `None` if it does not work or there is no
    /// memory for its buffers.
    pub(crate) fn start(number: u16) -> Option<Self> {
        let registers = RegisterFile::of_device(number);
        start::agree(registers, 0)?;
        let [input, output] = Box::leak(Box::new([Rings::new(), Rings::new()]));
        for (queue, rings) in [(CONSOLE_RECEIVE_QUEUE, &*input), (CONSOLE_TRANSMIT_QUEUE, &*output)]
        {
            if start::queue_size_max(registers, queue) < ENTRIES {
                return None;
            }
            start::set_up_queue(registers, queue, ENTRIES, rings.addresses());
        }
        let device = Self::over([input, output])?;
        start::run(registers);
        Some(device)
    }

    fn over([input, output]: [&'static Rings; 2]) -> Option<Self> {
        let queue =
            |rings, layout: Layout| Some(Queue::new(rings, memory::fresh(layout.bytes())?, layout));
        let mut device = Self {
            input: queue(input, INPUT)?,
            output: queue(output, OUTPUT)?,
            reading: None,
            free: (1 << OUTPUT.large) - 1,
        };
        for id in 0..INPUT.large as u16 {
            device.input.give_to_write(id);
        }
        device.output.set_interrupts(false);
        Some(device)
    }

    /// Whether input waits.
    pub(crate) fn has_input(&self) -> bool {
        self.reading.is_some() || self.input.has_used()
    }

    /// Copies input that waits into `room`; how many bytes.
    pub(crate) fn read(&mut self, room: &mut [u8]) -> usize {
        let mut done = 0;
        while done < room.len() {
            let next = self.reading.take().or_else(|| {
                let (id, len) = self.input.take_used()?;
                Some((id, 0, len))
            });
            let Some((id, from, len)) = next else { break };
            let count = (len - from).min(room.len() - done);
            room[done..done + count].copy_from_slice(&self.input.buffer(id)[from..from + count]);
            done += count;
            if from + count < len {
                self.reading = Some((id, from + count, len));
            } else {
                self.input.give_to_write(id);
            }
        }
        done
    }

    /// Whether there is room for output.
    pub(crate) fn has_room(&mut self) -> bool {
        while let Some((id, _)) = self.output.take_used() {
            self.free |= (1 << id) & ((1 << OUTPUT.large) - 1);
        }
        self.free != 0
    }

    /// Gives the device the first of `bytes`, as many as there is room for; how many.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() && self.has_room() {
            let id = self.free.trailing_zeros() as u16;
            self.free &= self.free - 1;
            let buffer = self.output.buffer(id);
            let count = (bytes.len() - done).min(buffer.len());
            buffer[..count].copy_from_slice(&bytes[done..done + count]);
            self.output.give_to_read(id, count);
            done += count;
        }
        done
    }

    /// Whether the device has all output, and is done with it.
    pub(crate) fn is_written(&mut self) -> bool {
        self.has_room() && self.free == (1 << OUTPUT.large) - 1
    }

    /// Asks for an interrupt when the device is done with output, or for none.
    pub(crate) fn interrupt_when_written(&self, wanted: bool) {
        self.output.set_interrupts(wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::queue::tests::FakeDevice;

    fn device() -> (ConsoleDevice, [FakeDevice; 2]) {
        let [input, output] = Box::leak(Box::new([Rings::new(), Rings::new()]));
        let (input, output): (&'static Rings, &'static Rings) = (input, output);
        let fakes = [FakeDevice::new(input), FakeDevice::new(output)];
        (ConsoleDevice::over([input, output]).unwrap(), fakes)
    }

    #[test]
    fn input_is_read_across_buffers_which_are_used_again() {
        let (mut console, [mut input, _]) = device();
        let mut expected = 0_u8;
        for round in 0..100_usize {
            assert!(!console.has_input());
            for _ in 0..2 {
                let (id, buffer) = input.next().unwrap();
                for byte in &mut buffer[..round] {
                    *byte = expected;
                    expected = expected.wrapping_add(1);
                }
                input.finish(id.into(), round);
            }
            let mut room = [0; 7];
            let mut seen = expected.wrapping_sub((2 * round) as u8);
            while console.has_input() {
                let count = console.read(&mut room);
                for &byte in &room[..count] {
                    assert_eq!(byte, seen);
                    seen = seen.wrapping_add(1);
                }
            }
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn output_fills_all_buffers_and_waits_for_the_device() {
        let (mut console, [_, mut output]) = device();
        let bytes: Vec<u8> = (0..100_000).map(|n| (n % 251) as u8).collect();
        let (mut done, mut got) = (0, Vec::new());
        while got.len() < bytes.len() {
            done += console.write(&bytes[done..]);
            assert!(!console.is_written());
            let (id, buffer) = output.next().unwrap();
            got.extend_from_slice(buffer);
            output.finish(id.into(), 0);
        }
        assert_eq!(got, bytes);
        assert!(console.is_written());
    }

    #[test]
    fn a_device_that_returns_nonsense_is_survived() {
        let (mut console, [mut input, mut output]) = device();
        for id in [0, 3, 9, 63, 64, u32::MAX] {
            input.finish(id, 5000);
            output.finish(id, 5000);
        }
        assert!(console.read(&mut [0; 10_000]) <= 2048);
        assert!(console.is_written());
    }
}
