//! What an interface is told when it is made.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Who may ask, and how long for.
#[derive(Clone)]
pub struct Settings {
    /// Users, beside the owner of the process and root, that may do all.
    pub admins: Vec<u32>,
    /// Users that may look, and change nothing.
    pub readers: Vec<u32>,
    /// Most connections at a time; further ones are told so, and closed.
    pub connections: usize,
    /// How long things may take.
    pub patience: Patience,
    /// Takes lines for whoever runs the supervisor, such as who was refused; at most one in a second.
    pub notice: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Default for Settings {
    /// The owner and root alone; 256 connections; notices go nowhere.
    fn default() -> Self {
        Self {
            admins: Vec::new(),
            readers: Vec::new(),
            connections: 256,
            patience: Patience::default(),
            notice: Arc::new(|_| {}),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("admins", &self.admins)
            .field("readers", &self.readers)
            .field("connections", &self.connections)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// How long things may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Until a request's headers are there, from when the connection was made or its last answer went out.
    pub head: Duration,
    /// Until a request's body is there.
    pub body: Duration,
    /// Until a client takes the next bytes of an answer.
    pub write: Duration,
    /// Until the keeper has an answer.
    pub answer: Duration,
    /// Until the keeper has an answer, for it to be called healthy.
    pub health: Duration,
    /// For answers that are under way when the interface ends.
    pub end: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(30),
            body: Duration::from_secs(10),
            write: Duration::from_secs(30),
            answer: Duration::from_secs(60),
            health: Duration::from_secs(1),
            end: Duration::from_secs(2),
        }
    }
}
