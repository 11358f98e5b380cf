//! What a client gets when it does not get what it asked for.

use crate::limits::MESSAGE_BYTES;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use denali_client::Problem;
use serde::Serialize;

/// The request is wrong.
pub(crate) const WRONG: u8 = 122;
/// The host lacks something.
pub(crate) const LACKING: u8 = 124;
/// The supervisor itself failed.
pub(crate) const DEFECT: u8 = 125;

/// A problem, and the HTTP status that it has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: StatusCode,
    pub(crate) problem: Problem,
}

impl Failure {
    /// A failure with a message of one line: control characters are written as escapes, and what is too
    /// long is cut.
    pub(crate) fn new(code: StatusCode, status: u8, message: &str) -> Self {
        Self { code, problem: Problem { status, message: line(message) } }
    }

    /// The request is refused before the keeper has seen it.
    pub(crate) fn bad_request(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, WRONG, message)
    }

    /// It cannot be done now.
    pub(crate) fn unavailable(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, LACKING, message)
    }

    /// What the keeper says, with the status that fits.
    pub(crate) fn of_keeper(problem: &Problem) -> Self {
        let code = match problem.status {
            // What is asked for, or its image, cannot be used.
            122 | 123 => StatusCode::UNPROCESSABLE_ENTITY,
            124 => StatusCode::SERVICE_UNAVAILABLE,
            126 => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(code, problem.status, &problem.message)
    }

    /// The same where the request names one guest and nothing else: all that can be wrong with it is that
    /// there is no such guest.
    pub(crate) fn of_guest(problem: &Problem) -> Self {
        let failure = Self::of_keeper(problem);
        match problem.status {
            WRONG => Self { code: StatusCode::NOT_FOUND, ..failure },
            _ => failure,
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        json(self.code, &self.problem)
    }
}

/// An answer in JSON.
pub(crate) fn json<T: Serialize>(code: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => typed(code, "application/json", text.into()),
        Err(_) => code_alone(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// An answer of this media type, which nobody is to take for another.
pub(crate) fn typed(code: StatusCode, media: &'static str, body: Body) -> Response {
    let mut response = code_alone(code);
    *response.body_mut() = body;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn code_alone(code: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    response
}

/// The text as one line of bounded length.
pub(crate) fn line(text: &str) -> String {
    let mut line = String::new();
    for character in text.chars() {
        if line.len() >= MESSAGE_BYTES {
            line.push('…');
            break;
        }
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_of_bounded_length() {
        assert_eq!(line("name: \"a\nb\u{1b}[0m\""), "name: \"a\\nb\\u{1b}[0m\"");
        let long = line(&"ä\n".repeat(10_000));
        assert!(long.len() <= MESSAGE_BYTES + 16, "{}", long.len());
        assert!(long.ends_with('…'));
    }

    #[test]
    fn exit_statuses_have_http_statuses() {
        for (status, code, of_guest) in [
            (122, 422, 404),
            (123, 422, 422),
            (124, 503, 503),
            (125, 500, 500),
            (126, 400, 400),
            (0, 500, 500),
        ] {
            let problem = Problem { status, message: "x".into() };
            assert_eq!(Failure::of_keeper(&problem).code.as_u16(), code);
            assert_eq!(Failure::of_guest(&problem).code.as_u16(), of_guest);
            assert_eq!(Failure::of_guest(&problem).problem, problem);
        }
    }
}
