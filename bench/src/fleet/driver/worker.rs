//! One thread of the load: sends what is due, hears answers, gives up what takes too long.

use super::answer::{Judged, judge};
use super::poll::{Happened, Poll};
use super::slots::{Slots, begin};
use super::tally::{Tally, Trouble};
use super::{Load, Targets};
use crate::random::Random;
use crate::running::unless_ending;
use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

/// Requests that are sent in a row before answers are heard: so that who is late does not stay deaf.
const BURST: usize = 64;

/// How long nothing may happen before it is looked whether this program is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is asked.
const ONCE: &[u8] = b"GET / HTTP/1.1\r\nHost: fleet\r\nConnection: close\r\n\r\n";
const AGAIN: &[u8] = b"GET / HTTP/1.1\r\nHost: fleet\r\n\r\n";

/// One thread's work.
pub(super) struct Worker<'a> {
    targets: &'a Targets,
    load: Load,
    start: Instant,
    random: Random,
    poll: Poll,
    slots: Slots,
    /// Requests that are out, by when they are given up.
    deadlines: VecDeque<(Duration, u64)>,
    out: usize,
    /// When the next request is due; `None`: there are no more.
    next: Option<Duration>,
    buffer: Vec<u8>,
    tally: Tally,
}

impl<'a> Worker<'a> {
    pub(super) fn new(targets: &'a Targets, load: Load, start: Instant) -> Result<Self> {
        Ok(Self {
            targets,
            load,
            start,
            random: Random::new(),
            poll: Poll::new()?,
            slots: Slots::default(),
            deadlines: VecDeque::new(),
            out: 0,
            next: None,
            buffer: vec![0; 64 << 10],
            tally: Tally::new(targets.len(), load.length),
        })
    }

