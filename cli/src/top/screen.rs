//! The terminal while a picture is on it, and how large it is.

use crate::output::Failure;
use denali_abi::status::HOST_LACKS;
use ratatui::DefaultTerminal;
use ratatui::crossterm::terminal;
use std::io::{self, IsTerminal, stdout};

/// Size of a picture that is on no terminal: width and height.
const SIZE: (u16, u16) = (100, 40);

/// A terminal that is given back as it was when this is dropped, or the program panics.
pub(super) struct Screen {
    pub(super) terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn take() -> Result<Self, Failure> {
        Ok(Self { terminal: ratatui::try_init().map_err(|error| failure(&error))? })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nothing to be done about a terminal that has gone.
        let _ = ratatui::try_restore();
    }
}

/// What a terminal that fails comes to.
pub(super) fn failure(error: &io::Error) -> Failure {
    Failure::new(HOST_LACKS, format!("this terminal cannot be used: {error}; try --once"))
}

/// Width and height of a picture as text: of the terminal, or as `$COLUMNS` and `$LINES` say.
pub(super) fn size() -> (u16, u16) {
    let of_terminal = if stdout().is_terminal() { terminal::size().ok() } else { None };
    let said = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (width, height) =
        of_terminal.unwrap_or((said("COLUMNS").unwrap_or(SIZE.0), said("LINES").unwrap_or(SIZE.1)));
    (width.clamp(1, 1000), height.clamp(1, 1000))
}
