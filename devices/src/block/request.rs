//! One request: read from its chain, checked, and turned into an operation of the back end.

use super::backend::{Geometry, Operation};
use crate::virtio::{Chain, Part, QueueError};
use denali_abi::virtio::{
    BLOCK_HEADER, BLOCK_ID, BLOCK_RANGE, BLOCK_RANGE_UNMAP, BLOCK_REQUEST_DISCARD,
    BLOCK_REQUEST_FLUSH, BLOCK_REQUEST_GET_ID, BLOCK_REQUEST_IN, BLOCK_REQUEST_OUT,
    BLOCK_REQUEST_WRITE_ZEROES, BLOCK_SECTOR, BLOCK_STATUS_IOERR, BLOCK_STATUS_OK,
    BLOCK_STATUS_UNSUPP,
};
use std::ops::Range;
use vm_memory::{Address, GuestAddress, GuestMemory};

/// Most segments of a request: what is left of a full chain for data.
pub(super) const SEGMENTS_MAX: usize = super::QUEUE_SIZE as usize - 2;
/// Most bytes of a segment.
pub(super) const SEGMENT_SIZE_MAX: usize = 4 << 20;
/// Most ranges of a discard or write-zeroes.
pub(super) const RANGES_MAX: usize = 1;
/// Most sectors of such a range: 2 GiB.
pub(super) const RANGE_SECTORS_MAX: u32 = 1 << 22;

/// What the device and the driver are held to.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub(super) geometry: Geometry,
    /// The driver never flushes, so a write is on the disk when it completes.
    pub(super) durable_writes: bool,
    /// The device's name.
    pub(super) id: [u8; BLOCK_ID],
}

/// A request as the device remembers it until it is returned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// Where its status goes; `None` where there is no room for it.
    pub(super) status: Option<GuestAddress>,
    /// Bytes of the writable part, status included.
    pub(super) writable: u32,
    pub(super) kind: Kind,
    /// Bytes read or written.
    pub(super) bytes: u64,
}

/// What counters tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Flush,
    Discard,
    WriteZeroes,
    Other,
}

/// What is to be done about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Submit this, with the given bytes of a part of the chain.
    Submit(Operation, Part, Range<usize>),
    /// Answer at once with this status.
    Answer(u8),
}

const IOERR: Verdict = Verdict::Answer(BLOCK_STATUS_IOERR);
const UNSUPP: Verdict = Verdict::Answer(BLOCK_STATUS_UNSUPP);

/// Reads and checks the request in `chain`, each byte once.
pub(super) fn parse<M: GuestMemory>(
    chain: &Chain,
    memory: &M,
    terms: &Terms,
) -> Result<(Request, Verdict), QueueError> {
    let mut request = Request {
        status: status_address(chain),
        writable: chain.total_of(Part::Writable) as u32,
        kind: Kind::Other,
        bytes: 0,
    };
    if request.status.is_none() || chain.total_of(Part::Readable) < BLOCK_HEADER {
        return Ok((request, IOERR));
    }
    let mut header = [0; BLOCK_HEADER];
    chain.read(memory, &mut header)?;
    let kind = number32(&header, 0);
    let sector = u64::from(number32(&header, 8)) | u64::from(number32(&header, 12)) << 32;
    let verdict = match kind {
        BLOCK_REQUEST_IN | BLOCK_REQUEST_OUT => {
            transfer(chain, terms, kind == BLOCK_REQUEST_OUT, sector, &mut request)
        }
        BLOCK_REQUEST_FLUSH => {
            request.kind = Kind::Flush;
            Verdict::Submit(Operation::Flush, Part::Readable, 0..0)
        }
        BLOCK_REQUEST_GET_ID => get_id(chain, memory, &terms.id)?,
        BLOCK_REQUEST_DISCARD | BLOCK_REQUEST_WRITE_ZEROES => {
            let zero = kind == BLOCK_REQUEST_WRITE_ZEROES;
            request.kind = if zero { Kind::WriteZeroes } else { Kind::Discard };
            range(chain, memory, &terms.geometry, zero)?
        }
        _ => UNSUPP,
    };
    Ok((request, verdict))
}

