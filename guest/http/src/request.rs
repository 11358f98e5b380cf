//! Requests: their head, how their body is framed, and what is refused at once.

use httparse::{EMPTY_HEADER, Error, Header, Status};

/// Most header fields of a request.
pub(crate) const HEADERS_MAX: usize = 64;

/// What a request wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in RFC 9110")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Patch,
    Options,
}

impl Method {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "PATCH" => Self::Patch,
            "OPTIONS" => Self::Options,
            _ => return None,
        })
    }

    /// The name, as requests write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Patch => "PATCH",
            Self::Options => "OPTIONS",
        }
    }
}

/// A complete request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What it wants done.
    pub method: Method,
    /// The path, beginning with `/`, still percent-encoded; `*` for `OPTIONS *`.
    pub path: &'a str,
    /// What follows the question mark, if there is one.
    pub query: Option<&'a str>,
    /// The body; empty if there is none.
    pub body: &'a [u8],
    pub(crate) headers: &'a [Header<'a>],
}

impl<'a> Request<'a> {
    /// The value of the first header field called `name`, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        field(self.headers, name)
    }

    /// The values of all header fields called `name`, in any case, in order.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let named =
            self.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value)
    }
}

fn field<'a>(headers: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After so many bytes; 0 = no body.
    Length(u64),
    /// The body says itself, in chunks.
    Chunked,
}

/// A request's head as far as the connection itself is concerned.
pub(crate) struct Head<'a> {
    pub(crate) request: Request<'a>,
    pub(crate) framing: Framing,
    /// Minor version of HTTP/1.
    pub(crate) minor: u8,
    /// Whether the connection stays open afterwards, as far as the client is concerned.
    pub(crate) keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
}

/// Where headers are parsed to.
pub(crate) type HeaderSpace<'a> = [Header<'a>; HEADERS_MAX];

/// Room for the headers of one request.
pub(crate) fn header_space<'a>() -> HeaderSpace<'a> {
    [EMPTY_HEADER; HEADERS_MAX]
}

/// Parses a head, which is complete; the error is the status to refuse it with.
pub(crate) fn parse<'a>(bytes: &'a [u8], space: &'a mut HeaderSpace<'a>) -> Result<Head<'a>, u16> {
    let mut parsed = httparse::Request::new(space);
    match parsed.parse(bytes) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) => return Err(400),
        Err(Error::TooManyHeaders) => return Err(431),
        Err(Error::Version) => return Err(505),
        Err(_) => return Err(400),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(400);
    };
    let headers: &'a [Header<'a>] = parsed.headers;
    check_host(headers, minor)?;
    let framing = framing(headers)?;
    let method = Method::parse(method).ok_or(501_u16)?;
    let (path, query) = split_target(target, method).ok_or(400_u16)?;
    let expects_continue = match field(headers, "expect") {
        None => false,
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => minor > 0,
        Some(_) => return Err(417),
    };
    Ok(Head {
        request: Request { method, path, query, body: &[], headers },
        framing,
        minor,
        keep_alive: keep_alive(headers, minor),
        expects_continue,
    })
}

/// HTTP/1.1 wants exactly one `Host`.
fn check_host(headers: &[Header<'_>], minor: u8) -> Result<(), u16> {
    let hosts = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host")).count();
    if hosts == 1 || (hosts == 0 && minor == 0) { Ok(()) } else { Err(400) }
}

/// How the body is framed. Whatever could be understood in two ways is refused, since that is how
/// requests are smuggled past proxies.
fn framing(headers: &[Header<'_>]) -> Result<Framing, u16> {
    let mut length = None;
    let mut chunked = false;
    for header in headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            let value = parse_length(header.value).ok_or(400_u16)?;
            if length.is_some_and(|other| other != value) {
                return Err(400);
            }
            length = Some(value);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                return Err(501);
            }
            chunked = true;
        }
    }
    match (chunked, length) {
        (true, Some(_)) => Err(400),
        (true, None) => Ok(Framing::Chunked),
        (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
    }
}

fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

fn keep_alive(headers: &[Header<'_>], minor: u8) -> bool {
    let mut keep = minor > 0;
    for header in headers.iter().filter(|header| header.name.eq_ignore_ascii_case("connection")) {
        for option in header.value.split(|&byte| byte == b',') {
            let option = option.trim_ascii();
            if option.eq_ignore_ascii_case(b"close") {
                return false;
            }
            keep |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    keep
}

/// Path and query of a request's target in origin, absolute or asterisk form.
fn split_target(target: &str, method: Method) -> Option<(&str, Option<&str>)> {
    if target == "*" {
        return (method == Method::Options).then_some((target, None));
    }
    let origin = if target.starts_with('/') {
        target
    } else {
        let rest = strip_scheme(target)?;
        rest.find(['/', '?']).map_or("/", |start| &rest[start..])
    };
    let (path, query) = match origin.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (origin, None),
    };
    Some((if path.is_empty() { "/" } else { path }, query))
}

fn strip_scheme(target: &str) -> Option<&str> {
    let scheme = target.get(..7)?;
    scheme.eq_ignore_ascii_case("http://").then(|| &target[7..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(head: &str) -> Option<u16> {
        parse(head.as_bytes(), &mut header_space()).err()
    }

    #[test]
    fn what_is_refused_and_how() {
        for (head, status) in [
            ("GET / HTTP/1.1\r\n\r\n", Some(400)),
            ("GET / HTTP/1.0\r\n\r\n", None),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Some(400)),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Some(505)),
            ("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", Some(501)),
            ("GET relative HTTP/1.1\r\nHost: a\r\n\r\n", Some(400)),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Some(400)),
            ("GET / HTTP/1.1\r\nHost: a\r\nExpect: cake\r\n\r\n", Some(417)),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", Some(400)),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", Some(400)),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Some(501)),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                Some(400),
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
                Some(400),
            ),
        ] {
            assert_eq!(refusal(head), status, "{head}");
        }
    }

    #[test]
    fn targets_are_split() {
        let get = |target| split_target(target, Method::Get);
        assert_eq!(get("/a/b?c=d?e"), Some(("/a/b", Some("c=d?e"))));
        assert_eq!(get("http://host"), Some(("/", None)));
        assert_eq!(get("HTTP://host/x"), Some(("/x", None)));
        assert_eq!(get("http://host?q"), Some(("/", Some("q"))));
        assert_eq!(get("ftp://host/x"), None);
        assert_eq!(split_target("*", Method::Options), Some(("*", None)));
    }

    #[test]
    fn persistence_follows_version_and_header() {
        let keeps = |head: &str| parse(head.as_bytes(), &mut header_space()).unwrap().keep_alive;
        assert!(keeps("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
        assert!(keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    }
}
