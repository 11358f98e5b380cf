//! The control connection of a test: states as single bytes, and texts in JSON behind their length.

use alloc::string::String;
use alloc::vec::Vec;
use ilwaco::net::{Error, TcpStream};

/// What one side tells the other: where the test is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub(crate) enum State {
    TestStart = 1,
    TestRunning = 2,
    TestEnd = 4,
    ParamExchange = 9,
    CreateStreams = 10,
    ExchangeResults = 13,
    DisplayResults = 14,
    AccessDenied = -1,
    ServerError = -2,
}

/// Most bytes of a text that is taken.
const TEXT_MAX: usize = 64 * 1024;

/// The client's number for "not implemented".
const UNIMPLEMENTED: u32 = 13;

/// The control connection.
pub(crate) struct Control {
    stream: TcpStream,
}

impl Control {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream }
    }

    pub(crate) async fn say(&mut self, state: State) -> Result<(), Error> {
        self.stream.write_all(&(state as i8).to_be_bytes()).await
    }

    /// The next state that the client says.
    pub(crate) async fn hear(&mut self) -> Result<i8, Error> {
        let mut state = [0];
        read_exact(&mut self.stream, &mut state).await?;
        Ok(i8::from_be_bytes(state))
    }

    /// Tells the client that its test is none that this server does.
    pub(crate) async fn refuse(&mut self) -> Result<(), Error> {
        self.say(State::ServerError).await?;
        self.stream.write_all(&UNIMPLEMENTED.to_be_bytes()).await?;
        self.stream.write_all(&0_u32.to_be_bytes()).await
    }

    /// The next text.
    pub(crate) async fn read_json(&mut self) -> Result<Vec<u8>, Error> {
        let mut length = [0; 4];
        read_exact(&mut self.stream, &mut length).await?;
        let length = u32::from_be_bytes(length) as usize;
        if length > TEXT_MAX {
            return Err(Error::OutOfMemory);
        }
        let mut text = alloc::vec![0; length];
        read_exact(&mut self.stream, &mut text).await?;
        Ok(text)
    }

    pub(crate) async fn write_json(&mut self, text: &String) -> Result<(), Error> {
        self.stream.write_all(&(text.len() as u32).to_be_bytes()).await?;
        self.stream.write_all(text.as_bytes()).await
    }
}

/// Fills `buffer`.
pub(crate) async fn read_exact(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<(), Error> {
    let mut done = 0;
    while done < buffer.len() {
        match stream.read(&mut buffer[done..]).await? {
            0 => return Err(Error::Closed),
            count => done += count,
        }
    }
    Ok(())
}
