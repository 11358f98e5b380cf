//! Answers as bytes.

use super::{Answer, Closing, PARTS_MAX, Refusal, SnapshotPart, Welcome, begin, open};
use crate::bytes::{Reader, Writer};
use crate::status::Status;
use alloc::boxed::Box;
use alloc::vec::Vec;

const CHALLENGE: u8 = 129;
const WELCOME: u8 = 130;
const REFUSED: u8 = 131;
const SNAPSHOT: u8 = 132;
const CLOSED: u8 = 133;
const STATUS: u8 = 134;

impl<'a> Answer<'a> {
    /// What a datagram says; `None` if it is no answer, or not exactly one.
    #[must_use]
    pub fn decode(datagram: &'a [u8]) -> Option<Self> {
        let (kind, mut reader) = open(datagram)?;
        if kind == SNAPSHOT {
            return decode_snapshot(reader).map(Self::Snapshot);
        }
        let nonce = reader.u64()?;
        let answer = match kind {
            CHALLENGE => Self::Challenge { nonce, cookie: reader.u64()? },
            WELCOME => {
                let (token, client, tick_hz) = (reader.u64()?, reader.u8()?, reader.u8()?);
                Self::Welcome { nonce, welcome: Welcome { token, client, tick_hz } }
            }
            REFUSED => {
                let why = match reader.u8()? {
                    1 => Refusal::Full,
                    2 => Refusal::BadCookie,
                    _ => return None,
                };
                Self::Refused { nonce, why }
            }
            CLOSED => {
                let why = match reader.u8()? {
                    1 => Closing::Silent,
                    2 => Closing::Stopping,
                    _ => return None,
                };
                Self::Closed { nonce, why }
            }
            STATUS => {
                let status = Box::new(Status::decode(reader)?);
                return Some(Self::Status { nonce, status });
            }
            _ => return None,
        };
        reader.end()?;
        Some(answer)
    }

    /// Replaces what is in `out` by the datagram.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Challenge { nonce, cookie } => {
                begin(out, CHALLENGE);
                out.u64(*nonce);
                out.u64(*cookie);
            }
            Self::Welcome { nonce, welcome } => {
                begin(out, WELCOME);
                out.u64(*nonce);
                out.u64(welcome.token);
                out.u8(welcome.client);
                out.u8(welcome.tick_hz);
            }
            Self::Refused { nonce, why } => {
                begin(out, REFUSED);
                out.u64(*nonce);
                out.u8(*why as u8);
            }
            Self::Snapshot(part) => encode_snapshot(part, out),
            Self::Closed { nonce, why } => {
                begin(out, CLOSED);
                out.u64(*nonce);
                out.u8(*why as u8);
            }
            Self::Status { nonce, status } => {
                begin(out, STATUS);
                out.u64(*nonce);
                status.encode(out);
            }
        }
    }
}

fn encode_snapshot(part: &SnapshotPart<'_>, out: &mut Vec<u8>) {
    begin(out, SNAPSHOT);
    out.u32(part.nonce);
    out.u32(part.tick);
    out.u8(part.back);
    out.u8(part.part);
    out.u8(part.parts);
    out.u32(part.sequence);
    out.u32(part.digest);
    out.extend_from_slice(part.entries);
}

fn decode_snapshot(mut reader: Reader<'_>) -> Option<SnapshotPart<'_>> {
    let part = SnapshotPart {
        nonce: reader.u32()?,
        tick: reader.u32()?,
        back: reader.u8()?,
        part: reader.u8()?,
        parts: reader.u8()?,
        sequence: reader.u32()?,
        digest: reader.u32()?,
        entries: reader.rest(),
    };
    let sound = part.part < part.parts && part.parts <= PARTS_MAX;
    (sound && u32::from(part.back) <= part.tick).then_some(part)
}
