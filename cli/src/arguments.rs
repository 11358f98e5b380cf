//! The command line: its commands and options, their help, and the configuration they make.

use crate::output::{Failure, Format};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use denali_abi::status;
use denali_config::{ConfigError, Document};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXIT_STATUSES: &str = "\
Exit statuses:
  of the guest   its own, the low 8 bits of what it ends with
  121            the guest crashed
  122            the configuration is wrong
  123            the image cannot be used
  124            the host lacks something: /dev/kvm, a free port, a permission
  125            the monitor failed: a defect, please report it
  126            the command line is wrong
  128 + n        ended by signal n";

const EXAMPLES: &str = "\
Examples:
  denali run hello                          run a built-in image
  denali run web --publish 8080:80          then: curl http://127.0.0.1:8080/
  denali run vm.json --set memory=32MiB     change one field of a configuration
  denali check vm.json                      say what would run, without running it
  denali schema > vm.schema.json            for editors that check as you type";

const RUN_EXAMPLES: &str = "\
Examples:
  denali run resources/vms/web.json
  denali run ./app.elf --memory 64MiB --arg verbose --report crash.json
  denali run vm.json --set net.0.backend.user.publish.0=127.0.0.1:8081:80
  generate-config | denali run -

Ctrl-C asks the guest to stop; a second one ends it.";

const PACK_EXAMPLES: &str = "\
Examples:
  denali image pack ./site site.img
  denali run resources/vms/site.json --set block.0.backend.file.path=site.img

An image depends on its folder alone: names, contents, owners, and times, that of the last access
included. SOURCE_DATE_EPOCH, if it is set, is the time of making it, else that of the newest file.";

/// Run untrusted programs in guests of the Denali isolation kernel.
#[derive(Debug, Parser)]
#[command(name = "denali", version, after_help = EXAMPLES, after_long_help = help_end(EXAMPLES))]
#[command(disable_help_subcommand = true)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a guest until it ends; its exit status becomes this program's.
    #[command(after_help = RUN_EXAMPLES, after_long_help = help_end(RUN_EXAMPLES))]
    Run(RunArguments),
    /// Check a configuration and its image, and say what would run.
    Check(CheckArguments),
    /// Print the JSON Schema of configurations.
    Schema,
    /// List the built-in images.
    Images(FormatArguments),
    /// Make an image of files, which a guest reads through a block device.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Print the version of the program and of the guest contract (ABI).
    Version(FormatArguments),
}

/// What is done with images of files.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Pack a folder into an ext4 image.
    #[command(after_help = PACK_EXAMPLES)]
    Pack(PackArguments),
}

/// Options of `denali image pack`.
#[derive(Args, Debug)]
pub(crate) struct PackArguments {
    /// The folder whose contents are packed.
    pub(crate) folder: PathBuf,
    /// The image to be made.
    pub(crate) image: PathBuf,
    /// Replace an image that exists.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) format: FormatArguments,
}

/// The guest, and changes to its configuration.
#[derive(Args, Debug)]
pub(crate) struct GuestArguments {
    /// A configuration (ends in `.json`), an image (a path, or a built-in image's name), or `-` for
    /// a configuration on standard input.
    #[arg(value_name = "VM.JSON|IMAGE")]
    target: String,
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

/// Options of `denali run`.
#[derive(Args, Debug)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub(crate) guest: GuestArguments,
    #[command(flatten)]
    pub(crate) format: FormatArguments,
    /// Write a crash report, as JSON, to this file.
    #[arg(long, value_name = "FILE.JSON")]
    pub(crate) report: Option<PathBuf>,
}

/// Options of `denali check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArguments {
    #[command(flatten)]
    pub(crate) guest: GuestArguments,
    #[command(flatten)]
    pub(crate) format: FormatArguments,
}

/// How results are written.
#[derive(Args, Debug)]
pub(crate) struct FormatArguments {
    /// Write JSON instead of text.
    #[arg(long)]
    json: bool,
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

impl FormatArguments {
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    pub(crate) fn format(&self) -> Format {
        Format::new(self.json)
    }
}

impl Arguments {
    /// How results are written.
    pub(crate) fn format(&self) -> Format {
        match &self.command {
            Command::Run(run) => run.format.format(),
            Command::Check(check) => check.format.format(),
            Command::Images(format) | Command::Version(format) => format.format(),
            Command::Image(ImageCommand::Pack(pack)) => pack.format.format(),
            Command::Schema => Format::Human,
        }
    }
}

impl GuestArguments {
    /// The configuration: what was named, with the changes that the options ask for.
    pub(crate) fn document(&self) -> Result<Document, ConfigError> {
        let mut document = match self.target.as_str() {
            "-" => Document::read_from(std::io::stdin(), "standard input", PathBuf::new())?,
            path if path.ends_with(".json") => Document::read(Path::new(path))?,
            image => Document::of_image(image),
        };
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

fn help_end(examples: &str) -> String {
    format!("{examples}\n\n{EXIT_STATUSES}")
}

/// Answers a command line that names nothing to do: prints the help or version that it asks for, or
/// says in one line what is wrong with it.
pub(crate) fn refuse(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that has gone away has had its help.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        _ => {
            let json = std::env::args_os().any(|argument| argument == "--json");
            Failure::new(status::BAD_ARGUMENTS, one_line(error)).report(Format::new(json))
        }
    }
}

/// What clap says on several lines, as one.
fn one_line(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "there is no command; run, check, schema, images, image or version (see denali --help)"
            .into();
    }
    let text = error.render().to_string();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = text.lines().take_while(|line| !line.starts_with("Usage:"));
    let message: Vec<String> = lines
        .map(|line| words(line.strip_prefix("error: ").unwrap_or(line)))
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"))
        .collect();
    format!("{} (see denali --help)", message.join("; ").replace(":; ", ": "))
}
