//! Routing: which function answers which path.

use crate::request::{Method, Request};
use crate::response::{Responder, Sent};
use alloc::string::String;

/// A path and the function that answers it.
pub struct Route<S> {
    /// The methods it answers. HEAD goes without saying where GET is.
    pub methods: &'static [Method],
    /// The path; one that ends with `*` stands for all that begin like it.
    pub path: &'static str,
    /// Answers.
    pub handler: fn(&mut S, &Request<'_>, Responder<'_>) -> Sent,
}

impl<S> Route<S> {
    fn matches(&self, path: &str) -> bool {
        match self.path.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => path == self.path,
        }
    }

    fn allows(&self, method: Method) -> bool {
        let method = if method == Method::Head { Method::Get } else { method };
        self.methods.contains(&method)
    }
}

/// Has the first route that matches answer. Where none does, answers 404; where the method is not
/// allowed, 405; and OPTIONS with what is.
pub fn route<S>(
    routes: &[Route<S>],
    state: &mut S,
    request: &Request<'_>,
    responder: Responder<'_>,
) -> Sent {
    let mut matching = routes.iter().filter(|route| route.matches(request.path)).peekable();
    if matching.peek().is_none() && request.path != "*" {
        return responder.send(404, "text/plain", b"not found\n");
    }
    let mut allowed = String::from("OPTIONS");
    for route in matching {
        if route.allows(request.method) {
            return (route.handler)(state, request, responder);
        }
        for method in route.methods {
            allowed.push_str(", ");
            allowed.push_str(method.name());
        }
    }
    let allow = [("Allow", allowed.as_str())];
    if request.method == Method::Options {
        return responder.send_empty(204, &allow);
    }
    let headers = [allow[0], ("Content-Type", "text/plain")];
    responder.send_with(405, &headers, b"method not allowed\n")
}
