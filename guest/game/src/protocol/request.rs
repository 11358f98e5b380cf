//! Requests as bytes.

use super::{
    COMMANDS_MAX, Command, HANDSHAKE_SIZE, Input, Request, STATUS_SIZE, begin, filled, open,
};
use crate::bytes::{Reader, Writer};
use alloc::vec::Vec;

const HELLO: u8 = 1;
const JOIN: u8 = 2;
const INPUT: u8 = 3;
const LEAVE: u8 = 4;
const ASK_STATUS: u8 = 5;

impl Request {
    /// What a datagram asks; `None` if it is no request, or not exactly one.
    #[must_use]
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        let (kind, mut reader) = open(datagram)?;
        let request = match kind {
            HELLO => Self::Hello { nonce: reader.u64()? },
            JOIN => Self::Join { nonce: reader.u64()?, cookie: reader.u64()? },
            ASK_STATUS => Self::Status { nonce: reader.u64()? },
            LEAVE => Self::Leave { token: reader.u64()? },
            INPUT => return decode_input(reader).map(Self::Input),
            _ => return None,
        };
        match request {
            Self::Leave { .. } => reader.end()?,
            Self::Status { .. } => filled(datagram, reader, STATUS_SIZE)?,
            _ => filled(datagram, reader, HANDSHAKE_SIZE)?,
        }
        Some(request)
    }

    /// Replaces what is in `out` by the datagram.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello { nonce } => {
                begin(out, HELLO);
                out.u64(*nonce);
                out.resize(HANDSHAKE_SIZE, 0);
            }
            Self::Join { nonce, cookie } => {
                begin(out, JOIN);
                out.u64(*nonce);
                out.u64(*cookie);
                out.resize(HANDSHAKE_SIZE, 0);
            }
            Self::Status { nonce } => {
                begin(out, ASK_STATUS);
                out.u64(*nonce);
                out.resize(STATUS_SIZE, 0);
            }
            Self::Leave { token } => {
                begin(out, LEAVE);
                out.u64(*token);
            }
            Self::Input(input) => encode_input(input, out),
        }
    }
}

fn encode_input(input: &Input, out: &mut Vec<u8>) {
    begin(out, INPUT);
    out.u64(input.token);
    out.u32(input.has.map_or(0, |tick| tick.saturating_add(1)));
    out.u32(input.sequence);
    for command in &input.commands {
        out.i8(command.east);
        out.i8(command.south);
        out.u8(command.facing);
        out.u8(command.fire.into());
    }
}

fn decode_input(mut reader: Reader<'_>) -> Option<Input> {
    let token = reader.u64()?;
    let has = reader.u32()?.checked_sub(1);
    let sequence = reader.u32()?;
    let mut commands = Vec::with_capacity(COMMANDS_MAX);
    while reader.end().is_none() {
        if commands.len() == COMMANDS_MAX {
            return None;
        }
        let (east, south, facing) = (reader.i8()?, reader.i8()?, reader.u8()?);
        let fire = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        commands.push(Command { east, south, facing, fire });
    }
    let enough = !commands.is_empty() && sequence as usize >= commands.len();
    enough.then_some(Input { token, has, sequence, commands })
}
