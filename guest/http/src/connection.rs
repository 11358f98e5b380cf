//! One connection: requests are found in what arrives, answered in order, and the answers queued.

use crate::chunked::Decoder;
use crate::date::HttpDate;
use crate::request::{self, Framing, Head, Method, Request};
use crate::response::{Deferred, Persistence, Responder, Sent, Streaming, reason};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;

/// Answers requests.
pub trait Service {
    /// Answers one request.
    fn respond(&mut self, request: &Request<'_>, responder: Responder<'_>) -> Sent;

    /// The `Date` of responses; `None` = without.
    fn date(&mut self) -> Option<&HttpDate> {
        None
    }
}

/// How large a request may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the head: request line and header fields.
    pub head: usize,
    /// Bytes of the body.
    pub body: usize,
}

impl Default for Limits {
    /// 8 KiB of head, 64 KiB of body.
    fn default() -> Self {
        Self { head: 8 * 1024, body: 64 * 1024 }
    }
}

/// Bytes of output at which no further request is answered until some are sent.
const OUTPUT_HIGH: usize = 16 * 1024;
/// Bytes of input kept at which the transport should stop reading, beyond one whole request.
const INPUT_HIGH: usize = 16 * 1024;
/// A buffer larger than this is given back when it is empty.
const BUFFER_KEPT: usize = 4 * 1024;

/// What of the next request has arrived.
enum Phase {
    /// Part of the head; so many bytes of it hold no blank line.
    Head(usize),
    /// The head and part of the body; the request is complete when there are so many bytes.
    Body(usize),
    /// The head, of so many bytes, and part of a body in chunks.
    Chunks(usize, Box<Decoder>),
}

/// The server's end of a connection.
///
/// The transport calls [`receive`](Self::receive) with what arrives while
/// [`wants_input`](Self::wants_input), sends what [`output`](Self::output) shows and acknowledges
/// it with [`sent`](Self::sent), and closes when [`is_done`](Self::is_done).
pub struct Connection {
    limits: Limits,
    phase: Phase,
    /// What has arrived and was not consumed.
    input: Vec<u8>,
    output: Vec<u8>,
    /// Bytes of `output` that were sent.
    sent: usize,
    streaming: Option<Streaming>,
    /// A request whose answer comes later; those behind it wait.
    deferred: Option<Deferred>,
    /// Nothing that arrives counts any more.
    closing: bool,
    /// Nothing more will arrive.
    ended: bool,
}

