//! Guests are asked to do something.

use crate::failure::{Failure, LACKING, typed};
use crate::feed::{self, LINES};
use crate::limits::{BODY_BYTES, OUTCOMES_WAITING};
use crate::request::{body, read_act};
use crate::server::Api;
use crate::{engine, limits};
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use denali_client::{Outcome, Problem};
use denali_keeper::Order;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// `POST /v1/actions`
pub(crate) async fn act(State(api): State<Arc<Api>>, text: Body) -> Result<Response, Failure> {
    let text = body(text, BODY_BYTES, api.patience.body).await?;
    let act = read_act(&text).map_err(|wrong| Failure::bad_request(&wrong))?;
    let permit = api.work()?;
    let (teller, outcomes) = feed::pipe(OUTCOMES_WAITING, too_slow);
    api.engine.ask(Order::Act(act, teller.into_stream()))?;
    Ok(typed(StatusCode::OK, LINES, feed::lines(outcomes, permit, api.stop.clone())))
}

/// The outcome where there is one guest only.
pub(crate) async fn only(
    outcomes: &mut mpsc::Receiver<Outcome>,
    within: Duration,
) -> Result<Outcome, Failure> {
    match tokio::time::timeout(within, outcomes.recv()).await {
        Ok(Some(outcome)) => Ok(outcome),
        Ok(None) => Err(engine::gone()),
        Err(_) => Err(Failure::unavailable("it takes long, and goes on; ask for the guest later")),
    }
}

/// The last line for a client that does not keep up.
pub(crate) fn too_slow(_lost: &Outcome) -> Outcome {
    let message = format!(
        "what became of further guests is not told, for {} outcomes were waiting to be read; it goes on",
        limits::OUTCOMES_WAITING
    );
    Outcome { name: String::new(), error: Some(Problem { status: LACKING, message }) }
}
