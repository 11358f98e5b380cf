//! What makes a crate a guest: the note in the image, and the entry point.

pub use denali_abi::note::{ElfNote, ImageNote};

use denali_abi::boot::{KIND_BLOCK, KIND_CONSOLE, KIND_ENTROPY, KIND_NET};
use denali_abi::note::{WANTED_MAX, WantedDevice};

/// Declares the program: its start function and what the image needs.
///
/// ```ignore
/// ilwaco::program!(start);                            // fn start() -> impl Status
/// ilwaco::program!(async start);                      // async fn start() -> impl Status
/// ilwaco::program!(async start, devices = [net]);     // refuse to start without a network card
/// ilwaco::program!(start, memory_min = 8 << 20, stack_size = 64 << 10);
/// ```
///
/// The options must be in the order `devices`, `memory_min` (bytes of guest memory), `stack_size`
/// (bytes, a multiple of 4096). Built for the host, the program only says that it is a guest.
#[macro_export]
macro_rules! program {
    (async $start:path $(, devices = [$($device:ident),* $(,)?])? $(, memory_min = $memory:expr)?
     $(, stack_size = $stack:expr)? $(,)?) => {
        $crate::program!(@emit [$crate::block_on($start())], [$($($device),*)?], [$($memory)?],
            [$($stack)?]);
    };
    ($start:path $(, devices = [$($device:ident),* $(,)?])? $(, memory_min = $memory:expr)?
     $(, stack_size = $stack:expr)? $(,)?) => {
        $crate::program!(@emit [$start()], [$($($device),*)?], [$($memory)?], [$($stack)?]);
    };
    (@emit [$run:expr], [$($device:ident),*], [$($memory:expr)?], [$($stack:expr)?]) => {
        #[cfg(guest_image)]
        const _: () = {
            #[used]
            #[unsafe(link_section = ".note.denali")]
            static NOTE: $crate::program::ElfNote = $crate::program::ElfNote::new({
                #[allow(unused_mut)]
                let mut note = $crate::program::ImageNote::DEFAULT;
                $(note = $crate::program::wanting(note, stringify!($device));)*
                $(note.memory_min = $memory;)?
                $(note.stack_size = $stack;)?
                note
            });

            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            unsafe extern "C" fn _start() -> ! {
                // RBP = 0 ends backtraces; the call aligns the stack as the System V ABI wants.
                core::arch::naked_asm!("xor ebp, ebp", "call {enter}", "ud2", enter = sym enter)
            }

            extern "C" fn enter() -> ! {
                $crate::terminate($crate::Status::code($run))
            }
        };

        #[cfg(not(guest_image))]
        fn main() -> std::process::ExitCode {
            let _program = || $crate::Status::code($run);
            eprintln!(
                "{}: this is a Denali guest: build it as an image (docs/guests.md) and start it \
                 with `denali run`",
                env!("CARGO_PKG_NAME")
            );
            std::process::ExitCode::FAILURE
        }
    };
}

/// The note, with one more device that must be attached: `net`, `block`, `console` or `entropy`.
///
/// # Panics
/// If the kind is unknown or there are more than [`WANTED_MAX`] devices; at compile time, in
/// [`program!`](macro@crate::program).
#[must_use]
pub const fn wanting(mut note: ImageNote, device: &str) -> ImageNote {
    let kind = match device.as_bytes() {
        b"net" => KIND_NET,
        b"block" => KIND_BLOCK,
        b"console" => KIND_CONSOLE,
        b"entropy" => KIND_ENTROPY,
        _ => panic!("unknown device kind: expected net, block, console or entropy"),
    };
    let index = note.device_count as usize;
    assert!(index < WANTED_MAX, "too many devices");
    note.devices[index] = WantedDevice::any(kind);
    note.device_count += 1;
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_devices_are_listed_in_order() {
        let note = wanting(wanting(ImageNote::DEFAULT, "net"), "block");
        let kinds: Vec<u32> = note.wanted().iter().map(|device| device.kind).collect();
        assert_eq!(kinds, [KIND_NET, KIND_BLOCK]);
    }

    #[test]
    #[should_panic(expected = "unknown device kind")]
    fn unknown_kinds_are_refused() {
        let _ = wanting(ImageNote::DEFAULT, "floppy");
    }
}
