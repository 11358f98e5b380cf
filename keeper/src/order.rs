//! What a keeper is asked for while it runs, from other threads.

use denali_client::{Act, Create, Event, GuestView, HostView, Inspection, Outcome, Problem};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Takes an answer, on the keeper's thread: must not block.
pub type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// Takes answers as they come, on the keeper's thread: must not block. Says whether it takes more.
pub type Stream<T> = Box<dyn FnMut(T) -> bool + Send>;

/// Something that a keeper is asked for.
pub enum Order {
    /// To create guests; what became of each is told as it is done, and the stream is dropped at the end.
    Create(Create, Stream<Outcome>),
    /// To have guests do something; likewise. A pattern that fits no guest has an outcome of its own.
    Act(Act, Stream<Outcome>),
    /// Guests whose names fit one of the patterns (none = all guests), by name.
    List(Vec<String>, Reply<Vec<GuestView>>),
    /// All that is known of a guest.
    Inspect(String, Reply<Result<Box<Inspection>, Problem>>),
    /// The host in numbers.
    Host(Reply<Box<HostView>>),
    /// To be told of events from now on.
    Listen(Stream<Event>),
    /// To stop: parks all guests, and ends.
    Drain,
}

/// Asks a keeper.
#[derive(Clone)]
pub struct Desk {
    orders: Sender<Order>,
    /// An eventfd that the keeper waits for.
    bell: Arc<OwnedFd>,
}

impl Desk {
    /// Asks for something; what the keeper says comes to what is in the order.
    ///
    /// # Errors
    /// When the keeper has ended: the order comes back.
    #[expect(
        clippy::result_large_err,
        reason = "an order that comes back is moved once, as one that goes"
    )]
    pub fn ask(&self, order: Order) -> Result<(), Order> {
        self.orders.send(order).map_err(|unsent| unsent.0)?;
        // Fails only when the counter is full, and then it rings already.
        let _ = nix::unistd::write(&self.bell, &1u64.to_ne_bytes());
        Ok(())
    }
}

/// A desk, and what its keeper has of it.
///
/// # Errors
/// When the process has no descriptors left.
pub fn desk() -> io::Result<(Desk, Orders)> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let bell = Arc::new(OwnedFd::from(EventFd::from_flags(flags)?));
    let (orders, taken) = channel();
    Ok((Desk { orders, bell: bell.clone() }, Orders { orders: taken, bell }))
}

/// The orders of all desks.
pub struct Orders {
    orders: Receiver<Order>,
    bell: Arc<OwnedFd>,
}

impl Orders {
    /// Readable when there are orders.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// The next order, if there is one.
    #[must_use]
    pub fn take(&self) -> Option<Order> {
        self.orders.try_recv().ok()
    }

    /// Quiet until the next order.
    pub fn hush(&self) {
        let _ = nix::unistd::read(&self.bell, &mut [0; 8]);
    }
}
