//! Bodies in chunks, decoded as they arrive.

use alloc::vec::Vec;

/// Most bytes of a chunk's size line or of one line of the trailer.
const LINE_MAX: usize = 256;
/// Most lines of the trailer.
const TRAILER_MAX: usize = 32;

/// What is expected next.
#[derive(Clone, Copy, Debug)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailer(usize),
    Done,
}

/// Decodes one body.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
    /// Encoded bytes decoded so far.
    position: usize,
    body: Vec<u8>,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { state: State::Size, position: 0, body: Vec::new() }
    }

    /// What was decoded.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Encoded bytes decoded so far: where the next request begins, once the body is complete.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// Goes on with `encoded`, all that has arrived of the body. True if it is complete; the error
    /// is the status to refuse it with.
    pub(crate) fn decode(&mut self, encoded: &[u8], body_max: usize) -> Result<bool, u16> {
        loop {
            let rest = &encoded[self.position..];
            match self.state {
                State::Done => return Ok(true),
                State::Data(0) => self.state = State::DataEnd,
                State::Data(left) => {
                    let part = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    if part == 0 {
                        return Ok(false);
                    }
                    self.body.try_reserve(part).map_err(|_| 503_u16)?;
                    self.body.extend_from_slice(&rest[..part]);
                    self.position += part;
                    self.state = State::Data(left - part as u64);
                }
                State::Size | State::DataEnd | State::Trailer(_) => {
                    let Some((line, len)) = first_line(rest)? else {
                        return Ok(false);
                    };
                    self.position += len;
                    self.state = self.after_line(line, body_max)?;
                }
            }
        }
    }

    fn after_line(&self, line: &[u8], body_max: usize) -> Result<State, u16> {
        match self.state {
            State::Size => match size(line).ok_or(400_u16)? {
                0 => Ok(State::Trailer(0)),
                size if size > (body_max - self.body.len()) as u64 => Err(413),
                size => Ok(State::Data(size)),
            },
            State::DataEnd if line.is_empty() => Ok(State::Size),
            State::Trailer(_) if line.is_empty() => Ok(State::Done),
            State::Trailer(lines) if lines < TRAILER_MAX => Ok(State::Trailer(lines + 1)),
            State::Trailer(_) => Err(431),
            _ => Err(400),
        }
    }
}

/// The first line without its CRLF, and its length with it.
fn first_line(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, u16> {
    let window = &bytes[..bytes.len().min(LINE_MAX)];
    match window.iter().position(|&byte| byte == b'\n') {
        Some(end) if end > 0 && bytes[end - 1] == b'\r' => Ok(Some((&bytes[..end - 1], end + 1))),
        Some(_) => Err(400),
        None if window.len() == LINE_MAX => Err(400),
        None => Ok(None),
    }
}

/// The size in hexadecimal before extensions, which are ignored.
fn size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|&byte| byte == b';').next()?.trim_ascii_end();
    if digits.is_empty() || digits.len() > 15 {
        return None;
    }
    digits.iter().try_fold(0_u64, |size, &digit| {
        let digit = (digit as char).to_digit(16)?;
        Some(size * 16 + u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(encoded: &[u8], body_max: usize) -> Result<Option<(Vec<u8>, usize)>, u16> {
        let mut decoder = Decoder::new();
        let complete = decoder.decode(encoded, body_max)?;
        Ok(complete.then(|| (decoder.body.clone(), decoder.position)))
    }

    #[test]
    fn bodies_limits_and_errors() {
        let body = b"4;x=y\r\nWiki\r\n5\r\npedia\r\n0\r\nA: b\r\n\r\nnext";
        assert_eq!(whole(body, 9), Ok(Some((b"Wikipedia".to_vec(), body.len() - 4))));
        assert_eq!(whole(body, 8), Err(413));
        assert_eq!(whole(b"ffffffffffffffff\r\n", 8), Err(400));
        assert_eq!(whole(b"fffffffffffffff\r\n", 8), Err(413));
        assert_eq!(whole(b"-1\r\n", 8), Err(400));
        assert_eq!(whole(b"1\nx\r\n", 8), Err(400));
        assert_eq!(whole(b"1\r\nxy\r\n", 8), Err(400));
        assert_eq!(whole(b"1\r\nx", 8), Ok(None));
        assert_eq!(whole(&[b'0'; LINE_MAX], 8), Err(400));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn decoding_in_steps_is_decoding_at_once(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            cuts in proptest::collection::vec(any::<u16>(), 0..6),
        ) {
            let mut encoded = Vec::new();
            for chunk in &chunks {
                encoded.extend_from_slice(alloc::format!("{:X}\r\n", chunk.len()).as_bytes());
                encoded.extend_from_slice(chunk);
                encoded.extend_from_slice(b"\r\n");
            }
            encoded.extend_from_slice(b"0\r\n\r\n");
            let mut ends: Vec<usize> =
                cuts.iter().map(|cut| usize::from(*cut) % encoded.len()).collect();
            ends.sort_unstable();
            let mut decoder = Decoder::new();
            for end in ends {
                prop_assert_eq!(decoder.decode(&encoded[..end], 4096), Ok(false));
            }
            prop_assert_eq!(decoder.decode(&encoded, 4096), Ok(true));
            prop_assert_eq!(decoder.body(), chunks.concat());
            prop_assert_eq!(decoder.position(), encoded.len());
        }
    }
}
