//! The end of a guest, as its keeper is told of it: from wherever in the monitor it comes.

use denali_control::{Tell, Told};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The socket at whose other end the keeper is.
static KEEPER: Mutex<Option<Arc<OwnedFd>>> = Mutex::new(None);

/// Whoever is at the other end of this socket is told of the end; `None` = nobody.
pub(crate) fn are_for(keeper: Option<Arc<OwnedFd>>) {
    *known() = keeper;
}

/// Tells the keeper, if there is one, that the guest has ended with this status; once. Any thread may call it.
pub(crate) fn tell(status: u8, how: &str) {
    let keeper = known().take();
    if let Some(keeper) = keeper {
        let told = Told::Ended { status, how: how.lines().next().unwrap_or_default().into() };
        // A keeper that is gone, or takes nothing, learns it from whoever waits for the process.
        let _ = told.tell(keeper.as_fd());
    }
}

fn known() -> MutexGuard<'static, Option<Arc<OwnedFd>>> {
    KEEPER.lock().unwrap_or_else(PoisonError::into_inner)
}
