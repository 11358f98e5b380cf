//! A console on two descriptors: the terminal, or files.

use crate::interest::{Interest, Watch};
use crate::stream::{CHUNK, Encoder, Stream};
use denali_devices::console::ConsoleBackend;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Bytes of output that are encoded at a time.
const ENCODED: usize = 512;

/// What of encoded output was not written yet.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    /// The output that it stands for.
    stands_for: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    /// Bytes of output that nobody was there to read, or that could not be written.
    lost: u64,
    input_ended: bool,
}

/// A console with input from one descriptor and output to another; either may be missing. Without output, what
/// the guest writes is dropped; without input, or after its end, none comes.
pub struct Duplex {
    input: Option<Stream>,
    output: Option<Stream>,
    encoder: Option<Encoder>,
    pending: Pending,
    interest: Interest,
    driver: bool,
    wants_input: bool,
    blocked: bool,
    counters: Counters,
}

impl Duplex {
    /// Standard input and output, whatever they are. Output passes through `encoder`, if there is one. A
    /// reader of standard output that is gone ends the monitor as it ends any program.
    ///
    /// # Errors
    /// When the host is out of descriptors. A standard stream that is closed counts as missing.
    pub fn terminal(encoder: Option<Encoder>) -> io::Result<Self> {
        let stream = |number| match Stream::standard(number) {
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => Ok(None),
            stream => stream.map(Some),
        };
        let mut console = Self::new(stream(0)?, stream(1)?)?;
        console.encoder = encoder;
        Ok(console)
    }

    /// Files, pipes or devices of the host.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn files(input: Option<OwnedFd>, output: Option<OwnedFd>) -> io::Result<Self> {
        Self::new(input.map(Stream::of), output.map(Stream::of))
    }

    fn new(input: Option<Stream>, output: Option<Stream>) -> io::Result<Self> {
        Ok(Self {
            input,
            output,
            encoder: None,
            pending: Pending::default(),
            interest: Interest::new()?,
            driver: false,
            wants_input: false,
            blocked: false,
            counters: Counters::default(),
        })
    }

    #[cfg(test)]
    pub(crate) fn encode_with(&mut self, encoder: Encoder) {
        self.encoder = Some(encoder);
    }

    fn update_interest(&mut self) {
        if let Some(input) = &self.input {
            let wanted = self.driver && self.wants_input;
            self.interest.set(input.as_raw_fd(), Watch::when(wanted, true, false));
        }
        if let Some(output) = &self.output {
            let wanted = self.driver && self.blocked;
            self.interest.set(output.as_raw_fd(), Watch::when(wanted, false, true));
        }
    }

    /// Writes bytes as they are, as many as there is room for. What nobody can read any more counts as
    /// written.
    fn write_raw(&mut self, bytes: &[u8]) -> usize {
        let Some(output) = &self.output else { return bytes.len() };
        let mut done = 0;
        while done < bytes.len() {
            match output.write(&bytes[done..]) {
                Ok(written) => done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return done,
                Err(_) => {
                    self.counters.lost += (bytes.len() - done) as u64;
                    return bytes.len();
                }
            }
        }
        done
    }

    /// Writes what is left of encoded output; how much output is done by that, `None` if some is left.
    fn write_pending(&mut self) -> Option<usize> {
        let bytes = std::mem::take(&mut self.pending.bytes);
        let written = self.write_raw(&bytes);
        if written < bytes.len() {
            self.pending.bytes = bytes[written..].to_vec();
            return None;
        }
        Some(std::mem::take(&mut self.pending.stands_for))
    }

    fn write_encoded(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        loop {
            match self.write_pending() {
                None => return done,
                Some(more) => done += more,
            }
            let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) else { return done };
            let piece = whole_characters(rest, ENCODED);
            self.pending.stands_for = piece.len();
            if let Some(encoder) = &self.encoder {
                self.pending.bytes = encoder(piece);
            }
        }
    }
}

/// The first bytes, at most `most`; a character of UTF-8 is not cut where there are bytes after it.
fn whole_characters(bytes: &[u8], most: usize) -> &[u8] {
    if bytes.len() <= most {
        return bytes;
    }
    let is_start = |&at: &usize| bytes[at] & 0xc0 != 0x80;
    let end = (most - 3..=most).rev().find(is_start).unwrap_or(most);
    &bytes[..end]
}

/// Readable while the console should be serviced.
impl AsRawFd for Duplex {
    fn as_raw_fd(&self) -> RawFd {
        self.interest.as_raw_fd()
    }
}

impl ConsoleBackend for Duplex {
    fn attach(&mut self, driver: bool) {
        self.driver = driver;
        self.wants_input = false;
        self.blocked = false;
        // The driver that gave this output does not wait for it any more.
        self.pending.stands_for = 0;
        self.update_interest();
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        let taken =
            if self.encoder.is_some() { self.write_encoded(bytes) } else { self.write_raw(bytes) };
        let blocked = taken < bytes.len();
        if blocked != self.blocked {
            self.blocked = blocked;
            self.update_interest();
        }
        taken
    }

    fn read(&mut self, room: &mut [u8]) -> usize {
        let Some(input) = &self.input else { return 0 };
        let end = room.len().min(CHUNK);
        if end == 0 {
            return 0;
        }
        match input.read(&mut room[..end]) {
            Ok(length) if length > 0 => length,
            Err(error) if is_transient(&error) => 0,
            Ok(_) | Err(_) => {
                self.counters.input_ended = true;
                self.wants_input = false;
                self.update_interest();
                self.input = None;
                0
            }
        }
    }

    fn want_input(&mut self, wanted: bool) {
        if wanted != self.wants_input {
            self.wants_input = wanted;
            self.update_interest();
        }
    }

    /// Encoded output of which a part was written could not be gone on with.
    fn busy(&mut self) -> Option<&'static str> {
        (!self.pending.bytes.is_empty()).then_some("has output that its reader has not taken")
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("lost_bytes", self.counters.lost),
            ("input_ended", u64::from(self.counters.input_ended)),
        ]
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
