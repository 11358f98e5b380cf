//! Frames on their way to guests: into their sockets at once, or into what waits for them.

use super::sys::{self, BATCH, Batch};
use super::{Server, Timer};
use crate::frame::Reason;
use crate::protocol::PortNumber;
use crate::rate::Limit;
use nix::errno::Errno;

/// Frames of a batch, one behind the other, that go to the same port.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    to: PortNumber,
    frames: [(u8, u16); BATCH],
    count: usize,
}

impl Default for Run {
    fn default() -> Self {
        Self { to: 0, frames: [(0, 0); BATCH], count: 0 }
    }
}

impl Run {
    /// Adds so many bytes of a message, unless the run goes to another port.
    pub fn add(&mut self, to: PortNumber, index: usize, length: usize) -> bool {
        if self.count > 0 && self.to != to || self.count == BATCH {
            return false;
        }
        self.to = to;
        // There are fewer messages than 256, and their bytes fewer than 65,536.
        self.frames[self.count] = (index as u8, length as u16);
        self.count += 1;
        true
    }
}

impl Server {
    /// Delivers frames that go to one port.
    pub(super) fn deliver_run(&mut self, batch: &Batch, run: &Run) {
        let mut messages: [&[u8]; BATCH] = [&[]; BATCH];
        for (message, &(index, length)) in messages.iter_mut().zip(&run.frames[..run.count]) {
            *message = batch.part(usize::from(index), usize::from(length));
        }
        if run.count > 0 {
            self.deliver(run.to, &messages[..run.count], false);
        }
    }

    /// Delivers messages, at most [`BATCH`], to the guest of a port; `published`: they are of a published port's connections.
    pub(super) fn deliver(&mut self, to: PortNumber, messages: &[&[u8]], published: bool) {
        let Some(entry) = self.fabric.ports.get(to) else {
            return self.fabric.count_drops(Reason::Unknown, messages.len() as u64);
        };
        let Some(slot) = entry.guest else {
            for message in messages {
                self.hold(to, message, self.now_ns, published);
            }
            return;
        };
        let sent = if entry.line.is_some() { 0 } else { self.send(to, slot, messages) };
        for message in &messages[sent..] {
            if let Err(reason) = self.fabric.queue(to, message, self.now_ns, published) {
                self.drop_packets(to, reason, 1);
            }
        }
    }

    /// Puts messages into a guest's socket, as many as it takes and its rate allows; how many are done with. What
    /// remains is to be queued: it is seen to that [`Server::flush`] comes.
    fn send(&mut self, to: PortNumber, slot: u32, messages: &[&[u8]]) -> usize {
        let now_ns = self.now_ns;
        let Some(entry) = self.fabric.ports.get_mut(to) else { return messages.len() };
        let Some(guest) = self.guests.get_mut(slot) else { return messages.len() };
        let (rate, mut limit) = (entry.rate, entry.gets);
        let allowed = if rate == 0 {
            messages.len()
        } else {
            let passes = |message: &&&[u8]| {
                let passes = limit.passes(rate, now_ns);
                limit.charge(rate, message.len(), now_ns);
                passes
            };
            messages.iter().take_while(passes).count()
        };
        let mut done = 0;
        let mut passed: u64 = 0;
        let mut refused = 0;
        let mut bytes = 0;
        let mut waits = allowed < messages.len();
        while done < allowed {
            let (sent, error) = sys::send(&guest.socket, &messages[done..allowed]);
            for message in &messages[done..done + sent] {
                entry.gets.charge(rate, message.len(), now_ns);
                bytes += message.len() as u64;
            }
            done += sent;
            passed += sent as u64;
            match error {
                None => {}
                Some(Errno::EAGAIN) => {
                    guest.full = true;
                    waits = false;
                    break;
                }
                Some(Errno::EPIPE | Errno::ECONNRESET) => {
                    // What it has sent before is still to be read.
                    guest.hung_up = true;
                    waits = false;
                    break;
                }
                // Too large for its socket, or the host is out of memory.
                Some(_) => {
                    done += 1;
                    refused += 1;
                }
            }
        }
        let ready_at = waits.then(|| Limit::ready_at(entry.gets));
        self.fabric.counters.received += passed;
        self.fabric.counters.received_bytes += bytes;
        if passed > 0 {
            self.shared.received(to, passed, now_ns);
        }
        self.drop_packets(to, Reason::Refused, refused);
        self.see_to_rest(to, slot, ready_at);
        done
    }

