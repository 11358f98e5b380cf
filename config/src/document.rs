//! A configuration as JSON, where it came from, and the changes made to it on the command line.

use crate::decode::decode;
use crate::error::{ConfigError, FieldError, quoted};
use crate::resolve::{Guest, resolve};
use crate::written::GuestConfig;
use crate::{json, set};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Most bytes a configuration can have.
const SIZE_MAX: u64 = 1 << 20;

/// A configuration that has been parsed but not yet checked.
#[derive(Clone, Debug)]
pub struct Document {
    /// What messages call the configuration.
    source: String,
    /// What relative paths in it are relative to.
    folder: PathBuf,
    value: Value,
    /// Fields changed by `--set`, with the option as messages call it.
    changes: Vec<(String, String)>,
}

impl Document {
    /// Reads a configuration file; relative paths in it are relative to its folder.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let source = path.display().to_string();
        let file = File::open(path).map_err(|error| unreadable(&source, &error))?;
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Self::read_from(file, &source, folder)
    }

    /// Reads a configuration from an open stream that messages call `source`; relative paths in it
    /// are relative to `folder`.
    pub fn read_from(
        stream: impl Read,
        source: &str,
        folder: PathBuf,
    ) -> Result<Self, ConfigError> {
        let mut text = Vec::new();
        let size = stream
            .take(SIZE_MAX + 1)
            .read_to_end(&mut text)
            .map_err(|error| unreadable(source, &error))?;
        if size as u64 > SIZE_MAX {
            return Err(ConfigError::new(
                source,
                "",
                "is larger than 1 MiB; is it a configuration?",
            ));
        }
        Self::parse(&text, source, folder)
    }

    /// Parses a configuration that messages call `source`; relative paths in it are relative to
    /// `folder`.
    pub fn parse(text: &[u8], source: &str, folder: PathBuf) -> Result<Self, ConfigError> {
        let value = json::parse(text)
            .map_err(|error| ConfigError::new(source, "", format!("not valid JSON: {error}")))?;
        if !value.is_object() {
            return Err(ConfigError::new(source, "", "is not a JSON object ({ … })"));
        }
        Ok(Self { source: source.into(), folder, value, changes: Vec::new() })
    }

    /// A configuration that names an image and nothing else; relative paths are relative to the
    /// current folder.
    #[must_use]
    pub fn of_image(image: &str) -> Self {
        Self {
            source: image.into(),
            folder: PathBuf::new(),
            value: json!({ "image": image }),
            changes: Vec::new(),
        }
    }

    /// Applies `--set dotted.key=value`.
    pub fn set(&mut self, assignment: &str) -> Result<(), ConfigError> {
        let option = format!("--set {}", bare(assignment));
        self.change(assignment, option)
    }

    /// Sets a text field for the command-line option `option`, whatever the text looks like.
    pub fn set_text(&mut self, key: &str, text: &str, option: &str) -> Result<(), ConfigError> {
        self.change(&format!("{key}={}", Value::from(text)), format!("{option} {}", bare(text)))
    }

    /// Sets the size of memory to that of a guest that was saved; messages call `origin` what says so.
    pub fn set_memory(&mut self, bytes: u64, origin: &str) -> Result<(), ConfigError> {
        self.change(&format!("memory={bytes}"), origin.to_owned())
    }

    /// Adds a published port to the first network device, which is made if there is none.
    pub fn publish(&mut self, port: &str) -> Result<(), ConfigError> {
        let pointer = "/net/0/backend/user/publish";
        let count = self.value.pointer(pointer).and_then(Value::as_array).map_or(0, Vec::len);
        self.set_text(&format!("net.0.backend.user.publish.{count}"), port, "--publish")
    }

    fn change(&mut self, assignment: &str, option: String) -> Result<(), ConfigError> {
        match set::apply(&mut self.value, assignment) {
            Ok(path) => {
                self.changes.push((path, option));
                Ok(())
            }
            Err(message) => Err(ConfigError::new(&option, "", message)),
        }
    }

    /// What messages call the configuration.
    #[must_use]
    pub fn source_name(&self) -> &str {
        &self.source
    }

    /// What messages call the place where a field was written: the configuration, or the last
    /// command-line option that set it.
    #[must_use]
    pub fn origin(&self, field: &str) -> &str {
        let of_field = |path: &str| match field.strip_prefix(path) {
            Some(rest) => rest.is_empty() || rest.starts_with(['.', '[']),
            None => false,
        };
        let change = self.changes.iter().rev().find(|(path, _)| of_field(path));
        change.map_or(&self.source, |(_, option)| option)
    }

    /// The configuration as it is written, its values checked one by one.
    pub fn config(&self) -> Result<GuestConfig, ConfigError> {
        decode(&self.value).map_err(|error| self.located(&error))
    }

    /// Checks everything, and fills in every default.
    pub fn guest(&self) -> Result<Guest, ConfigError> {
        resolve(&self.config()?, &self.folder).map_err(|error| self.located(&error))
    }

    /// The configuration as JSON that means the same wherever it is: with changes made, defaults that
    /// matter written out, and relative paths made absolute. For snapshots, which carry it along.
    pub fn portable(&self) -> Result<String, ConfigError> {
        let mut config = self.config()?;
        config.paths_mut(&mut |path| {
            let absolute = std::path::absolute(self.folder.join(path.as_str()));
            // One that JSON cannot say stays as it was written.
            if let Some(text) = absolute.ok().as_deref().and_then(Path::to_str) {
                text.clone_into(path);
            }
        });
        serde_json::to_string(&config)
            .map_err(|error| ConfigError::new(&self.source, "", error.to_string()))
    }

    /// An error that says why the value of `field`, which is possible by itself, cannot be.
    #[must_use]
    pub fn refuse(&self, field: &str, message: &str) -> ConfigError {
        self.located(&FieldError::new(field, message))
    }

    fn located(&self, error: &FieldError) -> ConfigError {
        ConfigError::new(self.origin(&error.field), &error.field, error.message.as_str())
    }
}

/// `text` as it can stand in a message: quoted only where it has control characters or is long.
fn bare(text: &str) -> String {
    let short = text.len() <= 80 && !text.chars().any(char::is_control);
    if short { text.to_owned() } else { quoted(text) }
}

fn unreadable(source: &str, error: &io::Error) -> ConfigError {
    let message = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file; check the path".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "may not be read by this user; check its permissions".to_owned()
        }
        io::ErrorKind::IsADirectory => "is a folder, not a configuration file".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    ConfigError::new(source, "", message)
}
