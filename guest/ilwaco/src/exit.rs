//! How a guest ends: with a status, which becomes the exit status of `denali run`.

use crate::{console, ports};
use denali_abi::doorbell;

/// Status of a program that panicked, as for any Rust program.
pub const PANICKED: u8 = 101;

/// What a program's start function may return.
pub trait Status {
    /// The exit status.
    fn code(self) -> u8;
}

impl Status for () {
    fn code(self) -> u8 {
        0
    }
}

impl Status for u8 {
    fn code(self) -> u8 {
        self
    }
}

impl<E: core::fmt::Display> Status for Result<(), E> {
    /// 0 for `Ok`; for `Err`, prints the error and gives 1.
    fn code(self) -> u8 {
        match self {
            Ok(()) => 0,
            Err(error) => {
                crate::println!("error: {error}");
                1
            }
        }
    }
}

impl Status for core::convert::Infallible {
    fn code(self) -> u8 {
        match self {}
    }
}

/// Ends this guest at once with an exit status; what was printed is written first.
pub fn terminate(status: u8) -> ! {
    console::flush();
    ports::out32(doorbell::TERMINATE, u32::from(status));
    // TERMINATE never returns; should a monitor be wrong about that, ask again.
    loop {
        ports::out32(doorbell::TERMINATE, u32::from(status));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        assert_eq!(().code(), 0);
        assert_eq!(7_u8.code(), 7);
        assert_eq!(Ok::<(), &str>(()).code(), 0);
    }
}
