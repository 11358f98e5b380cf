//! The table of what there is to ask for; the router and the document are made of it, so that they agree.

use crate::failure::{Failure, WRONG};
use crate::feed::LINES;
use crate::limits::TAIL_LINES;
use crate::metrics::MEDIA;
use crate::server::Api;
use crate::{actions, events, guests, host, log};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::{MethodFilter, MethodRouter, on};
use std::sync::Arc;

/// Something to ask for.
pub(crate) struct Route {
    pub(crate) verb: Verb,
    pub(crate) path: &'static str,
    /// Its name in programs.
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) parameters: &'static [Parameter],
    /// The schema of what is sent.
    pub(crate) body: Option<&'static str>,
    pub(crate) answers: &'static [Answer],
    /// HTTP statuses of problems that it may well have, beside those that all have.
    pub(crate) problems: &'static [u16],
    handler: fn(MethodFilter) -> MethodRouter<Arc<Api>>,
}

/// How it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
    Delete,
}

/// A part of an address.
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) what: &'static str,
}

/// What can be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A guest's name in the path.
    PathName,
    /// A guest's name in the query.
    Name,
    /// Patterns in the query, each a field.
    Patterns,
    /// A number from 1 on in the query.
    Number(u64),
    /// Something that is so or not, in the query.
    Flag,
}

/// An answer when all is well.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) what: &'static str,
    /// Its media type and, if that is JSON, its schema; of lines, that of each.
    pub(crate) media: Option<(&'static str, Option<&'static str>)>,
}

const JSON: &str = "application/json";

const NAME: Parameter = Parameter { name: "name", kind: Kind::PathName, what: "The guest's name." };