/// The last byte of the writable part.
fn status_address(chain: &Chain) -> Option<GuestAddress> {
    let &(address, length) = chain.segments(Part::Writable).last()?;
    address.checked_add(length as u64 - 1)
}

/// A read or a write.
fn transfer(
    chain: &Chain,
    terms: &Terms,
    write: bool,
    sector: u64,
    request: &mut Request,
) -> Verdict {
    let (part, bytes) = if write {
        (Part::Readable, BLOCK_HEADER..chain.total_of(Part::Readable))
    } else {
        (Part::Writable, 0..chain.total_of(Part::Writable) - 1)
    };
    request.kind = if write { Kind::Write } else { Kind::Read };
    request.bytes = bytes.len() as u64;
    let offset = position(&terms.geometry, sector, bytes.len() as u64);
    let segments = chain.segments(part);
    let sound = segments.len() <= SEGMENTS_MAX + 1
        && segments.iter().all(|&(_, length)| length <= SEGMENT_SIZE_MAX + BLOCK_HEADER);
    match offset {
        Some(_) if write && terms.geometry.read_only => IOERR,
        Some(offset) if sound && !bytes.is_empty() => {
            let durable = terms.durable_writes;
            let operation = if write {
                Operation::Write { offset, durable }
            } else {
                Operation::Read { offset }
            };
            Verdict::Submit(operation, part, bytes)
        }
        _ => IOERR,
    }
}

/// Where `length` bytes from `sector` on are, if they are whole sectors inside the device.
fn position(geometry: &Geometry, sector: u64, length: u64) -> Option<u64> {
    let end = sector.checked_add(length / BLOCK_SECTOR)?;
    let inside = end <= geometry.sectors && length.is_multiple_of(BLOCK_SECTOR);
    // Outside, the product may have no room.
    inside.then(|| sector * BLOCK_SECTOR)
}

fn get_id<M: GuestMemory>(
    chain: &Chain,
    memory: &M,
    id: &[u8; BLOCK_ID],
) -> Result<Verdict, QueueError> {
    if chain.total_of(Part::Writable) <= BLOCK_ID {
        return Ok(IOERR);
    }
    chain.write(memory, 0, id)?;
    Ok(Verdict::Answer(BLOCK_STATUS_OK))
}

/// A discard or write-zeroes (virtio 1.2, section 5.2.6.2).
fn range<M: GuestMemory>(
    chain: &Chain,
    memory: &M,
    geometry: &Geometry,
    zero: bool,
) -> Result<Verdict, QueueError> {
    if chain.total_of(Part::Readable) != BLOCK_HEADER + BLOCK_RANGE * RANGES_MAX {
        return Ok(IOERR);
    }
    let mut bytes = [0; BLOCK_RANGE];
    chain.read_at(memory, BLOCK_HEADER, &mut bytes)?;
    let sector = u64::from(number32(&bytes, 0)) | u64::from(number32(&bytes, 4)) << 32;
    let (sectors, flags) = (number32(&bytes, 8), number32(&bytes, 12));
    let known = if zero { BLOCK_RANGE_UNMAP } else { 0 };
    let offered = if zero { geometry.write_zeroes } else { geometry.discard };
    if geometry.read_only {
        return Ok(IOERR);
    }
    if !offered || flags & !known != 0 {
        return Ok(UNSUPP);
    }
    let length = u64::from(sectors) * BLOCK_SECTOR;
    let unmap = flags & BLOCK_RANGE_UNMAP != 0;
    let verdict = match position(geometry, sector, length) {
        _ if sectors > RANGE_SECTORS_MAX => IOERR,
        Some(_) if sectors == 0 => Verdict::Answer(BLOCK_STATUS_OK),
        Some(offset) => {
            let operation = if zero {
                Operation::WriteZeroes { offset, length, unmap }
            } else {
                Operation::Discard { offset, length }
            };
            Verdict::Submit(operation, Part::Readable, 0..0)
        }
        None => IOERR,
    };
    Ok(verdict)
}

fn number32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
