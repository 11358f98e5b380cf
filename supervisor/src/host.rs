//! The host: in numbers, in good health, and about to stop.

use crate::failure::{Failure, json, typed};
use crate::metrics;
use crate::openapi::document;
use crate::server::Api;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use denali_keeper::Order;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a supervisor in good health says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Health {
    /// Whether it takes requests.
    pub(crate) healthy: bool,
    /// Its version.
    pub(crate) version: String,
}

/// `GET /v1/host`
pub(crate) async fn show(State(api): State<Arc<Api>>) -> Result<Response, Failure> {
    Ok(json(StatusCode::OK, &api.engine.host(api.patience.answer).await?))
}

/// `GET /v1/health`
pub(crate) async fn health(State(api): State<Arc<Api>>) -> Result<Response, Failure> {
    let host = api.engine.host(api.patience.health).await?;
    if host.drains {
        return Err(Failure::unavailable("the supervisor stops: it parks its guests"));
    }
    Ok(json(StatusCode::OK, &Health { healthy: true, version: host.version }))
}

/// `GET /metrics`
pub(crate) async fn metrics(State(api): State<Arc<Api>>) -> Result<Response, Failure> {
    let host = api.engine.host(api.patience.answer).await?;
    let text = metrics::text(&host, &api.counters);
    Ok(typed(StatusCode::OK, metrics::MEDIA, text.into()))
}

/// `POST /v1/drain`
pub(crate) async fn drain(State(api): State<Arc<Api>>) -> Result<StatusCode, Failure> {
    api.engine.ask(Order::Drain)?;
    Ok(StatusCode::ACCEPTED)
}

/// `GET /v1/openapi.json`
pub(crate) async fn openapi() -> Response {
    json(StatusCode::OK, &document())
}
