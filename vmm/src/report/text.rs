//! The crash report as people read it.

use super::{CrashReport, Location};
use denali_hypervisor::GPR_NAMES;
use std::fmt::{Display, Formatter, Result};

/// Registers on one line.
const REGISTERS_PER_LINE: usize = 4;

impl Display for CrashReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "guest \"{}\" crashed: {}", self.guest, self.cause.text)?;
        writeln!(f, "  at    {}", self.location)?;
        // A recursion fills the backtrace with one caller.
        for run in self.backtrace.chunk_by(PartialEq::eq) {
            writeln!(f, "  from  {}", run[0])?;
            if run.len() > 1 {
                writeln!(f, "        … {} times more", run.len() - 1)?;
            }
        }
        let named: Vec<_> = GPR_NAMES.into_iter().zip(self.registers.gpr).collect();
        for line in named.chunks(REGISTERS_PER_LINE) {
            for (name, value) in line {
                write!(f, "  {name:>3} {value:016x}")?;
            }
            writeln!(f)?;
        }
        let (rip, rflags) = (self.registers.rip, self.registers.rflags);
        writeln!(f, "  rip {rip:016x}  rflags {rflags:x}")?;
        let counters = &self.counters;
        write!(
            f,
            "  image {} on {}, after {}.{:03} s, {} exits, {} interrupts in {} batches",
            self.image,
            self.hypervisor,
            self.uptime_ms / 1_000,
            self.uptime_ms % 1_000,
            counters.exits,
            counters.interrupts_delivered,
            counters.batches
        )
    }
}

impl Display for Location {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.symbol {
            Some(symbol) => write!(f, "{:#010x}  {symbol} + {:#x}", self.address, self.offset),
            None => write!(f, "{:#010x}", self.address),
        }
    }
}
