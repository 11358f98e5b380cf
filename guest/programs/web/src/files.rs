//! The files of a store, as the server serves them: `index.html` for a folder, parts, and nothing that the
//! client has already.

use crate::Server;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use denali_http::{
    Answer, Conditions, Connection, HttpDate, Method, Representation, Request, Responder, Route,
    Sent, Service, Source, decode_path, encode_path, media_type, reason, route,
};
use ilwaco::block::Buffer;
use ilwaco::clock;
use ilwaco::memory;
use ilwaco::store::{Error, File, Kind, Piece, Store};

const TEXT: &str = "text/plain; charset=utf-8";

/// Memory without which nothing new is begun, so that what was begun can end.
const ROOM: usize = 64 * 1024;

/// Whether there is enough memory to begin something.
pub fn has_room() -> bool {
    memory::has_room(ROOM)
}

/// The files.
pub struct Files {
    store: Store,
}

impl Files {
    /// The files of `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// The reply to a question.
    async fn reply(&self, question: &Question) -> Reply {
        match self.find(&question.path).await {
            Ok(found) => Reply::File(found),
            Err(Error::NotAFile) => self.reply_for_folder(question).await,
            Err(error) => Reply::Refused(status(error)),
        }
    }

    async fn find(&self, path: &[u8]) -> Result<Found, Error> {
        let index;
        let path = if path.ends_with(b"/") {
            index = [path, b"index.html"].concat();
            &index
        } else {
            path
        };
        let file = self.store.file(path).await?;
        let metadata = file.metadata();
        let identity = self.store.identity();
        let (number, bytes, modified) = (file.number(), metadata.bytes, metadata.modified);
        let etag = format!("\"{identity:x}-{number:x}-{bytes:x}-{modified:x}\"");
        Ok(Found { file, etag, media: media_type(path) })
    }

    /// A folder is asked for with a `/` at the end, so that links in its pages lead to where they should.
    async fn reply_for_folder(&self, question: &Question) -> Reply {
        let is_folder = match self.store.metadata(&question.path).await {
            Ok(metadata) => metadata.kind == Kind::Folder,
            Err(error) => return Reply::Refused(status(error)),
        };
        if !is_folder || question.path.ends_with(b"/") {
            return Reply::Refused(404);
        }
        let mut place = encode_path(&question.path);
        place.push('/');
        if let Some(query) = &question.query {
            place.push('?');
            place.push_str(query);
        }
        Reply::Moved(place)
    }
}

/// The status that says why a file cannot be sent.
fn status(error: Error) -> u16 {
    match error {
        Error::NotFound | Error::NotAFile | Error::NotAFolder | Error::TooLarge => 404,
        Error::OutOfMemory => 503,
        _ => 500,
    }
}

/// What a client asked for, until it is looked up.
struct Question {
    path: Vec<u8>,
    query: Option<String>,
    conditions: Conditions,
    head: bool,
}

enum Reply {
    File(Found),
    /// It is there.
    Moved(String),
    Refused(u16),
}

/// A file that can be sent.
struct Found {
    file: File,
    etag: String,
    media: &'static str,
}

/// One connection: what it asks for, and the file that it gets.
pub struct Session {
    files: Rc<Files>,
    date: HttpDate,
    question: Option<Question>,
    sending: Option<Sending>,
}

/// A file on its way.
struct Sending {
    file: File,
    /// Where the next piece begins, and how much is to come.
    next: u64,
    left: u64,
    feed: Rc<RefCell<Feed>>,
    /// The buffer, while no piece is in it.
    spare: Option<Buffer>,
}

/// What was read of a file and is not sent yet.
#[derive(Default)]
struct Feed {
    piece: Option<Piece>,
    /// Bytes of it that were sent.
    taken: usize,
}

impl Feed {
    fn is_empty(&self) -> bool {
        self.piece.as_ref().is_none_or(|piece| self.taken >= piece.len())
    }
}

/// Gives the connection what was read. Where there is nothing, reading failed, and the connection breaks.
struct FromFeed(Rc<RefCell<Feed>>);

impl Source for FromFeed {
    fn fill(&mut self, output: &mut Vec<u8>, room: usize) {
        let feed = &mut *self.0.borrow_mut();
        let Some(piece) = &feed.piece else { return };
        let rest = piece.get(feed.taken..).unwrap_or_default();
        let part = &rest[..rest.len().min(room)];
        output.extend_from_slice(part);
        feed.taken += part.len();
    }
}

const ROUTES: &[Route<Session>] =
    &[Route { methods: &[Method::Get], path: "/*", handler: Session::ask }];

impl Service for Session {
    fn respond(&mut self, request: &Request<'_>, responder: Responder<'_>) -> Sent {
        route(ROUTES, self, request, responder)
    }

