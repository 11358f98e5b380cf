//! The guest that a command is for, and changes to its configuration.

use super::FormatArguments;
use clap::{Args, ValueEnum};
use denali_config::{ConfigError, Document};
use std::path::{Path, PathBuf};

/// Options of `denali run`.
#[derive(Args, Debug)]
pub(crate) struct RunArguments {
    /// A configuration (ends in `.json`), an image (a path, or a built-in image's name), or `-` for
    /// a configuration on standard input.
    #[arg(value_name = "VM.JSON|IMAGE", required_unless_present = "from")]
    pub(crate) target: Option<String>,
    /// Continue as a copy of the guest in this snapshot, with its image and memory; without a
    /// configuration, with the snapshot's.
    #[arg(long, value_name = "SNAPSHOT")]
    pub(crate) from: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) start: StartArguments,
}

/// How a guest is started, and what is told of it.
#[derive(Args, Debug)]
pub(crate) struct StartArguments {
    #[command(flatten)]
    pub(crate) changes: ChangeArguments,
    #[command(flatten)]
    pub(crate) format: FormatArguments,
    /// Write a crash report, as JSON, to this file.
    #[arg(long, value_name = "FILE.JSON")]
    pub(crate) report: Option<PathBuf>,
}

/// Options of `denali check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArguments {
    /// A configuration (ends in `.json`), an image (a path, or a built-in image's name), or `-` for
    /// a configuration on standard input.
    #[arg(value_name = "VM.JSON|IMAGE")]
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) changes: ChangeArguments,
    #[command(flatten)]
    pub(crate) format: FormatArguments,
}

/// Changes to a configuration.
#[derive(Args, Debug)]
pub(crate) struct ChangeArguments {
    /// Change a field: a dotted key and a value, which is JSON or else text. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// What runs the guest.
    #[arg(long, value_enum)]
    hypervisor: Option<Hypervisor>,
    /// Memory of the guest, such as 16MiB.
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// A word of the guest's argument string. May be repeated; the words are joined with blanks.
    #[arg(long = "arg", value_name = "WORD", allow_hyphen_values = true)]
    words: Vec<String>,
    /// Let a port of the host lead into the guest: `HOST_IP:HOST_PORT:GUEST_PORT`, or without the
    /// first for 127.0.0.1. May be repeated.
    #[arg(long, value_name = "PORTS")]
    publish: Vec<String>,
}

/// What runs a guest.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Hypervisor {
    /// KVM where it works, else a process.
    Auto,
    /// KVM, or nothing.
    Kvm,
    /// A traced process: runs anywhere, but is no virtual machine boundary.
    Process,
}

impl Hypervisor {
    fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kvm => "kvm",
            Self::Process => "process",
        }
    }
}

/// The configuration that a command line names.
pub(crate) fn read(target: &str) -> Result<Document, ConfigError> {
    match target {
        "-" => Document::read_from(std::io::stdin(), "standard input", PathBuf::new()),
        path if path.ends_with(".json") => Document::read(Path::new(path)),
        image => Ok(Document::of_image(image)),
    }
}

impl ChangeArguments {
    /// Whether they change nothing.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { set, hypervisor, memory, words, publish } = self;
        let lists = [set, words, publish];
        lists.iter().all(|list| list.is_empty()) && hypervisor.is_none() && memory.is_none()
    }

    /// A configuration with the changes that the options ask for.
    pub(crate) fn apply(&self, mut document: Document) -> Result<Document, ConfigError> {
        for assignment in &self.set {
            document.set(assignment)?;
        }
        if let Some(hypervisor) = self.hypervisor {
            document.set_text("hypervisor", hypervisor.name(), "--hypervisor")?;
        }
        if let Some(memory) = &self.memory {
            document.set_text("memory", memory, "--memory")?;
        }
        if !self.words.is_empty() {
            document.set_text("args", &self.words.join(" "), "--arg")?;
        }
        for port in &self.publish {
            document.publish(port)?;
        }
        Ok(document)
    }
}
