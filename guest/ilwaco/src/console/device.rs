//! Console devices: input from the terminal, a file or a socket of the host, and output in bulk.

use crate::idle;
use crate::preemption;
use crate::registers;
use crate::virtio::console::ConsoleDevice;
use crate::waiters::Waiters;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::future::poll_fn;
use core::task::Poll;
use denali_abi::boot::{DeviceEntry, KIND_CONSOLE};

/// Bytes of a line after which it is cut.
const LINE_MAX: usize = 4096;

/// There is no such console device, or it does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoDevice;

impl fmt::Display for NoDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such console device is attached, or it does not work")
    }
}

impl core::error::Error for NoDevice {}

struct State {
    device: ConsoleDevice,
    /// Input that was read and is not a whole line yet.
    line: Vec<u8>,
    readers: Waiters,
    writers: Waiters,
}

struct Shared {
    number: u32,
    state: RefCell<State>,
}

vcpu_local! {
    static CONSOLES: RefCell<Vec<&'static Shared>> = RefCell::new(Vec::new());
}

/// The consoles' part in every turn of the idle loop.
struct Turn;

impl idle::Device for Turn {
    fn receive(&self) {
        CONSOLES.with(|consoles| {
            for console in consoles.borrow().iter() {
                console.state.borrow_mut().wake();
            }
        });
    }
}

impl State {
    fn wake(&mut self) {
        if !self.readers.is_empty() && self.device.has_input() {
            self.readers.wake_all();
        }
        if !self.writers.is_empty() && self.device.has_room() {
            self.writers.wake_all();
        }
    }
}

/// A console device. It is not the console that [`println!`](crate::println) writes to, which is there
/// always. Copies are the same device; one task should read at a time, and one write.
#[derive(Clone, Copy)]
pub struct Console {
    shared: &'static Shared,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Console({})", self.shared.number)
    }
}

impl Console {
    /// The device that the configuration calls `name`. It is started the first time it is opened.
    ///
    /// # Errors
    /// When there is none, or it does not work.
    pub fn open(name: &str) -> Result<Self, NoDevice> {
        Self::of(registers::devices(KIND_CONSOLE).find(|device| device.name() == name))
    }

    /// The first device.
    ///
    /// # Errors
    /// As [`Console::open`].
    pub fn first() -> Result<Self, NoDevice> {
        Self::of(registers::devices(KIND_CONSOLE).next())
    }

    fn of(entry: Option<&DeviceEntry>) -> Result<Self, NoDevice> {
        preemption::assert_task("console devices");
        let number = entry.ok_or(NoDevice)?.number;
        let known = CONSOLES
            .with(|all| all.borrow().iter().copied().find(|console| console.number == number));
        if let Some(shared) = known {
            return Ok(Self { shared });
        }
        let number16 = u16::try_from(number).map_err(|_| NoDevice)?;
        let device = ConsoleDevice::start(number16).ok_or(NoDevice)?;
        let state =
            State { device, line: Vec::new(), readers: Waiters::new(), writers: Waiters::new() };
        let shared = Box::leak(Box::new(Shared { number, state: RefCell::new(state) }));
        CONSOLES.with(|all| all.borrow_mut().push(shared));
        idle::add_device(idle::Part::Console, &Turn);
        Ok(Self { shared })
    }

    /// Reads input, at least one byte, into `room`. It has no end: where none comes any more, this waits.
    pub async fn read(self, room: &mut [u8]) -> usize {
        if room.is_empty() {
            return 0;
        }
        poll_fn(|context| {
            let mut state = self.shared.state.borrow_mut();
            let kept = state.line.len().min(room.len());
            room[..kept].copy_from_slice(&state.line[..kept]);
            state.line.drain(..kept);
            let count = kept + state.device.read(&mut room[kept..]);
            if count > 0 {
                return Poll::Ready(count);
            }
            state.readers.add(context);
            Poll::Pending
        })
        .await
    }

    /// Reads a line, without the newline at its end. One of more than 4096 bytes comes in pieces.
    pub async fn read_line(self) -> Vec<u8> {
        poll_fn(|context| {
            let mut state = self.shared.state.borrow_mut();
            let state = &mut *state;
            loop {
                if let Some(line) = take_line(&mut state.line) {
                    return Poll::Ready(line);
                }
                let mut room = [0; 256];
                let count = state.device.read(&mut room);
                if count == 0 {
                    state.readers.add(context);
                    return Poll::Pending;
                }
                state.line.extend_from_slice(&room[..count]);
            }
        })
        .await
    }

    /// Writes all of `bytes`; it completes when the device has been given the last of them. What several
    /// tasks write at once is mixed.
    pub async fn write_all(self, bytes: &[u8]) {
        let mut done = 0;
        self.wait_to_write(|device| {
            done += device.write(&bytes[done..]);
            done == bytes.len()
        })
        .await;
    }

    /// Completes when the host has taken everything that was written.
    pub async fn flush(self) {
        self.wait_to_write(ConsoleDevice::is_written).await;
    }

    /// Tries until `done`, each time that the device has made room.
    async fn wait_to_write(self, mut done: impl FnMut(&mut ConsoleDevice) -> bool) {
        poll_fn(|context| {
            let mut state = self.shared.state.borrow_mut();
            let mut ready = done(&mut state.device);
            if !ready {
                // What the device returns before it hears of this, it does not tell of.
                state.device.interrupt_when_written(true);
                ready = done(&mut state.device);
            }
            if ready {
                state.device.interrupt_when_written(false);
                return Poll::Ready(());
            }
            state.writers.add(context);
            Poll::Pending
        })
        .await;
    }
}

/// Takes the first line, or what is too long for one, out of `bytes`.
fn take_line(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let window = &bytes[..bytes.len().min(LINE_MAX + 1)];
    if let Some(end) = window.iter().position(|&byte| byte == b'\n') {
        let mut line: Vec<u8> = bytes.drain(..=end).collect();
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        return Some(line);
    }
    (bytes.len() > LINE_MAX).then(|| bytes.drain(..LINE_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_their_ends_and_when_they_are_too_long() {
        let mut bytes = b"one\r\n\ntwo".to_vec();
        assert_eq!(take_line(&mut bytes).as_deref(), Some(&b"one"[..]));
        assert_eq!(take_line(&mut bytes).as_deref(), Some(&b""[..]));
        assert_eq!(take_line(&mut bytes), None);
        bytes.resize(LINE_MAX, b'x');
        assert_eq!(take_line(&mut bytes), None);
        bytes.push(b'\n');
        assert_eq!(take_line(&mut bytes).map(|line| line.len()), Some(LINE_MAX));
        bytes.resize(LINE_MAX + 300, b'y');
        assert_eq!(take_line(&mut bytes).map(|line| line.len()), Some(LINE_MAX));
        assert_eq!(bytes.len(), 300);
    }
}