    /// Sees to it that what a guest did not get is offered again: at a time, or when its socket has room, or when it is
    /// known to be gone.
    fn see_to_rest(&mut self, port: PortNumber, slot: u32, ready_at: Option<u64>) {
        let Some(guest) = self.guests.get_mut(slot) else { return };
        if guest.hung_up {
            self.make_ready(slot);
        } else if let Some(at) = ready_at
            && !std::mem::replace(&mut guest.flush_is_due, true)
        {
            self.timers.set(at.max(self.now_ns + 1), Timer::Flush(port));
        }
        self.watch_guest(slot);
    }

    /// The time has come at which a guest may get more.
    pub(super) fn flush_is_due(&mut self, port: PortNumber) {
        let slot = self.fabric.ports.get(port).and_then(|entry| entry.guest);
        if let Some(guest) = slot.and_then(|slot| self.guests.get_mut(slot)) {
            guest.flush_is_due = false;
        }
    }

    /// Gives a guest what waits for it, as far as it takes it, and has its gateway make more.
    pub(super) fn flush(&mut self, port: PortNumber) {
        loop {
            let slot = self.fabric.ports.get(port).and_then(|entry| entry.guest);
            let Some(slot) = slot else { return };
            self.drop_aged(port);
            let Some(entry) = self.fabric.ports.get_mut(port) else { return };
            // The line is put back below; meanwhile its frames are borrowed.
            let Some(line) = entry.line.take() else { break };
            let mut messages: [&[u8]; BATCH] = [&[]; BATCH];
            let mut count = 0;
            for (message, held) in messages.iter_mut().zip(line.iter()) {
                *message = &held.message;
                count += 1;
            }
            let done = self.send(port, slot, &messages[..count]);
            let Some(entry) = self.fabric.ports.get_mut(port) else { return };
            entry.line = Some(line);
            for _ in 0..done {
                self.fabric.waiting.take(&mut entry.line);
            }
            if done < count {
                return;
            }
        }
        if self.fabric.ports.get(port).is_some_and(|entry| entry.published) {
            self.run_gateway(port);
        }
    }

    /// Has a message wait for a guest that is not connected, and the guest be wanted, if it is of a kind that does that.
    pub(super) fn hold(
        &mut self,
        port: PortNumber,
        message: &[u8],
        since_ns: u64,
        published: bool,
    ) {
        let times = (since_ns, self.now_ns);
        let (held, wanted) = self.fabric.hold(port, message, times, published);
        if wanted {
            self.note_wanted(port);
        }
        match held {
            Ok(()) => self.watch_age(port),
            Err(reason) => self.drop_packets(port, reason, 1),
        }
    }

    /// Sees to it that what waits for a port does so no longer than it may.
    fn watch_age(&mut self, port: PortNumber) {
        let Some(entry) = self.fabric.ports.get_mut(port) else { return };
        if let Some(line) = &entry.line
            && !std::mem::replace(&mut entry.age_is_watched, true)
        {
            self.timers.set(self.fabric.waiting.ages_at(line), Timer::Age(port));
        }
    }

    /// Drops what has waited for a port for too long.
    pub(super) fn see_to_age(&mut self, port: PortNumber) {
        let Some(entry) = self.fabric.ports.get_mut(port) else { return };
        entry.age_is_watched = false;
        if entry.guest.is_none() {
            self.drop_aged(port);
            self.watch_age(port);
        }
    }

    fn drop_aged(&mut self, port: PortNumber) {
        let Some(entry) = self.fabric.ports.get_mut(port) else { return };
        let mut dropped = 0;
        while self.fabric.waiting.take_aged(&mut entry.line, self.now_ns).is_some() {
            dropped += 1;
        }
        self.drop_packets(port, Reason::Aged, dropped);
    }
}
