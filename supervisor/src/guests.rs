//! Guests: created, listed, shown, removed.

use crate::failure::{Failure, json, typed};
use crate::feed::{self, LINES};
use crate::limits::{CREATE_BYTES, OUTCOMES_WAITING};
use crate::request::{Query, body, read_create};
use crate::server::Api;
use crate::{actions, check};
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use denali_client::{Act, Action, Inspection};
use denali_keeper::Order;
use std::sync::Arc;

/// A path's one part that is not fixed.
pub(crate) type Named = Result<Path<String>, PathRejection>;

/// `POST /v1/guests`
pub(crate) async fn create(State(api): State<Arc<Api>>, text: Body) -> Result<Response, Failure> {
    let text = body(text, CREATE_BYTES, api.patience.body).await?;
    let create = read_create(&text).map_err(|wrong| Failure::bad_request(&wrong))?;
    let permit = api.work()?;
    let one = create.count == 1;
    let (teller, mut outcomes) = feed::pipe(OUTCOMES_WAITING, actions::too_slow);
    api.engine.ask(Order::Create(create, teller.into_stream()))?;
    if !one {
        return Ok(typed(StatusCode::OK, LINES, feed::lines(outcomes, permit, api.stop.clone())));
    }
    let outcome = actions::only(&mut outcomes, api.patience.answer).await?;
    match &outcome.error {
        None => Ok(json(StatusCode::CREATED, &outcome)),
        Some(problem) => Err(Failure::of_keeper(problem)),
    }
}

/// `GET /v1/guests`
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let query = Query::read(query.as_deref(), &["name", "after", "limit"])?;
    let patterns = query.patterns("name")?;
    let limit = query.number("limit", u64::from(u32::MAX))?;
    let after = query.one("after")?.map(known_name).transpose()?;
    let permit = api.list().await?;
    let mut guests =
        api.engine.answer(api.patience.answer, |reply| Order::List(patterns, reply)).await?;
    guests.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let first = match &after {
        Some(after) => guests.partition_point(|guest| guest.name <= *after),
        None => 0,
    };
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let page = guests.into_iter().skip(first).take(limit);
    Ok(typed(StatusCode::OK, LINES, feed::list(page, permit)))
}

/// `GET /v1/guests/{name}`
pub(crate) async fn inspect(State(api): State<Arc<Api>>, name: Named) -> Result<Response, Failure> {
    let inspection = inspection(&api, path_name(name)?).await?;
    Ok(json(StatusCode::OK, &inspection))
}

/// `DELETE /v1/guests/{name}`
pub(crate) async fn remove(State(api): State<Arc<Api>>, name: Named) -> Result<Response, Failure> {
    // A name is a pattern that fits itself alone.
    let act = Act { action: Action::Remove, guests: vec![path_name(name)?] };
    let permit = api.work()?;
    let (teller, mut outcomes) = feed::pipe(OUTCOMES_WAITING, actions::too_slow);
    api.engine.ask(Order::Act(act, teller.into_stream()))?;
    let outcome = actions::only(&mut outcomes, api.patience.answer).await?;
    drop(permit);
    match &outcome.error {
        None => Ok(json(StatusCode::OK, &outcome)),
        Some(problem) => Err(Failure::of_guest(problem)),
    }
}

/// All that is known of a guest.
pub(crate) async fn inspection(api: &Api, name: String) -> Result<Inspection, Failure> {
    let found = api.engine.answer(api.patience.answer, |reply| Order::Inspect(name, reply)).await?;
    found.map(|inspection| *inspection).map_err(|problem| Failure::of_guest(&problem))
}

/// The name in a path.
pub(crate) fn path_name(name: Named) -> Result<String, Failure> {
    match name {
        Ok(Path(name)) => known_name(&name),
        Err(_) => Err(Failure::bad_request("name: is not UTF-8")),
    }
}

fn known_name(name: &str) -> Result<String, Failure> {
    match check::name_is_wrong(name) {
        None => Ok(name.to_owned()),
        Some(wrong) => Err(Failure::bad_request(&format!("name: {wrong}"))),
    }
}
