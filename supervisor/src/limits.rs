//! How much of everything others may send, have open, and have waiting.

use std::time::Duration;

/// Most bytes of a request that creates guests.
pub(crate) const CREATE_BYTES: usize = 1 << 20;

/// Most bytes of any other request.
pub(crate) const BODY_BYTES: usize = 64 << 10;

/// Most bytes of a request's first line and headers: as long as addresses may be, and headers beside that.
pub(crate) const HEAD_BYTES: usize = 80 << 10;

/// Most headers of a request.
pub(crate) const HEADERS: usize = 64;

/// Most bytes of a name, and of a pattern.
pub(crate) const NAME_BYTES: usize = 64;

/// Most bytes of a path.
pub(crate) const PATH_BYTES: usize = 4095;

/// Most patterns of a request.
pub(crate) const PATTERNS: usize = 1024;

/// Most guests that a request creates.
pub(crate) const GUESTS: u32 = 100_000;

/// Most bytes of the message of a problem.
pub(crate) const MESSAGE_BYTES: usize = 512;

/// Most connections of a user who is neither the owner nor root.
pub(crate) const CONNECTIONS_OF_USER: usize = 64;

/// Most connections that are turned away at a time; further ones are closed.
pub(crate) const TURNED_AWAY: usize = 16;

/// Most requests at a time that create guests or have them do something.
pub(crate) const WORKS: usize = 16;

/// Outcomes that wait for a client; one that has more waiting is given up.
pub(crate) const OUTCOMES_WAITING: usize = 1 << 17;

/// Most clients that listen to events, or read logs, at a time.
pub(crate) const LISTENERS: usize = 64;

/// Events that wait for a client; one that has more waiting is given up.
pub(crate) const EVENTS_WAITING: usize = 4096;

/// Most lists of guests at a time; further ones wait.
pub(crate) const LISTS: usize = 4;

/// Bytes that are written at once.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;

/// Most lines of `tail`.
pub(crate) const TAIL_LINES: u64 = 1_000_000;

/// How far back a log is searched for the last lines, in bytes.
pub(crate) const TAIL_BYTES: u64 = 16 << 20;

/// Time between looks at a log that is followed.
pub(crate) const LOG_LOOKS: Duration = Duration::from_millis(200);

/// Most swap folders that metrics tell of.
pub(crate) const FOLDERS: usize = 64;
