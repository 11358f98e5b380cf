//! Faults: by default they end the guest with a crash report; a program may handle them itself.

use crate::frames;
use crate::registers::virtual_registers;
use core::cell::Cell;
use core::sync::atomic::Ordering;

pub use denali_abi::frame::Frame;

/// Looks at a fault and may change the frame; when it returns, the interrupted code goes on as the
/// frame says: at the faulting instruction again, unless the handler moved `rip`.
pub type Handler = fn(&mut Frame);

/// The processor lacks XSAVE, without which vector registers cannot be preserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsupported;

impl core::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the processor has no XSAVE")
    }
}

impl core::error::Error for Unsupported {}

vcpu_local! {
    static HANDLER: Cell<Option<Handler>> = Cell::new(None);
}

/// Has faults handled by `handler` from now on.
///
/// # Safety
/// The handler may run between any two instructions, like a POSIX signal handler. It must not
/// call into this crate, but for `registers`, `clock`, `terminate`, and printing right before
/// `terminate`; it must not allocate; and what it writes to the frame must let the interrupted code
/// go on soundly.
///
/// # Errors
/// [`Unsupported`] where the vector registers cannot be saved.
pub unsafe fn set_handler(handler: Handler) -> Result<(), Unsupported> {
    if !frames::prepare() {
        return Err(Unsupported);
    }
    HANDLER.with(|cell| cell.set(Some(handler)));
    virtual_registers().fault_entry.store(frames::fault_entry(), Ordering::Release);
    Ok(())
}

/// Has faults end the guest again.
pub fn clear_handler() {
    virtual_registers().fault_entry.store(0, Ordering::Release);
}

/// Calls the handler.
pub(crate) fn handle(frame: &mut Frame) {
    if let Some(handler) = HANDLER.with(Cell::get) {
        handler(frame);
    }
}
