//! Clients come first: they are what measures, and one thread among hundreds would get its equal share only.

/// The nice value of who comes first.
const FIRST: i32 = -20;

/// The calling thread has precedence as long as this is held; what it starts meanwhile would have it too.
#[derive(Debug)]
pub(crate) struct Precedence {
    _private: (),
}

impl Precedence {
    /// Takes it, where that is permitted.
    pub(crate) fn take() -> Self {
        set(FIRST);
        Self { _private: () }
    }

    /// Whether it is permitted.
    pub(crate) fn is_permitted() -> bool {
        let permitted = set(FIRST);
        set(0);
        permitted
    }
}

impl Drop for Precedence {
    fn drop(&mut self) {
        set(0);
    }
}

/// Sets the nice value of the calling thread; false if that is not permitted.
fn set(nice: i32) -> bool {
    // SAFETY: a plain system call, which changes nothing but this thread's share of processors.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) == 0 }
}
