//! Asks the keeper, and does not wait for ever.

use crate::failure::{DEFECT, Failure};
use axum::http::StatusCode;
use denali_client::HostView;
use denali_keeper::{Desk, Order, Reply};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// Most orders that a keeper has not answered.
const UNANSWERED: usize = 1024;

/// The keeper, behind its desk.
pub(crate) struct Engine {
    desk: Desk,
    /// Places for orders that are not answered: whoever asked may have gone, and asked again.
    places: Arc<Semaphore>,
}

impl Engine {
    pub(crate) fn new(desk: Desk) -> Self {
        Self { desk, places: Arc::new(Semaphore::new(UNANSWERED)) }
    }

    /// What the keeper answers within this time.
    pub(crate) async fn answer<T: Send + 'static>(
        &self,
        within: Duration,
        order: impl FnOnce(Reply<T>) -> Order,
    ) -> Result<T, Failure> {
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| Failure::unavailable("too much is asked for; try later"))?;
        let (tell, told) = oneshot::channel();
        self.ask(order(Box::new(move |answer| {
            // Nobody may be there any more.
            let _ = tell.send(answer);
            drop(place);
        })))?;
        match tokio::time::timeout(within, told).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(gone()),
            Err(_) => Err(Failure::unavailable("the supervisor does not answer; try later")),
        }
    }

    /// The host in numbers, within this time.
    pub(crate) async fn host(&self, within: Duration) -> Result<HostView, Failure> {
        self.answer(within, Order::Host).await.map(|host| *host)
    }

    /// Asks for something whose answers come by themselves.
    pub(crate) fn ask(&self, order: Order) -> Result<(), Failure> {
        self.desk.ask(order).map_err(|_| gone())
    }
}

/// The keeper has ended, or has given the order up.
pub(crate) fn gone() -> Failure {
    Failure::new(
        StatusCode::SERVICE_UNAVAILABLE,
        DEFECT,
        "the supervisor gave no answer; it may be ending",
    )
}
