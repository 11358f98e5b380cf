//! Doorbells: the I/O ports through which a guest asks for everything it can ask for.

/// Process all queues, then sleep until `pending` is non-zero or `idle_deadline_ns` passes. Returns
/// at once if something is pending. The value written is ignored.
pub const IDLE: u16 = 0x0D00;

/// End this guest; EAX is its exit status. Never returns.
pub const TERMINATE: u16 = 0x0D01;

/// Write `console_len` bytes at `console_addr` (virtual registers) to the console.
pub const CONSOLE: u16 = 0x0D02;

/// Process all queues now, do not sleep.
pub const FLUSH: u16 = 0x0D03;

/// Notify device n at port `NOTIFY + n`; AX is the queue number.
pub const NOTIFY: u16 = 0x0D10;

/// The virtio register file of device n starts at port `DEVICE_REGISTERS + n * DEVICE_STRIDE`.
pub const DEVICE_REGISTERS: u16 = 0x1000;

/// Ports each device's register file takes.
pub const DEVICE_STRIDE: u16 = 0x200;

/// Most devices a guest can have; their numbers are `0 .. DEVICES_MAX`.
pub const DEVICES_MAX: usize = 62;

/// The port range `DEVICE_REGISTERS ..` of all devices ends here (exclusive).
pub const DEVICE_REGISTERS_END: u16 = DEVICE_REGISTERS + DEVICES_MAX as u16 * DEVICE_STRIDE;

/// What an access to a port means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doorbell {
    /// [`IDLE`]
    Idle,
    /// [`TERMINATE`]
    Terminate,
    /// [`CONSOLE`]
    Console,
    /// [`FLUSH`]
    Flush,
    /// [`NOTIFY`] with the device's number.
    Notify(usize),
    /// A register of a device: its number and the register's offset in the file.
    Register(usize, u16),
}

impl Doorbell {
    /// What an access to `port` means, or `None` for a port that is not part of the contract.
    #[must_use]
    pub fn decode(port: u16) -> Option<Self> {
        const NOTIFY_END: u16 = NOTIFY + DEVICES_MAX as u16;
        match port {
            IDLE => Some(Self::Idle),
            TERMINATE => Some(Self::Terminate),
            CONSOLE => Some(Self::Console),
            FLUSH => Some(Self::Flush),
            NOTIFY..NOTIFY_END => Some(Self::Notify(usize::from(port - NOTIFY))),
            DEVICE_REGISTERS..DEVICE_REGISTERS_END => {
                let offset = port - DEVICE_REGISTERS;
                Some(Self::Register(usize::from(offset / DEVICE_STRIDE), offset % DEVICE_STRIDE))
            }
            _ => None,
        }
    }
}

const _: () = assert!(DEVICE_REGISTERS_END == 0x8C00);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_decodes_to_itself_or_nothing() {
        for port in 0..=u16::MAX {
            let back = match Doorbell::decode(port) {
                None => continue,
                Some(Doorbell::Idle) => IDLE,
                Some(Doorbell::Terminate) => TERMINATE,
                Some(Doorbell::Console) => CONSOLE,
                Some(Doorbell::Flush) => FLUSH,
                Some(Doorbell::Notify(device)) => NOTIFY + device as u16,
                Some(Doorbell::Register(device, offset)) => {
                    assert!(device < DEVICES_MAX && offset < DEVICE_STRIDE);
                    DEVICE_REGISTERS + device as u16 * DEVICE_STRIDE + offset
                }
            };
            assert_eq!(back, port);
        }
    }

    #[test]
    fn legacy_ports_mean_nothing() {
        for port in [0x20, 0x60, 0x70, 0x80, 0x3f8, 0xcf8, 0xd04, 0xffff] {
            assert_eq!(Doorbell::decode(port), None);
        }
    }
}