impl Connection {
    /// A connection on which nothing has happened.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            phase: Phase::Head(0),
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            streaming: None,
            deferred: None,
            closing: false,
            ended: false,
        }
    }

    /// Takes in what arrived, all of it, and answers the requests it completes.
    pub fn receive<S: Service>(&mut self, bytes: &[u8], service: &mut S) {
        if self.closing {
            return;
        }
        if self.input.is_empty() {
            // The usual case: whole requests, answered where they lie.
            let consumed = self.answer(bytes, service);
            self.keep(&bytes[consumed..]);
        } else {
            self.keep(bytes);
            self.answer_kept(service);
        }
    }

    /// Says that nothing more will arrive.
    pub fn end_of_input(&mut self) {
        self.ended = true;
    }

    /// Whether the transport should read on; if not, it should send first.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        let whole_request = match &self.phase {
            Phase::Head(_) => self.limits.head,
            Phase::Body(bytes) => *bytes,
            // Chunks may be as small as a byte, each with five bytes around it.
            Phase::Chunks(head, _) => head + 8 * self.limits.body + self.limits.head,
        };
        !self.closing && !self.ended && self.input.len() < whole_request + INPUT_HIGH
    }

    /// What is to be sent now; empty if there is nothing to send before more arrives.
    pub fn output<S: Service>(&mut self, service: &mut S) -> &[u8] {
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
            self.refill(service);
            if self.output.is_empty() && self.output.capacity() > BUFFER_KEPT {
                self.output = Vec::new();
            }
        }
        &self.output[self.sent..]
    }

    /// Says that so many bytes of [`output`](Self::output) were sent.
    pub fn sent(&mut self, bytes: usize) {
        self.sent = (self.sent + bytes).min(self.output.len());
    }

    /// Whether everything was sent and nothing more is to come: the transport should close. Only
    /// meaningful when [`output`](Self::output) was empty.
    #[must_use]
    pub fn is_done(&self) -> bool {
        (self.closing || self.ended) && self.sent == self.output.len() && self.is_free()
    }

    /// Answers that the client took too long, if it is in the midst of a request, and closes.
    pub fn time_out<S: Service>(&mut self, service: &mut S) {
        if !self.closing && self.streaming.is_none() && !self.input.is_empty() {
            self.refuse(408, service);
        }
        self.closing = true;
    }

    /// Whether a request waits for its answer, which [`answer_deferred`](Self::answer_deferred) gives.
    #[must_use]
    pub fn is_deferred(&self) -> bool {
        self.deferred.is_some()
    }

    /// Whether the next call of [`output`](Self::output) asks the source of a long body for more.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        self.streaming.is_some() && self.sent == self.output.len()
    }

    /// Has `answer` answer the request whose answer the service put off with [`Responder::defer`].
    /// Does nothing if there is none.
    pub fn answer_deferred<S: Service>(
        &mut self,
        service: &mut S,
        answer: impl FnOnce(Responder<'_>) -> Sent,
    ) {
        let Some(deferred) = self.deferred.take() else { return };
        let mut failed = false;
        answer(Responder {
            failed: &mut failed,
            output: &mut self.output,
            streaming: &mut self.streaming,
            deferred: &mut self.deferred,
            date: service.date(),
            head_only: deferred.head_only,
            persistence: deferred.persistence,
        });
        self.closing |= failed;
    }

    /// Makes more output: the next piece of a long body, or answers to requests that were kept.
    fn refill<S: Service>(&mut self, service: &mut S) {
        if let Some(streaming) = &mut self.streaming {
            let room = usize::try_from(streaming.left).unwrap_or(usize::MAX).min(OUTPUT_HIGH);
            let room = reserve_some(&mut self.output, room);
            if room > 0 {
                streaming.source.fill(&mut self.output, room);
                self.output.truncate(room);
            }
            streaming.left -= self.output.len() as u64;
            // Without memory, or with a source that has nothing to give, the promise cannot be kept:
            // the connection breaks.
            self.closing |= self.output.is_empty();
            if streaming.left == 0 || self.output.is_empty() {
                self.streaming = None;
            }
        }
        if self.output.is_empty() && !self.input.is_empty() && !self.closing {
            self.answer_kept(service);
        }
    }

    /// Keeps bytes for later.
    fn keep(&mut self, bytes: &[u8]) {
        if self.closing || bytes.is_empty() {
            return;
        }
        if self.input.try_reserve(bytes.len()).is_err() {
            // No memory for this request: the connection ends after what was answered.
            self.closing = true;
            return;
        }
        self.input.extend_from_slice(bytes);
    }

    fn answer_kept<S: Service>(&mut self, service: &mut S) {
        let mut input = mem::take(&mut self.input);
        let consumed = self.answer(&input, service);
        input.drain(..consumed);
        if input.is_empty() && input.capacity() > BUFFER_KEPT {
            input = Vec::new();
        }
        if !self.closing {
            self.input = input;
        }
    }

    /// Answers the complete requests at the start of `input`, as far as there is room for answers;
    /// returns how many bytes they took.
    fn answer<S: Service>(&mut self, input: &[u8], service: &mut S) -> usize {
        let mut consumed = 0;
        while !self.closing && self.is_free() && self.output.len() < OUTPUT_HIGH {
            match self.answer_one(&input[consumed..], service) {
                Ok(0) => break,
                Ok(bytes) => consumed += bytes,
                Err(status) => self.refuse(status, service),
            }
        }
        consumed
    }

    /// Whether the next request can be answered: the answer to the last one is complete.
    fn is_free(&self) -> bool {
        self.streaming.is_none() && self.deferred.is_none()
    }

    /// Answers the request at the start of `input` if it is complete, and returns its length; 0 =
    /// it is not complete. The error is the status to refuse it with.
    fn answer_one<S: Service>(&mut self, input: &[u8], service: &mut S) -> Result<usize, u16> {
        match &mut self.phase {
            Phase::Head(scanned) => {
                if *scanned == 0 {
                    // Empty lines before a request are passed over (RFC 9112, section 2.2).
                    let empty = input.iter().take_while(|&&byte| matches!(byte, b'\r' | b'\n'));
                    let empty = empty.count();
                    if empty > 0 {
                        return Ok(empty);
                    }
                }
                let Some(len) = head_end(input, *scanned) else {
                    *scanned = input.len();
                    return if input.len() <= self.limits.head {
                        Ok(0)
                    } else {
                        self.too_long(input)
                    };
                };
                if len > self.limits.head {
                    return self.too_long(input);
                }
                self.answer_head(input, len, service)
            }
            Phase::Body(len) if input.len() < *len => Ok(0),
            Phase::Body(len) => {
                let len = *len;
                let head_len = head_end(input, 0).ok_or(400_u16)?;
                let mut space = request::header_space();
                let head = request::parse(&input[..head_len], &mut space)?;
                self.respond(&head, &input[head_len..len], service);
                Ok(len)
            }
            Phase::Chunks(head_len, decoder) => {
                let head_len = *head_len;
                if !decoder.decode(&input[head_len..], self.limits.body)? {
                    let most = 8 * self.limits.body + self.limits.head;
                    return if input.len() - head_len > most { Err(413) } else { Ok(0) };
                }
                let Phase::Chunks(_, decoder) = mem::replace(&mut self.phase, Phase::Head(0))
                else {
                    return Err(500);
                };
                let mut space = request::header_space();
                let head = request::parse(&input[..head_len], &mut space)?;
                self.respond(&head, decoder.body(), service);
                Ok(head_len + decoder.position())
            }
        }
    }

    /// Goes on with a request whose head, of `len` bytes, is complete.
    fn answer_head<S: Service>(
        &mut self,
        input: &[u8],
        len: usize,
        service: &mut S,
    ) -> Result<usize, u16> {
        let mut space = request::header_space();
        let head = request::parse(&input[..len], &mut space)?;
        match head.framing {
            Framing::Length(body) if body > self.limits.body as u64 => return Err(413),
            Framing::Length(body) => {
                let whole = len + body as usize;
                if input.len() >= whole {
                    self.respond(&head, &input[len..whole], service);
                    return Ok(whole);
                }
                self.phase = Phase::Body(whole);
            }
            Framing::Chunked => self.phase = Phase::Chunks(len, Box::new(Decoder::new())),
        }
        if head.expects_continue && input.len() == len {
            const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
            self.output.try_reserve(CONTINUE.len()).map_err(|_| 503_u16)?;
            self.output.extend_from_slice(CONTINUE);
        }
        match self.phase {
            // What has arrived of the chunks is looked at now.
            Phase::Chunks(..) => self.answer_one(input, service),
            _ => Ok(0),
        }
    }

    /// Has the service answer a complete request.
    fn respond<S: Service>(&mut self, head: &Head<'_>, body: &[u8], service: &mut S) {
        self.phase = Phase::Head(0);
        self.closing |= !head.keep_alive;
        let persistence = match (head.keep_alive, head.minor) {
            (false, _) => Persistence::Closes,
            (true, 0) => Persistence::KeptAlive,
            (true, _) => Persistence::Open,
        };
        let request = Request { body, ..head.request };
        let date = service.date().cloned();
        let mut failed = false;
        let responder = Responder {
            failed: &mut failed,
            output: &mut self.output,
            streaming: &mut self.streaming,
            deferred: &mut self.deferred,
            date: date.as_ref(),
            head_only: request.method == Method::Head,
            persistence,
        };
        service.respond(&request, responder);
        // An answer that could not be given breaks the connection.
        self.closing |= failed;
    }

    /// How a head that is too long is refused: for its request line, or for its header fields.
    fn too_long(&self, head: &[u8]) -> Result<usize, u16> {
        Err(if head[..self.limits.head].contains(&b'\n') { 431 } else { 414 })
    }

    /// Refuses what arrived, and closes.
    fn refuse<S: Service>(&mut self, status: u16, service: &mut S) {
        self.closing = true;
        self.phase = Phase::Head(0);
        self.input = Vec::new();
        let responder = Responder {
            failed: &mut false,
            output: &mut self.output,
            streaming: &mut self.streaming,
            deferred: &mut self.deferred,
            date: service.date(),
            head_only: false,
            persistence: Persistence::Closes,
        };
        responder.send(status, "text/plain", reason(status).as_bytes());
    }
}

/// Makes room for `wanted` bytes, or for less where memory is scarce; returns for how many.
fn reserve_some(output: &mut Vec<u8>, wanted: usize) -> usize {
    let little = wanted.min(1024);
    [wanted, little].into_iter().find(|&bytes| output.try_reserve(bytes).is_ok()).unwrap_or(0)
}

/// Where the head ends: after the first blank line. The first `scanned` bytes are known to hold
/// none.
fn head_end(input: &[u8], scanned: usize) -> Option<usize> {
    let mut from = scanned.saturating_sub(3);
    while let Some(offset) = input[from..].iter().position(|&byte| byte == b'\n') {
        let next = from + offset + 1;
        match input.get(next..) {
            Some([b'\n', ..]) => return Some(next + 1),
            Some([b'\r', b'\n', ..]) => return Some(next + 2),
            _ => from = next,
        }
    }
    None
}
