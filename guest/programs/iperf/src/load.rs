//! The streams of a test, and what they carry.

use crate::json;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use ilwaco::clock::Instant;
use ilwaco::net::TcpStream;

/// Most streams of a test.
const STREAMS_MAX: u64 = 128;

/// One stream.
pub(crate) struct Stream {
    /// What client and server call it.
    pub(crate) id: usize,
    /// Whether it goes to the client.
    pub(crate) sends: bool,
    shared: Rc<Shared>,
    connection: Option<TcpStream>,
}

/// What a stream's task and the test both know.
#[derive(Default)]
struct Shared {
    bytes: Cell<u64>,
    stopped: Cell<bool>,
}

/// All streams of one test.
pub(crate) struct Load {
    pub(crate) streams: Vec<Stream>,
    wanted: usize,
    /// How many go to the client: the last ones.
    sending: usize,
    started: Option<Instant>,
    /// Seconds from start to end.
    seconds: f64,
}

impl Load {
    /// The load that a client's parameters ask for; `None` if it is none that can be served.
    pub(crate) fn new(parameters: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(parameters).ok()?;
        let parallel = json::number(text, "parallel").unwrap_or(1);
        if !json::is_true(text, "tcp") || !(1..=STREAMS_MAX).contains(&parallel) {
            return None;
        }
        let parallel = parallel as usize;
        let (wanted, sending) = if json::is_true(text, "bidirectional") {
            (2 * parallel, parallel)
        } else if json::is_true(text, "reverse") {
            (parallel, parallel)
        } else {
            (parallel, 0)
        };
        Some(Self { streams: Vec::new(), wanted, sending, started: None, seconds: 0.0 })
    }

    pub(crate) fn wants_stream(&self) -> bool {
        self.streams.len() < self.wanted
    }

    /// Adds the client's next stream. Numbers are iperf3's: 1, 3, 4, 5 and so on.
    pub(crate) fn add(&mut self, connection: TcpStream) {
        let index = self.streams.len();
        self.streams.push(Stream {
            id: if index == 0 { 1 } else { index + 2 },
            sends: index >= self.wanted - self.sending,
            shared: Rc::default(),
            connection: Some(connection),
        });
    }

    pub(crate) fn start(&mut self) {
        self.started = Some(Instant::now());
        for stream in &mut self.streams {
            let Some(connection) = stream.connection.take() else { continue };
            let shared = Rc::clone(&stream.shared);
            if stream.sends {
                ilwaco::spawn(send(connection, shared));
            } else {
                ilwaco::spawn(receive(connection, shared));
            }
        }
    }

    /// Has all streams end. A sender that waits for room ends when the client closes its side.
    pub(crate) fn stop(&mut self) {
        if let Some(started) = self.started.take() {
            self.seconds = started.elapsed().as_secs_f64();
        }
        for stream in &self.streams {
            stream.shared.stopped.set(true);
        }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.seconds
    }
}

impl Stream {
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes.get()
    }
}

/// Sends until it is stopped: what lies in the buffer, as it lies there.
async fn send(mut connection: TcpStream, shared: Rc<Shared>) {
    while !shared.stopped.get() {
        match connection.write_with(|room| (room.len(), room.len())).await {
            Ok(count) => shared.bytes.set(shared.bytes.get() + count as u64),
            Err(_) => return,
        }
    }
    // The client goes on reading until all have said their results; then it closes.
    receive(connection, Rc::default()).await;
}

/// Receives until the other side ends.
async fn receive(mut connection: TcpStream, shared: Rc<Shared>) {
    while let Ok(count @ 1..) = connection.read_with(|bytes| (bytes.len(), bytes.len())).await {
        shared.bytes.set(shared.bytes.get() + count as u64);
    }
}