    /// Asks until the time is over and everything is answered or given up.
    pub(super) fn run(mut self) -> Result<Tally> {
        precise_sleep()?;
        let processor = processor_time()?;
        self.next = Some(self.gap());
        loop {
            let now = self.ask_what_is_due();
            self.give_up(now);
            if self.next.is_none() && self.out == 0 {
                break;
            }
            unless_ending();
            let due = self.next.map_or(LOOK_EVERY, |next| next.saturating_sub(now));
            self.hear(due.min(LOOK_EVERY))?;
        }
        self.tally.processor = processor_time()?.saturating_sub(processor);
        self.tally.ran = self.now();
        Ok(self.tally)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn gap(&mut self) -> Duration {
        Duration::from_secs_f64(self.random.gap(self.load.rate).min(3600.0))
    }

    /// Whether what was due then counts.
    fn counts(&self, due: Duration) -> bool {
        due >= self.load.warm
    }

    /// Sends what is due, or some of it if that is much; what time it is then.
    fn ask_what_is_due(&mut self) -> Duration {
        let mut now = self.now();
        for _ in 0..BURST {
            let Some(due) = self.next.filter(|&next| next <= now) else { break };
            match self.targets.next(&mut self.random) {
                Some(target) => self.ask(target, due, now),
                None => {
                    self.next = None;
                    break;
                }
            }
            let next = due + self.gap();
            self.next = Some(next).filter(|&next| self.targets.are_in_turn() || next < self.end());
            now = self.now();
        }
        now
    }

    /// Until when requests come by chance.
    fn end(&self) -> Duration {
        self.load.warm + self.load.length
    }

    /// Sends a request that is due.
    fn ask(&mut self, target: u32, due: Duration, now: Duration) {
        if self.counts(due) {
            self.tally.asked += 1;
            self.tally.lateness.record(now.saturating_sub(due).as_nanos() as u64);
        }
        if self.out >= self.load.in_flight {
            return self.fails(due, Trouble::Crowded);
        }
        match self.slots.reuse(target, due) {
            Some(place) => {
                self.goes_out(place, due);
                self.send(place);
            }
            None => self.connect(target, due),
        }
    }

    fn connect(&mut self, target: u32, due: Duration) {
        if self.out + self.slots.resting() >= self.load.in_flight
            && let Some(place) = self.slots.any_resting()
        {
            self.slots.close(place);
        }
        match begin(&self.targets.all[target as usize]) {
            Ok(stream) => {
                let place = self.slots.open(stream, target, due);
                let number = self.slots.number(place);
                let added =
                    self.slots.get(place).stream.as_ref().map(|it| self.poll.add(it, number));
                match added {
                    Some(Err(error)) => {
                        self.slots.close(place);
                        self.fails(due, Trouble::of(&error));
                    }
                    _ => self.goes_out(place, due),
                }
            }
            Err(error) => self.fails(due, Trouble::of(&error)),
        }
    }

    fn goes_out(&mut self, place: u32, due: Duration) {
        self.out += 1;
        self.tally.most_out = self.tally.most_out.max(self.out);
        self.deadlines.push_back((due + self.load.timeout, self.slots.number(place)));
    }

    fn fails(&mut self, due: Duration, trouble: Trouble) {
        if self.counts(due) {
            self.tally.trouble(trouble);
        }
    }

    /// Requests that are out for too long are given up.
    fn give_up(&mut self, now: Duration) {
        while let Some(&(deadline, number)) = self.deadlines.front() {
            // What is over by now is not what it was put here for: it has another number, or another time.
            let place = self.slots.place(number).filter(|&place| {
                let slot = self.slots.get(place);
                slot.sent.is_some() && slot.due + self.load.timeout == deadline
            });
            match place {
                Some(_) if deadline > now => return,
                Some(place) => self.ends_badly(place, Trouble::Late),
                None => {}
            }
            self.deadlines.pop_front();
        }
    }

    fn hear(&mut self, longest: Duration) -> Result<()> {
        for event in 0..self.poll.wait(longest)? {
            let Happened { number, readable } = self.poll.event(event);
            let Some(place) = self.slots.place(number) else { continue };
            self.send(place);
            if readable && self.slots.place(number).is_some() {
                self.receive(place);
            }
        }
        Ok(())
    }

    /// Sends what has not been sent of a request.
    fn send(&mut self, place: u32) {
        let request = if self.load.keep_alive { AGAIN } else { ONCE };
        let slot = self.slots.get(place);
        let Some((sent, stream)) = slot.sent.zip(slot.stream.as_mut()) else { return };
        if sent == request.len() {
            return;
        }
        match stream.write(&request[sent..]) {
            Ok(count) => slot.sent = Some(sent + count),
            Err(error)
                if [ErrorKind::WouldBlock, ErrorKind::NotConnected].contains(&error.kind()) => {}
            Err(error) => self.breaks(place, Trouble::of(&error)),
        }
    }

    fn receive(&mut self, place: u32) {
        loop {
            let slot = self.slots.get(place);
            let Some(stream) = slot.stream.as_mut() else { return };
            match stream.read(&mut self.buffer) {
                Ok(0) => return self.breaks(place, Trouble::Cut),
                Ok(_) if slot.sent.is_none() => return self.breaks(place, Trouble::Malformed),
                Ok(count) => slot.answer.extend_from_slice(&self.buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return self.breaks(place, Trouble::of(&error)),
            }
            let shows = self.targets.all[slot.target as usize].shows.as_bytes();
            match judge(&slot.answer, shows) {
                Judged::Part => {}
                Judged::Right { keeps } => return self.ends_well(place, keeps),
                Judged::Status => return self.ends_badly(place, Trouble::Status),
                Judged::Page => return self.ends_badly(place, Trouble::Page),
                Judged::Malformed => return self.ends_badly(place, Trouble::Malformed),
            }
        }
    }

    fn ends_well(&mut self, place: u32, keeps: bool) {
        let now = self.now();
        let slot = self.slots.get(place);
        let (target, due) = (slot.target, slot.due);
        if self.counts(due) {
            self.tally.right(target, now.saturating_sub(due));
        }
        let counted = self.load.warm..self.end();
        self.tally.answered_in_time += u64::from(counted.contains(&now));
        self.out -= 1;
        if self.load.keep_alive && keeps {
            self.slots.rest(place);
        } else {
            self.slots.close(place);
        }
    }

    /// A connection is of no use any more. One that was used before may have been ended by the other side, as is its right,
    /// just when it was used again: then the request goes over another one.
    fn breaks(&mut self, place: u32, trouble: Trouble) {
        let slot = self.slots.get(place);
        let (target, due) = (slot.target, slot.due);
        if slot.sent.is_none() {
            return self.slots.close(place);
        }
        if !slot.is_used || !slot.answer.is_empty() {
            return self.ends_badly(place, trouble);
        }
        self.slots.close(place);
        self.out -= 1;
        self.tally.reconnects += 1;
        self.connect(target, due);
    }

    fn ends_badly(&mut self, place: u32, trouble: Trouble) {
        let due = self.slots.get(place).due;
        self.slots.close(place);
        self.out -= 1;
        self.fails(due, trouble);
    }
}

/// Has this thread's sleeps end when they should, and not up to 50 µs later.
fn precise_sleep() -> Result<()> {
    nix::sys::prctl::set_timerslack(1).context("cannot have sleeps end in time")
}

/// Processor time of this thread.
fn processor_time() -> Result<Duration> {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    clock_gettime(clock).map(Duration::from).context("cannot read a clock")
}
