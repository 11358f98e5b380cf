//! Upcalls: being interrupted when something becomes pending while the guest computes.
//!
//! Programs that await need none: the executor looks at `pending` whenever tasks have run.

use crate::faults::Unsupported;
use crate::frames;
use crate::registers::virtual_registers;
use core::cell::Cell;
use core::sync::atomic::Ordering;

vcpu_local! {
    static HANDLER: Cell<Option<fn()>> = Cell::new(None);
}

/// Has `handler` called whenever something becomes pending while the guest runs.
///
/// # Safety
/// The handler may run between any two instructions, like a POSIX signal handler. It must not
/// call into this crate, but for `registers`, `clock` and `terminate`, and must not allocate:
/// set an atomic flag, and look at it elsewhere.
///
/// # Errors
/// [`Unsupported`] where the vector registers cannot be saved.
pub unsafe fn enable(handler: fn()) -> Result<(), Unsupported> {
    if !frames::prepare() {
        return Err(Unsupported);
    }
    HANDLER.with(|cell| cell.set(Some(handler)));
    let registers = virtual_registers();
    registers.upcall_entry.store(frames::upcall_entry(), Ordering::Relaxed);
    registers.upcall_enabled.store(1, Ordering::Release);
    Ok(())
}

/// Has nothing called any more.
pub fn disable() {
    HANDLER.with(|cell| cell.set(None));
    virtual_registers().upcall_enabled.store(0, Ordering::Release);
}

/// Calls the handler, then lets the monitor deliver the next upcall (it took the permission away
/// when it delivered this one), unless the handler asked for no more.
pub(crate) fn handle() {
    if let Some(handler) = HANDLER.with(Cell::get) {
        handler();
    }
    if HANDLER.with(Cell::get).is_some() {
        virtual_registers().upcall_enabled.store(1, Ordering::Release);
    }
}
