//! What the compiler expects of a program without an operating system: the panic handler, the
//! allocator, and two symbols of the unwinder that precompiled code names but never calls.

use crate::{console, exit, memory};
use core::panic::PanicInfo;

#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator::new();

/// The allocator of this guest.
pub(crate) fn allocator() -> &'static memory::Allocator {
    &ALLOCATOR
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    console::panic_message(info);
    exit::terminate(exit::PANICKED)
}

/// Named by precompiled code that was built for unwinding; panics abort, so it is never called.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() -> ! {
    exit::terminate(exit::PANICKED)
}

/// See [`rust_eh_personality`].
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    exit::terminate(exit::PANICKED)
}
