//! How a server is, as it tells whoever asks.

use crate::bytes::{Reader, Writer};
use crate::histogram::Histogram;
use crate::protocol::DATAGRAM_MAX;
use alloc::vec::Vec;
use core::fmt;

/// How a server is. All but the first three count from its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Ticks per second.
    pub tick_hz: u32,
    /// Clients that play.
    pub clients: u32,
    /// Most clients that can.
    pub clients_max: u32,
    /// Ticks kept.
    pub ticks: u64,
    /// Ticks left out because the ones before came too late.
    pub missed: u64,
    /// Datagrams received.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Datagrams received that were no requests, or had a wrong token or cookie.
    pub bad: u64,
    /// Datagrams received that were too many.
    pub limited: u64,
    /// Clients that came.
    pub joined: u64,
    /// Clients that were not heard of for too long.
    pub timed_out: u64,
    /// How much later than due ticks began.
    pub lateness: Histogram,
}

impl Status {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for value in [self.tick_hz, self.clients, self.clients_max] {
            out.u32(value);
        }
        for value in self.counters() {
            out.u64(value);
        }
        self.lateness.encode(out, DATAGRAM_MAX);
    }

    pub(crate) fn decode(mut reader: Reader<'_>) -> Option<Self> {
        Some(Self {
            tick_hz: reader.u32()?,
            clients: reader.u32()?,
            clients_max: reader.u32()?,
            ticks: reader.u64()?,
            missed: reader.u64()?,
            received: reader.u64()?,
            received_bytes: reader.u64()?,
            sent: reader.u64()?,
            sent_bytes: reader.u64()?,
            bad: reader.u64()?,
            limited: reader.u64()?,
            joined: reader.u64()?,
            timed_out: reader.u64()?,
            lateness: Histogram::decode(reader)?,
        })
    }

    fn counters(&self) -> [u64; 10] {
        [
            self.ticks,
            self.missed,
            self.received,
            self.received_bytes,
            self.sent,
            self.sent_bytes,
            self.bad,
            self.limited,
            self.joined,
            self.timed_out,
        ]
    }
}

/// Lines of `name=value`.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "tick_hz={}", self.tick_hz)?;
        writeln!(f, "clients={}", self.clients)?;
        writeln!(f, "clients_max={}", self.clients_max)?;
        let names = [
            "ticks",
            "missed",
            "received",
            "received_bytes",
            "sent",
            "sent_bytes",
            "bad",
            "limited",
            "joined",
            "timed_out",
        ];
        for (name, value) in names.into_iter().zip(self.counters()) {
            writeln!(f, "{name}={value}")?;
        }
        writeln!(f, "tick_late_us_p50={}", self.lateness.percentile(500))?;
        writeln!(f, "tick_late_us_p99={}", self.lateness.percentile(990))?;
        write!(f, "tick_late_us_max={}", self.lateness.max())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Answer, STATUS_SIZE};
    use alloc::boxed::Box;
    use alloc::string::ToString;

    #[test]
    fn even_the_longest_status_is_no_longer_than_its_request() {
        let mut status = Box::new(Status { tick_hz: 30, sent: 1 << 40, ..Status::default() });
        for octave in 0..63 {
            (8..16).for_each(|part| status.lateness.record((part << octave) / 8));
        }
        let mut datagram = Vec::new();
        Answer::Status { nonce: 9, status: status.clone() }.encode(&mut datagram);
        assert!(datagram.len() <= STATUS_SIZE, "{}", datagram.len());
        assert_eq!(Answer::decode(&datagram), Some(Answer::Status { nonce: 9, status }));
    }

    #[test]
    fn it_is_printed_as_lines() {
        let mut status = Status { clients: 2, bad: 7, ..Status::default() };
        status.lateness.record(40);
        let text = status.to_string();
        assert!(text.contains("\nclients=2\n") && text.contains("\nbad=7\n"), "{text}");
        assert!(text.ends_with("tick_late_us_p50=40\ntick_late_us_p99=40\ntick_late_us_max=40"));
    }
}
