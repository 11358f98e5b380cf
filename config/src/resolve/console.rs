//! Console devices, checked.

use super::names::Names;
use super::{path, socket_path};
use crate::error::FieldError;
use crate::written::{ConsoleBackendConfig, ConsoleConfig};
use std::path::{Path, PathBuf};

/// A console device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    /// Name of the device.
    pub name: String,
    /// What it is connected to.
    pub backend: ConsoleBackend,
}

/// What a console device is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsoleBackend {
    /// Standard input and output.
    Terminal,
    /// Files: where input comes from, and where output is added.
    File {
        /// Input; `None` is no input.
        input: Option<PathBuf>,
        /// Output; `None` drops it.
        output: Option<PathBuf>,
    },
    /// A Unix stream socket, made at this path.
    Socket(PathBuf),
}

pub(super) fn resolve(
    configs: &[ConsoleConfig],
    folder: &Path,
    names: &mut Names,
) -> Result<Vec<Console>, FieldError> {
    let mut consoles = Vec::with_capacity(configs.len());
    for (index, config) in configs.iter().enumerate() {
        let field = format!("console[{index}].backend");
        let backend = backend(&config.backend, folder, &field)?;
        let terminals = |console: &Console| console.backend == ConsoleBackend::Terminal;
        if backend == ConsoleBackend::Terminal && consoles.iter().any(terminals) {
            let message = "the terminal is taken by an entry before it; choose a file or a socket";
            return Err(FieldError::new(field, message));
        }
        let name = names.take("console", index, config.name.as_deref())?;
        consoles.push(Console { name, backend });
    }
    Ok(consoles)
}

fn backend(
    config: &ConsoleBackendConfig,
    folder: &Path,
    field: &str,
) -> Result<ConsoleBackend, FieldError> {
    let file = |text: &Option<String>, name: &str| {
        let field = format!("{field}.file.{name}");
        text.as_deref().map(|text| path(text, folder, &field)).transpose()
    };
    Ok(match config {
        ConsoleBackendConfig::Terminal => ConsoleBackend::Terminal,
        ConsoleBackendConfig::File(files) => ConsoleBackend::File {
            input: file(&files.input, "input")?,
            output: file(&files.output, "output")?,
        },
        ConsoleBackendConfig::Socket(text) => {
            ConsoleBackend::Socket(socket_path(text, folder, &format!("{field}.socket"))?)
        }
    })
}