    fn date(&mut self) -> Option<&HttpDate> {
        self.date.update(clock::realtime_ns() / 1_000_000_000);
        Some(&self.date)
    }
}

impl Server for Session {
    async fn prepare(&mut self, connection: &mut Connection) {
        if let Some(question) = self.question.take() {
            let reply = self.files.reply(&question).await;
            let mut sending = None;
            connection.answer_deferred(self, |responder| {
                answer(reply, &question, responder, &mut sending)
            });
            self.sending = sending;
        }
        if connection.is_streaming()
            && let Some(sending) = &mut self.sending
        {
            sending.read_on().await;
        } else if self.sending.as_ref().is_some_and(Sending::is_done) {
            self.sending = None;
        }
    }
}

impl Session {
    /// A connection on which nothing was asked for.
    pub fn new(files: Rc<Files>) -> Self {
        Self { files, date: HttpDate::new(0), question: None, sending: None }
    }

    fn ask(&mut self, request: &Request<'_>, responder: Responder<'_>) -> Sent {
        if !has_room() {
            return responder.send(503, TEXT, b"too little memory\n");
        }
        let Some(path) = decode_path(request.path) else {
            return responder.send(400, TEXT, b"this path names no file\n");
        };
        self.question = Some(Question {
            path,
            query: request.query.map(String::from),
            conditions: Conditions::of(request),
            head: request.method == Method::Head,
        });
        responder.defer()
    }
}

impl Sending {
    fn is_done(&self) -> bool {
        self.left == 0 && self.feed.borrow().is_empty()
    }

    /// Reads the next piece if the last one is sent.
    async fn read_on(&mut self) {
        if !self.feed.borrow().is_empty() || self.left == 0 {
            return;
        }
        let sent = self.feed.borrow_mut().piece.take();
        let Some(buffer) = sent.map(Piece::into_buffer).or(self.spare.take()) else { return };
        let Ok(piece) = self.file.read(self.next, buffer).await else { return };
        let bytes = (piece.len() as u64).min(self.left);
        self.next += bytes;
        self.left -= bytes;
        *self.feed.borrow_mut() = Feed { piece: Some(piece), taken: 0 };
    }
}

/// Answers with what was found; `sending` becomes what is to follow the head.
fn answer(
    reply: Reply,
    question: &Question,
    responder: Responder<'_>,
    sending: &mut Option<Sending>,
) -> Sent {
    match reply {
        Reply::File(found) => send(found, question, responder, sending),
        Reply::Moved(place) => {
            let headers = [("Location", place.as_str()), ("Content-Type", TEXT)];
            responder.send_with(301, &headers, b"this is a folder\n")
        }
        Reply::Refused(status) => {
            let text = format!("{}\n", reason(status));
            responder.send(status, TEXT, text.as_bytes())
        }
    }
}

fn send(
    found: Found,
    question: &Question,
    responder: Responder<'_>,
    sending: &mut Option<Sending>,
) -> Sent {
    let Found { file, etag, media } = found;
    let metadata = file.metadata();
    let length = metadata.bytes;
    let modified = HttpDate::new(metadata.modified);
    let modified = str::from_utf8(modified.as_bytes()).unwrap_or_default();
    let validators = [("ETag", etag.as_str()), ("Last-Modified", modified)];
    let of = Representation { length, etag: &etag, modified: metadata.modified };
    let (status, first, len) = match question.conditions.answer(&of) {
        Answer::Whole => (200, 0, length),
        Answer::Part { first, len } => (206, first, len),
        Answer::NotModified => return responder.send_empty(304, &validators),
        Answer::PreconditionFailed => {
            return responder.send(412, TEXT, b"the file is another one\n");
        }
        Answer::Unsatisfiable => {
            let range = format!("bytes */{length}");
            let headers = [("Content-Range", range.as_str()), ("Content-Type", TEXT)];
            return responder.send_with(416, &headers, b"the file has no such bytes\n");
        }
    };
    let sends = !question.head && len > 0;
    // Before the head is sent it can still be said that there is too little memory.
    let spare = if sends { file.buffer().ok() } else { None };
    if sends && spare.is_none() {
        return responder.send(503, TEXT, b"too little memory\n");
    }
    let range = format!("bytes {first}-{}/{length}", (first + len).saturating_sub(1));
    let headers = [
        ("Content-Type", media),
        validators[0],
        validators[1],
        ("Accept-Ranges", "bytes"),
        ("Content-Range", &range),
    ];
    let feed = Rc::new(RefCell::new(Feed::default()));
    let source = FromFeed(Rc::clone(&feed));
    if sends {
        *sending = Some(Sending { file, next: first, left: len, feed, spare });
    }
    let headers = if status == 206 { &headers[..] } else { &headers[..4] };
    responder.stream_with(status, headers, len, source)
}
