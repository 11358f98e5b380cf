//! Upcalls: being interrupted when something becomes pending while the guest computes.
//!
//! Programs that await need none: the executor looks at `pending` whenever tasks have run.

use crate::faults::Unsupported;
use crate::frames;
use crate::registers::virtual_registers;
use core::cell::Cell;
use core::sync::atomic::Ordering;

/// Whom upcalls concern.
#[derive(Clone, Copy)]
enum Handler {
    Nobody,
    /// The program, which may be interrupted anywhere.
    Program(fn()),
    /// Threads, which enable upcalls themselves, while they run.
    Threads(fn()),
}

vcpu_local! {
    static HANDLER: Cell<Handler> = Cell::new(Handler::Nobody);
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
///
/// # Panics
/// In a program that has started [threads](crate::thread): upcalls are what preempts them.
pub unsafe fn enable(handler: fn()) -> Result<(), Unsupported> {
    let taken = matches!(HANDLER.with(Cell::get), Handler::Threads(_));
    assert!(!taken, "threads and a handler of upcalls exclude each other");
    if !frames::prepare() {
        return Err(Unsupported);
    }
    HANDLER.with(|cell| cell.set(Handler::Program(handler)));
    let registers = virtual_registers();
    registers.upcall_entry.store(frames::upcall_entry(), Ordering::Relaxed);
    registers.upcall_enabled.store(1, Ordering::Release);
    Ok(())
}

/// Has nothing called any more.
pub fn disable() {
    if let Handler::Program(_) = HANDLER.with(Cell::get) {
        HANDLER.with(|cell| cell.set(Handler::Nobody));
        virtual_registers().upcall_enabled.store(0, Ordering::Release);
    }
}

/// Has `handler` called by upcalls, which it allows itself. Where the vector registers cannot be saved none come.
///
/// # Panics
/// If the program handles upcalls itself.
pub(crate) fn give_to_threads(handler: fn()) {
    let taken = matches!(HANDLER.with(Cell::get), Handler::Program(_));
    assert!(!taken, "threads and a handler of upcalls exclude each other");
    HANDLER.with(|cell| cell.set(Handler::Threads(handler)));
    if frames::prepare() {
        virtual_registers().upcall_entry.store(frames::upcall_entry(), Ordering::Relaxed);
    }
}

/// Calls the handler. If it is the program's, the monitor may then deliver the next upcall (it took the permission
/// away when it delivered this one), unless the handler asked for no more.
pub(crate) fn handle() {
    match HANDLER.with(Cell::get) {
        Handler::Nobody => {}
        Handler::Threads(handler) => handler(),
        Handler::Program(handler) => {
            handler();
            if let Handler::Program(_) = HANDLER.with(Cell::get) {
                virtual_registers().upcall_enabled.store(1, Ordering::Release);
            }
        }
    }
}
