//! Watches over memory and registers while the guest is swapped out, parked and copied.

use crate::pages::Pages;
use crate::{Checked, Failed, check, lines, resume, wide};
use alloc::format;
use alloc::string::String;
use core::sync::atomic::Ordering;
use core::time::Duration;
use ilwaco::abi::boot::KIND_NET;
use ilwaco::abi::registers::{PENDING_STOP, PENDING_TIMER};
use ilwaco::clock::Instant;
use ilwaco::registers::{devices, virtual_registers};
use ilwaco::{generation, println};

/// The port on which commands are taken.
const PORT: u16 = 80;
/// From check to check, where nothing else is said.
const PERIOD: Duration = Duration::from_millis(50);
/// Pages that are changed after each.
const CHANGES: u64 = 16;

/// Fills MIB MiB of memory. What then happens, the arguments `MIB [SECONDS]` say: with SECONDS, or without a network
/// card, it idles for so long with all registers in use (50 ms by default), checks registers and all memory, prints
/// `ok COUNT generation GENERATION`, changes some pages, and begins anew, until asked to stop. Without SECONDS it
/// takes commands on TCP port 80, each a line:
///
/// | command | what it does | answer |
/// |---|---|---|
/// | `check` | verifies all memory | `ok COUNT GENERATION HEXSUM` or `bad PAGE` |
/// | `dirty N` | changes N pages at random | `ok N` |
/// | `touch N` | reads and verifies N pages at random | `ok N` or `bad PAGE` |
/// | `hold MS` | idles MS ms, or until something arrives, with all registers in use | `ok MS` or `bad registers` |
pub fn run(arguments: &str) -> Checked {
    let (mib, seconds) = arguments.split_once(' ').unwrap_or((arguments, ""));
    let pages = Pages::fill(crate::number(mib), |_| ())?;
    let period = seconds.trim().parse().ok().map(Duration::from_secs_f64);
    if period.is_none() && devices(KIND_NET).next().is_some() {
        let mut watch = Watch { pages, count: 0 };
        return lines::serve(PORT, move |command| watch.answer(command));
    }
    Watch { pages, count: 0 }.by_time(period.unwrap_or(PERIOD))
}

struct Watch {
    pages: Pages,
    /// How often all memory was found good.
    count: u64,
}

impl Watch {
    fn answer(&mut self, command: &str) -> String {
        let (command, number) = command.split_once(' ').unwrap_or((command, ""));
        let number = crate::number(number);
        let done = match command {
            "check" => match self.pages.check() {
                Ok(sum) => {
                    self.count += 1;
                    return format!("ok {} {} {sum:016x}", self.count, generation());
                }
                Err(page) => Err(page),
            },
            "dirty" => {
                self.dirty(number);
                Ok(())
            }
            "touch" => (0..number).try_for_each(|_| match self.pages.any() {
                page if self.pages.is_good(page) => Ok(()),
                page => Err(page),
            }),
            "hold" => {
                let until = Instant::now() + Duration::from_millis(number);
                if hold(until, number).is_err() {
                    return "bad registers".into();
                }
                Ok(())
            }
            _ => return format!("unknown command \"{command}\""),
        };
        match done {
            Ok(()) => format!("ok {number}"),
            Err(page) => format!("bad {page}"),
        }
    }

    /// Changes pages at random.
    fn dirty(&mut self, count: u64) {
        for _ in 0..count {
            let page = self.pages.any();
            self.pages.change(page);
        }
    }

    fn by_time(&mut self, period: Duration) -> Checked {
        println!("ready");
        let pending = &virtual_registers().pending;
        loop {
            let until = Instant::now() + period;
            loop {
                hold(until, self.count)?;
                let bits = pending.swap(0, Ordering::SeqCst);
                if bits & 1 << PENDING_STOP != 0 {
                    return Ok(());
                }
                if bits & 1 << PENDING_TIMER != 0 {
                    break;
                }
            }
            check(Instant::now() >= until, "the timer came before the deadline")?;
            self.pages.check().map_err(|page| {
                println!("bad {page}");
                Failed("memory changed")
            })?;
            self.count += 1;
            println!("ok {} generation {}", self.count, generation());
            self.dirty(CHANGES);
        }
    }
}

/// Idles with all registers in use: by turns those of AVX-512, where there are any, and the others.
fn hold(until: Instant, seed: u64) -> Checked {
    if seed.is_multiple_of(2) || !wide::is_there() {
        return resume::idling(until, seed);
    }
    virtual_registers().idle_deadline_ns.store(until.as_ns(), Ordering::SeqCst);
    let state = wide::Wide::pattern();
    check(wide::idle(state) == state, "a register of AVX-512 changed")
}
