//! The console: text is gathered in a buffer and written with one exit per line or more. Beside it, console
//! devices, which also give input.

mod device;

pub use device::{Console, NoDevice};

use core::cell::RefCell;
use core::fmt::{self, Write};

/// Bytes gathered before a flush is forced.
const BUFFER: usize = 1024;

struct Buffer {
    len: usize,
    bytes: [u8; BUFFER],
}

vcpu_local! {
    static CONSOLE: RefCell<Buffer> = RefCell::new(Buffer { len: 0, bytes: [0; BUFFER] });
}

impl Buffer {
    fn flush(&mut self) {
        if self.len > 0 {
            ring(&self.bytes[..self.len]);
            self.len = 0;
        }
    }

    fn ends_a_line(&self) -> bool {
        self.bytes[..self.len].last() == Some(&b'\n')
    }
}

impl Write for Buffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            if self.len == BUFFER {
                self.flush();
            }
            let part = rest.len().min(BUFFER - self.len);
            self.bytes[self.len..self.len + part].copy_from_slice(&rest[..part]);
            self.len += part;
            rest = &rest[part..];
        }
        Ok(())
    }
}

/// Writes each piece with an exit of its own: for messages from inside another message.
struct Unbuffered;

impl Write for Unbuffered {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        ring(text.as_bytes());
        Ok(())
    }
}

/// Prints formatted text; what [`print!`](crate::print) expands to. It is written at once if it
/// ends with a newline, and otherwise with the next line, or when the guest idles or ends.
pub fn print(text: fmt::Arguments<'_>) {
    // Writing to the console cannot fail; only a `Display` of the caller's can, and then what it
    // wrote so far is printed.
    CONSOLE.with(|console| match console.try_borrow_mut() {
        Ok(mut buffer) => {
            let _ = buffer.write_fmt(text);
            if buffer.ends_a_line() {
                buffer.flush();
            }
        }
        Err(_) => {
            let _ = Unbuffered.write_fmt(text);
        }
    });
}

/// Writes bytes as they are, after what was printed before; one exit per 64 KiB.
pub fn write(bytes: &[u8]) {
    flush();
    for part in bytes.chunks(denali_abi::registers::CONSOLE_MAX as usize) {
        ring(part);
    }
}

/// Writes what was printed and is still in the buffer.
pub fn flush() {
    CONSOLE.with(|console| {
        if let Ok(mut buffer) = console.try_borrow_mut() {
            buffer.flush();
        }
    });
}

/// Reports a panic, as Rust programs do.
#[cfg(guest_image)]
pub(crate) fn panic_message(info: &core::panic::PanicInfo<'_>) {
    print(format_args!("{info}\n"));
}

/// The CONSOLE doorbell.
#[cfg(guest_image)]
fn ring(bytes: &[u8]) {
    use core::sync::atomic::Ordering;
    let _held = crate::preemption::hold();
    let registers = crate::registers::virtual_registers();
    registers.console_addr.store(bytes.as_ptr() as u64, Ordering::Relaxed);
    registers.console_len.store(bytes.len() as u64, Ordering::Relaxed);
    crate::ports::out32(denali_abi::doorbell::CONSOLE, 0);
}

/// On the host, the console is standard output.
#[cfg(not(guest_image))]
fn ring(bytes: &[u8]) {
    std::print!("{}", String::from_utf8_lossy(bytes));
}

/// Prints to the console. See [`console::print`](crate::console::print).
#[macro_export]
macro_rules! print {
    ($($arguments:tt)*) => { $crate::console::print(::core::format_args!($($arguments)*)) };
}

/// Prints a line to the console: one exit, however many pieces it is formatted from.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($arguments:tt)*) => {
        $crate::console::print(::core::format_args!(
            "{}\n",
            ::core::format_args!($($arguments)*)
        ))
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_gathered_until_a_line_ends() {
        print(format_args!("a{}", 1));
        CONSOLE.with(|console| assert_eq!(&console.borrow().bytes[..2], b"a1"));
        CONSOLE.with(|console| assert_eq!(console.borrow().len, 2));
        print(format_args!("\n"));
        CONSOLE.with(|console| assert_eq!(console.borrow().len, 0));
    }

    #[test]
    fn long_text_is_written_in_parts() {
        print(format_args!("{:1$}", "x", BUFFER * 2 + 3));
        CONSOLE.with(|console| assert_eq!(console.borrow().len, 3));
        flush();
        CONSOLE.with(|console| assert_eq!(console.borrow().len, 0));
    }
}