/// All of it.
pub(crate) const ROUTES: &[Route] = &[
    Route {
        verb: Verb::Post,
        path: "/v1/guests",
        id: "createGuests",
        summary: "Creates guests, and starts them if asked to.",
        parameters: &[],
        body: Some("Create"),
        answers: &[
            Answer {
                code: 201,
                what: "The one guest was created.",
                media: Some((JSON, Some("Outcome"))),
            },
            Answer {
                code: 200,
                what: "Of several guests: what became of each, a line of JSON each, as it is done.",
                media: Some((LINES, Some("Outcome"))),
            },
        ],
        problems: &[400, 408, 413, 422],
        handler: |verb| on(verb, guests::create),
    },
    Route {
        verb: Verb::Get,
        path: "/v1/guests",
        id: "listGuests",
        summary: "Lists guests by name.",
        parameters: &[
            Parameter {
                name: "name",
                kind: Kind::Patterns,
                what: "Patterns of which names fit one; without it all guests.",
            },
            Parameter {
                name: "after",
                kind: Kind::Name,
                what: "Guests whose names come after this one: the last of the page before.",
            },
            Parameter {
                name: "limit",
                kind: Kind::Number(u32::MAX as u64),
                what: "The most guests; without it all.",
            },
        ],
        body: None,
        answers: &[Answer {
            code: 200,
            what: "The guests, a line of JSON each, by name.",
            media: Some((LINES, Some("GuestView"))),
        }],
        problems: &[400],
        handler: |verb| on(verb, guests::list),
    },
    Route {
        verb: Verb::Get,
        path: "/v1/guests/{name}",
        id: "inspectGuest",
        summary: "Shows all that is known of a guest.",
        parameters: &[NAME],
        body: None,
        answers: &[Answer {
            code: 200,
            what: "The guest.",
            media: Some((JSON, Some("Inspection"))),
        }],
        problems: &[400, 404],
        handler: |verb| on(verb, guests::inspect),
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/guests/{name}",
        id: "removeGuest",
        summary: "Stops a guest, and forgets it.",
        parameters: &[NAME],
        body: None,
        answers: &[Answer {
            code: 200,
            what: "There is no such guest any more.",
            media: Some((JSON, Some("Outcome"))),
        }],
        problems: &[400, 404],
        handler: |verb| on(verb, guests::remove),
    },
    Route {
        verb: Verb::Get,
        path: "/v1/guests/{name}/log",
        id: "readLog",
        summary: "Shows what a guest wrote to its console.",
        parameters: &[
            NAME,
            Parameter {
                name: "follow",
                kind: Kind::Flag,
                what: "Goes on with what it writes from now on, until the client goes.",
            },
            Parameter {
                name: "tail",
                kind: Kind::Number(TAIL_LINES),
                what: "Only the last lines, as far as they are in the last 16 MiB.",
            },
        ],
        body: None,
        answers: &[Answer {
            code: 200,
            what: "Bytes as the guest wrote them: anything.",
            media: Some(("text/plain; charset=utf-8", None)),
        }],
        problems: &[400, 404],
        handler: |verb| on(verb, log::show),
    },
    Route {
        verb: Verb::Post,
        path: "/v1/actions",
        id: "act",
        summary: "Has guests do something.",
        parameters: &[],
        body: Some("Act"),
        answers: &[Answer {
            code: 200,
            what: "What became of it for each guest, a line of JSON each, as it is done.",
            media: Some((LINES, Some("Outcome"))),
        }],
        problems: &[400, 408, 413],
        handler: |verb| on(verb, actions::act),
    },
    Route {
        verb: Verb::Get,
        path: "/v1/events",
        id: "listen",
        summary: "Tells what happens from now on, until the client goes.",
        parameters: &[Parameter {
            name: "guest",
            kind: Kind::Patterns,
            what: "At most 16 patterns of which names fit one; without it everything, the host's too.",
        }],
        body: None,
        answers: &[Answer {
            code: 200,
            what: "Events, a line of JSON each, as they happen.",
            media: Some((LINES, Some("Event"))),
        }],
        problems: &[400],
        handler: |verb| on(verb, events::listen),
    },
    Route {
        verb: Verb::Get,
        path: "/v1/host",
        id: "showHost",
        summary: "Shows the host in numbers.",
        parameters: &[],
        body: None,
        answers: &[Answer { code: 200, what: "The host.", media: Some((JSON, Some("HostView"))) }],
        problems: &[],
        handler: |verb| on(verb, host::show),
    },
    Route {
        verb: Verb::Get,
        path: "/v1/health",
        id: "health",
        summary: "Says whether the supervisor takes requests: it answers within 1 s, and does not stop.",
        parameters: &[],
        body: None,
        answers: &[Answer { code: 200, what: "It does.", media: Some((JSON, Some("Health"))) }],
        problems: &[],
        handler: |verb| on(verb, host::health),
    },
    Route {
        verb: Verb::Post,
        path: "/v1/drain",
        id: "drain",
        summary: "Has the supervisor stop: it parks all guests, and ends.",
        parameters: &[],
        body: None,
        answers: &[Answer { code: 202, what: "It has begun.", media: None }],
        problems: &[],
        handler: |verb| on(verb, host::drain),
    },
    Route {
        verb: Verb::Get,
        path: "/metrics",
        id: "metrics",
        summary: "Shows the host's numbers as Prometheus reads them.",
        parameters: &[],
        body: None,
        answers: &[Answer { code: 200, what: "The numbers.", media: Some((MEDIA, None)) }],
        problems: &[],
        handler: |verb| on(verb, host::metrics),
    },
    Route {
        verb: Verb::Get,
        path: "/v1/openapi.json",
        id: "describe",
        summary: "Shows this description.",
        parameters: &[],
        body: None,
        answers: &[Answer { code: 200, what: "OpenAPI 3.1.", media: Some((JSON, None)) }],
        problems: &[],
        handler: |verb| on(verb, host::openapi),
    },
];

/// What answers requests.
pub(crate) fn router(api: Arc<Api>) -> Router {
    let router = ROUTES.iter().fold(Router::new(), |router, route| {
        let verb = match route.verb {
            Verb::Get => MethodFilter::GET,
            Verb::Post => MethodFilter::POST,
            Verb::Delete => MethodFilter::DELETE,
        };
        router.route(route.path, (route.handler)(verb))
    });
    router.fallback(nothing).method_not_allowed_fallback(not_so).with_state(api)
}

async fn nothing() -> Failure {
    let message = "there is nothing at this address; /v1/openapi.json lists what there is";
    Failure::new(StatusCode::NOT_FOUND, WRONG, message)
}

async fn not_so() -> Failure {
    let message = "this cannot be asked for with this method; /v1/openapi.json lists what can";
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, WRONG, message)
}
