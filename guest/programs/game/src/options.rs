//! The argument string.

use alloc::format;
use alloc::string::String;
use core::ops::RangeInclusive;
use denali_game::CLIENTS_MAX;

/// What this guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Serve,
    Flood,
}

/// The arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) tick_hz: u8,
    pub(crate) port: u16,
    pub(crate) clients: u8,
    pub(crate) mode: Mode,
}

impl Options {
    /// What the argument string says; an error names the argument and what it may be.
    pub(crate) fn parse(arguments: &str) -> Result<Self, String> {
        let mut options = Self { tick_hz: 30, port: 27910, clients: 32, mode: Mode::Serve };
        for argument in arguments.split_whitespace() {
            let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
            match name {
                "tick" => options.tick_hz = number(name, value, 20..=60)? as u8,
                "port" => options.port = number(name, value, 1..=u16::MAX)?,
                "clients" => {
                    options.clients = number(name, value, 1..=u16::from(CLIENTS_MAX))? as u8;
                }
                "mode" => {
                    options.mode = match value {
                        "serve" => Mode::Serve,
                        "flood" => Mode::Flood,
                        _ => return Err(format!("argument {argument}: mode is serve or flood")),
                    }
                }
                _ => {
                    let known = "tick, port, clients and mode";
                    return Err(format!("argument {argument} is unknown; there are {known}"));
                }
            }
        }
        Ok(options)
    }
}

fn number(name: &str, value: &str, range: RangeInclusive<u16>) -> Result<u16, String> {
    let parsed = value.parse().ok().filter(|number| range.contains(number));
    parsed.ok_or_else(|| {
        let (least, most) = range.into_inner();
        format!("argument {name}={value}: expected a number from {least} to {most}")
    })
}
