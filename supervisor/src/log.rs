//! What a guest writes to its console, from the file that the keeper names.

use crate::failure::{DEFECT, Failure, typed};
use crate::feed;
use crate::guests::{Named, inspection, path_name};
use crate::limits::{CHUNK_BYTES, LOG_LOOKS, TAIL_BYTES, TAIL_LINES};
use crate::request::Query;
use crate::server::Api;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;

/// Chunks that wait for a client.
const CHUNKS: usize = 4;

/// `GET /v1/guests/{name}/log`
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    name: Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let name = path_name(name)?;
    let query = Query::read(query.as_deref(), &["follow", "tail"])?;
    let (follow, tail) = (query.flag("follow")?, query.number("tail", TAIL_LINES)?);
    let permit = api.listener()?;
    let Some(path) = inspection(&api, name).await?.log else {
        let message = "the guest has no log: its configuration says where its console leads";
        return Err(Failure::new(StatusCode::NOT_FOUND, crate::failure::WRONG, message));
    };
    let log = spawn_blocking(move || Log::open(&PathBuf::from(path), tail)).await;
    let log = log.map_err(io::Error::other).flatten().map_err(|error| unreadable(&error))?;
    let (sender, chunks) = mpsc::channel(CHUNKS);
    tokio::spawn(copy(log, follow, sender, api.stop.clone()));
    Ok(typed(StatusCode::OK, "text/plain; charset=utf-8", feed::bytes(chunks, permit)))
}

fn unreadable(error: &io::Error) -> Failure {
    let (code, status) = match error.kind() {
        // Made when there is something to write.
        io::ErrorKind::NotFound => (StatusCode::NOT_FOUND, crate::failure::WRONG),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, DEFECT),
    };
    Failure::new(code, status, &format!("the guest's log cannot be read: {error}"))
}

/// Copies a log to a client until it ends, the client goes or the server ends.
async fn copy(
    mut log: Log,
    follow: bool,
    sender: mpsc::Sender<Vec<u8>>,
    stop: watch::Receiver<bool>,
) {
    while !*stop.borrow() {
        let read = spawn_blocking(move || {
            let chunk = log.next(follow);
            (log, chunk)
        });
        let Ok((back, chunk)) = read.await else { return };
        log = back;
        match chunk {
            Ok(Some(chunk)) => {
                if sender.send(chunk).await.is_err() {
                    return;
                }
            }
            Ok(None) if follow && !log.is_removed() => {
                if tokio::time::timeout(LOG_LOOKS, sender.closed()).await.is_ok() {
                    return;
                }
            }
            Ok(None) | Err(_) => return,
        }
    }
}

/// A log that is read.
struct Log {
    file: File,
    /// Where it is read next, in bytes.
    at: u64,
    /// Its size when it was opened.
    size: u64,
}

impl Log {
    /// Opens a log to read it whole, or its last lines only.
    fn open(path: &PathBuf, tail: Option<u64>) -> io::Result<Self> {
        // Never waits for a pipe's other end, and follows no link at the path's end.
        let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW;
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("is no file"));
        }
        let size = metadata.len();
        let at = match tail {
            Some(lines) => last_lines(&file, size, lines)?,
            None => 0,
        };
        Ok(Self { file, at, size })
    }

    /// The next bytes, if there are any: up to the end, or what was the end when it was opened.
    fn next(&mut self, follow: bool) -> io::Result<Option<Vec<u8>>> {
        let size = self.file.metadata()?.len();
        if follow && size < self.at {
            // It was cut, to begin anew.
            self.at = 0;
        }
        let end = if follow { size } else { self.size };
        let length = usize::try_from(end.saturating_sub(self.at)).unwrap_or(CHUNK_BYTES);
        let mut chunk = vec![0; length.min(CHUNK_BYTES)];
        let read = self.file.read_at(&mut chunk, self.at)?;
        chunk.truncate(read);
        self.at += read as u64;
        Ok((read > 0).then_some(chunk))
    }

    /// Whether the file has no name any more: nothing will be added.
    fn is_removed(&self) -> bool {
        self.file.metadata().map_or(true, |metadata| metadata.nlink() == 0)
    }
}

/// Where the last `lines` lines of a file of `size` bytes begin, as far as it is searched.
fn last_lines(file: &File, size: u64, lines: u64) -> io::Result<u64> {
    let least = size.saturating_sub(TAIL_BYTES);
    let mut chunk = vec![0; CHUNK_BYTES];
    // A newline at the very end ends the last line, and begins none.
    let mut end = size.saturating_sub(1);
    let mut left = lines;
    while end > least {
        let length = (end - least).min(CHUNK_BYTES as u64);
        let start = end - length;
        let part = &mut chunk[..usize::try_from(length).unwrap_or(CHUNK_BYTES)];
        file.read_exact_at(part, start)?;
        for (index, _) in part.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            left -= 1;
            if left == 0 {
                return Ok(start + index as u64 + 1);
            }
        }
        end = start;
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn all(log: &mut Log, follow: bool) -> Vec<u8> {
        std::iter::from_fn(|| log.next(follow).unwrap()).flatten().collect()
    }

    #[test]
    fn the_last_lines_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let text: Vec<_> = (0..50_000).map(|number| format!("line {number}\n")).collect();
        std::fs::write(&path, text.concat()).unwrap();
        for tail in [1, 2, 10_000, 49_999, 50_000, 50_001] {
            let read = all(&mut Log::open(&path, Some(tail)).unwrap(), false);
            let wanted = text[text.len().saturating_sub(tail as usize)..].concat();
            assert_eq!(read, wanted.as_bytes(), "{tail} lines");
        }
        for (text, last) in [("", ""), ("a", "a"), ("a\nb", "b"), ("\n\n", "\n"), ("a\n", "a\n")] {
            std::fs::write(&path, text).unwrap();
            let read = all(&mut Log::open(&path, Some(1)).unwrap(), false);
            assert_eq!(read, last.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn a_log_is_read_to_where_it_ended_or_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "one\n").unwrap();
        let mut whole = Log::open(&path, None).unwrap();
        let mut followed = Log::open(&path, None).unwrap();
        File::options().append(true).open(&path).unwrap().write_all(b"two\n").unwrap();
        assert_eq!(all(&mut whole, false), b"one\n");
        assert_eq!(all(&mut followed, true), b"one\ntwo\n");
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(all(&mut followed, true), b"new\n", "it was cut");
        assert!(!followed.is_removed());
        std::fs::remove_file(&path).unwrap();
        assert!(followed.is_removed());
    }

    #[test]
    fn what_is_no_file_is_no_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert!(Log::open(&path, None).is_err());
        assert!(Log::open(&folder.path().into(), None).is_err());
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(Log::open(&path, None).is_err());
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(Log::open(&path, None).is_err());
    }
}
