//! Asks a supervisor: one connection for each request.

use crate::error::Error;
use crate::event::Event;
use crate::guest::{GuestView, Inspection};
use crate::host::HostView;
use crate::http::{self, Body};
use crate::lines::{self, Lines};
use crate::request::{Act, Create, Outcome, Problem};
use crate::target::{encoded, target};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// Largest answer that is not a stream, in bytes.
const ANSWER_MAX: u64 = 16 << 20;

/// Largest answer that says why something was refused, in bytes.
const PROBLEM_MAX: u64 = 64 << 10;

/// How long nothing may come where an answer costs nothing but looking it up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A way to a supervisor.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    patience: Duration,
    /// The connection that showed that somebody is there, for the first request.
    first: Mutex<Option<UnixStream>>,
}

impl Client {
    /// Connects to the supervisor that listens at `socket`.
    ///
    /// # Errors
    ///
    /// [`Error::Absent`] if none does.
    pub fn connect(socket: &Path) -> Result<Self, Error> {
        let first = Mutex::new(Some(connect(socket)?));
        Ok(Self { socket: socket.into(), patience: PATIENCE, first })
    }

    /// Another patience: the longest time that nothing may come where an answer is only looked up. What waits
    /// for guests, and streams of what happens, wait for ever.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Where the supervisor listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Has guests created: what became of each, as it is done.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if none was made; and those of every request.
    pub fn create(&self, create: &Create) -> Result<Lines<Outcome>, Error> {
        self.post("/v1/guests", create).map(Lines::new)
    }

    /// Has guests do something: what became of each, as it is done.
    ///
    /// # Errors
    ///
    /// As of [`Self::create`].
    pub fn act(&self, act: &Act) -> Result<Lines<Outcome>, Error> {
        self.post("/v1/actions", act).map(Lines::new)
    }

    /// The guests that any of the patterns names; all of them without patterns.
    ///
    /// # Errors
    ///
    /// Those of every request.
    pub fn list<S: AsRef<str>>(&self, patterns: &[S]) -> Result<Lines<GuestView>, Error> {
        let names: Vec<String> =
            patterns.iter().map(|pattern| format!("name={}", encoded(pattern.as_ref()))).collect();
        self.get(&target("/v1/guests", &names), Some(self.patience)).map(Lines::new)
    }

    /// All that is known of a guest.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if there is no such guest; and those of every request.
    pub fn inspect(&self, name: &str) -> Result<Inspection, Error> {
        self.look(&format!("/v1/guests/{}", encoded(name)))
    }

    /// What a guest has written to its console: the last `tail` lines, or all that is kept. With `follow` it goes
    /// on with what the guest writes, until the guest is removed.
    ///
    /// # Errors
    ///
    /// As of [`Self::inspect`].
    pub fn log(&self, name: &str, tail: Option<u64>, follow: bool) -> Result<Body, Error> {
        let tail = tail.map(|lines| format!("tail={lines}"));
        let follow_on = follow.then(|| "follow=1".to_owned());
        let options: Vec<String> = tail.into_iter().chain(follow_on).collect();
        let path = format!("/v1/guests/{}/log", encoded(name));
        self.get(&target(&path, &options), (!follow).then_some(self.patience))
    }

    /// What happens from now on, to the guests that the pattern names or to all and to the host; without end.
    ///
    /// # Errors
    ///
    /// Those of every request.
    pub fn events(&self, pattern: Option<&str>) -> Result<Lines<Event>, Error> {
        let pattern = pattern.map(|pattern| format!("guest={}", encoded(pattern)));
        self.get(&target("/v1/events", pattern.as_slice()), None).map(Lines::new)
    }

    /// How the host is.
    ///
    /// # Errors
    ///
    /// Those of every request.
    pub fn host(&self) -> Result<HostView, Error> {
        self.look("/v1/host")
    }

    /// Whether the supervisor is well; an error says why not.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if it is not; and those of every request.
    pub fn health(&self) -> Result<(), Error> {
        let body = self.get("/v1/health", Some(self.patience))?;
        body.read_all(ANSWER_MAX).map(drop)
    }

    /// Has all guests parked, and no new ones taken. It returns as soon as that has begun; [`HostView::guests`]
    /// says how far it is.
    ///
    /// # Errors
    ///
    /// Those of every request.
    pub fn drain(&self) -> Result<(), Error> {
        self.ask("POST", "/v1/drain", None, None)?.read_all(ANSWER_MAX).map(drop)
    }

    /// The supervisor's numbers, in Prometheus's text format.
    ///
    /// # Errors
    ///
    /// Those of every request.
    pub fn metrics(&self) -> Result<String, Error> {
        let text = self.get("/metrics", Some(self.patience))?.read_all(ANSWER_MAX)?;
        String::from_utf8(text).map_err(|_| Error::Malformed("it is no text".into()))
    }

    /// An answer that is one JSON object.
    fn look<T: DeserializeOwned>(&self, target: &str) -> Result<T, Error> {
        lines::parse(&self.get(target, Some(self.patience))?.read_all(ANSWER_MAX)?)
    }

    fn get(&self, target: &str, patience: Option<Duration>) -> Result<Body, Error> {
        self.ask("GET", target, None, patience)
    }

    /// Asks for work; how long that takes is the guests' affair.
    fn post(&self, target: &str, body: &impl Serialize) -> Result<Body, Error> {
        let body = serde_json::to_vec(body).map_err(|error| Error::Malformed(error.to_string()))?;
        self.ask("POST", target, Some(&body), None)
    }

    fn ask(
        &self,
        method: &str,
        target: &str,
        body: Option<&[u8]>,
        patience: Option<Duration>,
    ) -> Result<Body, Error> {
        let first = self.first.lock().ok().and_then(|mut first| first.take());
        let stream = first.map_or_else(|| connect(&self.socket), Ok)?;
        let answer = http::ask(stream, method, target, body, patience)?;
        match answer.status {
            200..=299 => Ok(answer.body),
            status => Err(refused(status, answer.body)),
        }
    }
}

fn connect(socket: &Path) -> Result<UnixStream, Error> {
    loop {
        match UnixStream::connect(socket) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => {
                return result.map_err(|why| Error::Absent { socket: socket.into(), why });
            }
        }
    }
}

/// What an answer with a status other than success says.
fn refused(status: u16, body: Body) -> Error {
    let problem = body.read_all(PROBLEM_MAX).and_then(|text| {
        let unclear = |_| {
            let text: String = String::from_utf8_lossy(&text).chars().take(200).collect();
            Error::Malformed(format!("status {status}: {}", text.trim().escape_debug()))
        };
        serde_json::from_slice::<Problem>(&text).map_err(unclear)
    });
    problem.map_or_else(|error| error, Error::Refused)
}

#[cfg(test)]
mod tests;
