//! A client of guests that answer lines over TCP.

use crate::guest::PATIENCE;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

/// A connection to a guest.
pub struct Lines(BufReader<TcpStream>);

/// What a guest that watches over its memory answers to `check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// How often it was asked, this time included.
    pub count: u64,
    /// The guest's generation.
    pub generation: u64,
    /// The sum of its memory.
    pub sum: String,
}

/// What a guest that says who it is answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its MAC address.
    pub mac: String,
    /// Its IPv4 address.
    pub ipv4: String,
    /// Its generation.
    pub generation: u64,
    /// Random bytes.
    pub random: String,
    /// Its monotonic time in ns.
    pub monotonic_ns: u64,
    /// Its time of day, in ns since 1970-01-01 UTC.
    pub realtime_ns: u64,
}

impl Lines {
    /// Connects.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the port is open");
        for set in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
            set(&stream, Some(PATIENCE)).expect("a socket takes time-outs");
        }
        stream.set_nodelay(true).expect("a socket takes options");
        Self(BufReader::new(stream))
    }

    /// Sends a line.
    #[track_caller]
    pub fn say(&mut self, line: &str) {
        let written = self.0.get_mut().write_all(format!("{line}\n").as_bytes());
        written.expect("the guest takes a line");
    }

    /// The next line that comes; empty at the end of the connection.
    #[track_caller]
    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("the guest answers");
        line.trim_end().to_owned()
    }

    /// Sends a line, and gives the answer.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.hear()
    }

    /// Sends a line to a guest that may be killed meanwhile; the answer, if one comes.
    pub fn try_ask(&mut self, line: &str) -> Option<String> {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).ok()?;
        self.try_hear()
    }

    /// The next line that comes, if one comes before the connection ends or breaks.
    pub fn try_hear(&mut self) -> Option<String> {
        let mut answer = String::new();
        self.0.read_line(&mut answer).ok()?;
        answer.strip_suffix('\n').map(str::to_owned)
    }

    /// Asks for something that answers `ok` and the number.
    #[track_caller]
    pub fn order(&mut self, command: &str, number: u64) {
        assert_eq!(self.ask(&format!("{command} {number}")), format!("ok {number}"));
    }

    /// Has the guest verify its memory.
    #[track_caller]
    pub fn check(&mut self) -> Checked {
        Checked::of(&self.ask("check"))
    }

    /// Asks a guest who it is.
    #[track_caller]
    pub fn identity(&mut self) -> Identity {
        Identity::of(&self.ask("who"))
    }
}

impl Checked {
    /// What an answer says; the guest must have found nothing wrong.
    #[track_caller]
    pub fn of(answer: &str) -> Self {
        let words: Vec<&str> = answer.split(' ').collect();
        let ["ok", count, generation, sum] = words[..] else {
            panic!("memory changed: {answer:?}")
        };
        let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{answer:?}"));
        Self { count: number(count), generation: number(generation), sum: sum.to_owned() }
    }
}

impl Identity {
    #[track_caller]
    fn of(answer: &str) -> Self {
        let text = |name: &str| {
            let mut words = answer.split(' ').filter_map(|word| word.split_once('='));
            let found = words.find(|(found, _)| *found == name);
            found.unwrap_or_else(|| panic!("no {name}: {answer:?}")).1.to_owned()
        };
        let number = |name| text(name).parse().unwrap_or_else(|_| panic!("{answer:?}"));
        Self {
            mac: text("mac"),
            ipv4: text("ipv4"),
            generation: number("generation"),
            random: text("random"),
            monotonic_ns: number("monotonic"),
            realtime_ns: number("realtime"),
        }
    }
}

/// Asks on a connection of its own.
#[track_caller]
pub fn ask(address: SocketAddr, line: &str) -> String {
    Lines::connect(address).ask(line)
}
