//! Bodies in chunks, of which each says how long it is: taken apart as their bytes come.

use std::fmt;

/// Longest line that says how long a chunk is, with its extensions, in bytes.
const SIZE_LINE_MAX: usize = 256;

/// Most bytes of lines after the last chunk.
const TRAILER_MAX: usize = 16 << 10;

/// Takes a body in chunks apart; it keeps no data, only where it is in it.
#[derive(Debug)]
pub(crate) struct Chunked {
    state: State,
    /// What came of the line that says how long the next chunk is.
    line: Vec<u8>,
    /// Bytes of lines after the last chunk so far.
    trailer: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the line that says how long a chunk is.
    Size,
    /// In a chunk, of which so many bytes are to come.
    Data(u64),
    /// Behind a chunk, before its line's end.
    DataEnd,
    /// At the beginning of a line after the last chunk.
    Trailer,
    /// In such a line.
    TrailerLine,
    /// Behind the body.
    Done,
}

/// Bytes that are no body in chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotChunked;

impl fmt::Display for NotChunked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its body is not in chunks as it should be")
    }
}

impl Chunked {
    /// At the beginning of a body.
    pub(crate) fn new() -> Self {
        Self { state: State::Size, line: Vec::new(), trailer: 0 }
    }

    /// Whether the body is complete.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes bytes from the front of `input`: how many it took, and how many of them, at the end, are data. It
    /// takes at least one of any, until the body is complete.
    pub(crate) fn take(&mut self, input: &[u8]) -> Result<(usize, usize), NotChunked> {
        let mut taken = 0;
        while let Some(&byte) = input.get(taken) {
            match self.state {
                State::Data(left) => {
                    let here = input.len() - taken;
                    let data = usize::try_from(left).map_or(here, |left| left.min(here));
                    let left = left - data as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok((taken + data, data));
                }
                State::Done => break,
                _ => self.step(byte)?,
            }
            taken += 1;
        }
        Ok((taken, 0))
    }

    /// Goes on by a byte that is not of a chunk.
    fn step(&mut self, byte: u8) -> Result<(), NotChunked> {
        self.state = match (self.state, byte) {
            (State::Size, _) => return self.size_line(byte),
            (State::DataEnd, b'\r') if self.line.is_empty() => {
                self.line.push(byte);
                State::DataEnd
            }
            (State::DataEnd, b'\n') => {
                self.line.clear();
                State::Size
            }
            (State::Trailer, b'\n') => State::Done,
            (State::Trailer, b'\r') => State::Trailer,
            (State::TrailerLine, b'\n') => State::Trailer,
            (State::Trailer | State::TrailerLine, _) => State::TrailerLine,
            _ => return Err(NotChunked),
        };
        if matches!(self.state, State::Trailer | State::TrailerLine) {
            self.trailer += 1;
            if self.trailer > TRAILER_MAX {
                return Err(NotChunked);
            }
        }
        Ok(())
    }

    fn size_line(&mut self, byte: u8) -> Result<(), NotChunked> {
        self.line.push(byte);
        if byte != b'\n' {
            return if self.line.len() < SIZE_LINE_MAX { Ok(()) } else { Err(NotChunked) };
        }
        // A line without a number would be taken for 0.
        let Some(b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') = self.line.first() else {
            return Err(NotChunked);
        };
        let Ok(httparse::Status::Complete((_, size))) = httparse::parse_chunk_size(&self.line)
        else {
            return Err(NotChunked);
        };
        self.line.clear();
        self.state = if size == 0 { State::Trailer } else { State::Data(size) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The data in `input`, which comes in pieces of these lengths, again and again; and whether it is complete.
    fn decode(input: &[u8], pieces: &[usize]) -> Result<(Vec<u8>, bool), NotChunked> {
        let (mut chunked, mut data, mut at) = (Chunked::new(), Vec::new(), 0);
        let mut lengths = pieces.iter().cycle();
        while at < input.len() && !chunked.is_done() {
            let length = (*lengths.next().unwrap()).clamp(1, input.len() - at);
            let mut piece = &input[at..at + length];
            while !piece.is_empty() && !chunked.is_done() {
                let (taken, of_data) = chunked.take(piece)?;
                assert!(taken > 0 && of_data <= taken);
                data.extend(&piece[taken - of_data..taken]);
                piece = &piece[taken..];
            }
            at += length;
        }
        Ok((data, chunked.is_done()))
    }

    fn encode(chunks: &[Vec<u8>], extension: &str, trailer: &str) -> Vec<u8> {
        let mut text = Vec::new();
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            text.extend(format!("{:x}{extension}\r\n", chunk.len()).bytes());
            text.extend(chunk);
            text.extend(b"\r\n");
        }
        text.extend(format!("0\r\n{trailer}\r\n").bytes());
        text
    }

    #[test]
    fn what_is_no_body_in_chunks_is_refused() {
        for text in
            ["x\r\n", "5\r\nhelloX", "-1\r\n", "10000000000000000\r\n", "\r\n", "1\r\na\r\r\n"]
        {
            assert_eq!(decode(text.as_bytes(), &[3]), Err(NotChunked), "{text:?}");
        }
        let long = format!("5;{}\r\nhello\r\n", "x".repeat(SIZE_LINE_MAX));
        assert_eq!(decode(long.as_bytes(), &[100]), Err(NotChunked));
        let endless = format!("0\r\n{}", "a: b\r\n".repeat(TRAILER_MAX / 4));
        assert_eq!(decode(endless.as_bytes(), &[100]), Err(NotChunked));
    }

    #[test]
    fn nothing_behind_the_body_is_taken() {
        let mut chunked = Chunked::new();
        assert_eq!(chunked.take(b"0\r\n\r\nHTTP/1.1"), Ok((5, 0)));
        assert!(chunked.is_done());
        assert_eq!(chunked.take(b"HTTP"), Ok((0, 0)));
    }

    proptest! {
        #[test]
        fn data_comes_out_as_it_went_in(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..10),
            extension in prop::sample::select(vec!["", ";a=b", " "]),
            trailer in prop::sample::select(vec!["", "Sum: 1\r\n", "A: 1\r\nB: 2\r\n"]),
            pieces in prop::collection::vec(1usize..64, 1..8),
        ) {
            let text = encode(&chunks, extension, trailer);
            let whole: Vec<u8> = chunks.concat();
            prop_assert_eq!(decode(&text, &pieces), Ok((whole.clone(), true)));
            // Cut anywhere, it gives a beginning of the data, and is not complete.
            for cut in 0..text.len() {
                let (data, done) = decode(&text[..cut], &pieces).unwrap();
                prop_assert!(!done && whole.starts_with(&data));
            }
        }

        #[test]
        fn arbitrary_bytes_give_no_more_data_than_they_are(
            text in prop::collection::vec(any::<u8>(), 0..400),
            pieces in prop::collection::vec(1usize..64, 1..8),
        ) {
            if let Ok((data, _)) = decode(&text, &pieces) {
                prop_assert!(data.len() <= text.len());
            }
        }
    }
}
