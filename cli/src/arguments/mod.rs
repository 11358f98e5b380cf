//! The command line: its commands and options, their help, and the configuration they make.

mod fleet;
mod guest;
mod keep;
mod supervisor;

pub(crate) use fleet::{
    ActArguments, CreateArguments, DrainArguments, EventsArguments, GuestArguments, ListArguments,
    LogsArguments, SupervisorArguments, TopArguments,
};
pub(crate) use guest::{CheckArguments, RunArguments, read};
pub(crate) use keep::{
    KeepArguments, MonitorArguments, ParkArguments, ResumeArguments, SnapshotArguments,
    StatusArguments,
};

pub(crate) use supervisor::SupervisorOptions;

use crate::output::{Failure, Format};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use denali_abi::status;
use fleet::{
    CONSOLE_EXAMPLES, CREATE_EXAMPLES, DRAIN_EXAMPLES, EVENTS_EXAMPLES, INSPECT_EXAMPLES,
    LIST_EXAMPLES, LOGS_EXAMPLES, REMOVE_EXAMPLES, START_EXAMPLES, STOP_EXAMPLES, TOP_EXAMPLES,
    WAKE_EXAMPLES,
};
use keep::{
    KEEP_EXAMPLES, PARK_EXAMPLES, RESUME_EXAMPLES, SNAPSHOT_EXAMPLES, STATUS_EXAMPLES,
    SWAP_OUT_EXAMPLES,
};
use std::path::PathBuf;
use std::process::ExitCode;
use supervisor::SUPERVISOR_EXAMPLES;

const EXIT_STATUSES: &str = "\
Exit statuses:
  of the guest   its own, the low 8 bits of what it ends with
  120            the guest was parked; denali resume continues it
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
  denali keep a.json b.json                 guests that leave memory while nobody wants them
  denali create web web.json --count 100 --start   guests of the supervisor (docs/operating.md)
  denali top                                how they are
  denali doctor                             say what this host lacks
  denali schema > vm.schema.json            for editors that check as you type";

const RUN_EXAMPLES: &str = "\
Examples:
  denali run resources/vms/web.json
  denali run ./app.elf --memory 64MiB --arg verbose --report crash.json
  denali run vm.json --set net.0.backend.user.publish.0=127.0.0.1:8081:80
  generate-config | denali run -
  denali run --from web.snapshot --publish 8081:80

Ctrl-C asks the guest to stop; a second one ends it.";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  denali doctor
  denali doctor --guests 10000 --swap /var/lib/denali/swap
  denali doctor --config host.json          what a supervisor with this configuration needs
  denali doctor --json | jq -r '.[] | select(.fix) | .fix'

What is wrong is followed by what to type. Something severe ends it with status 124: if nothing can run, or be
swapped, as things are, or not as many guests as were asked for.";

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

/// What the program can do. Options of a command are put together only when it is the one that is run: starting a
/// guest does not pay for the others.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    /// Run a guest until it ends; its exit status becomes this program's.
    #[command(after_help = RUN_EXAMPLES, after_long_help = help_end(RUN_EXAMPLES))]
    Run(RunArguments),
    /// Check a configuration and its image, and say what would run.
    Check(CheckArguments),
    /// Run guests that are parked while they idle, and wake them when something is for them.
    #[command(after_help = KEEP_EXAMPLES)]
    Keep(KeepArguments),
    /// Say how guests are.
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArguments),
    /// Have the memory of a guest that idles leave.
    #[command(after_help = SWAP_OUT_EXAMPLES)]
    SwapOut(MonitorArguments),
    /// Write a guest into its swap region and end its monitor.
    #[command(after_help = PARK_EXAMPLES)]
    Park(ParkArguments),
    /// Continue a guest that was parked, until it ends.
    #[command(after_help = RESUME_EXAMPLES, after_long_help = help_end(RESUME_EXAMPLES))]
    Resume(ResumeArguments),
    /// Write a copy of a guest into a file.
    #[command(after_help = SNAPSHOT_EXAMPLES)]
    Snapshot(SnapshotArguments),
    /// Look after all guests of a host, and take what is asked of them.
    #[command(after_help = SUPERVISOR_EXAMPLES)]
    Supervisor(SupervisorOptions),
    /// Have the supervisor make guests.
    #[command(after_help = CREATE_EXAMPLES)]
    Create(CreateArguments),
    /// Have guests of the supervisor run.
    #[command(after_help = START_EXAMPLES)]
    Start(ActArguments),
    /// Have guests of the supervisor end.
    #[command(after_help = STOP_EXAMPLES)]
    Stop(ActArguments),
    /// Have guests of the supervisor come back to memory.
    #[command(after_help = WAKE_EXAMPLES)]
    Wake(ActArguments),
    /// Have the supervisor forget guests.
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove(ActArguments),
    /// List guests of the supervisor.
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArguments),
    /// Show all that is known of a guest of the supervisor.
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect(GuestArguments),
    /// Connect this terminal to the console of a guest of the supervisor.
    #[command(after_help = CONSOLE_EXAMPLES)]
    Console(GuestArguments),
    /// Print what a guest of the supervisor has written to its console.
    #[command(after_help = LOGS_EXAMPLES)]
    Logs(LogsArguments),
    /// Tell what happens to guests of the supervisor.
    #[command(after_help = EVENTS_EXAMPLES)]
    Events(EventsArguments),
    /// Show how the host and the guests of the supervisor are, as it changes.
    #[command(after_help = TOP_EXAMPLES)]
    Top(TopArguments),
    /// Have the supervisor park all guests, and end.
    #[command(after_help = DRAIN_EXAMPLES)]
    Drain(DrainArguments),
    /// Say what this host lacks, and what is not safe about it.
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArguments),
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

/// Options of `denali doctor`.
#[derive(Args, Debug)]
pub(crate) struct DoctorArguments {
    /// Guests that are to run at a time: say what is too little for them.
    #[arg(long, value_name = "N")]
    pub(crate) guests: Option<u64>,
    /// A folder that guests are to be parked in. May be repeated.
    #[arg(long, value_name = "DIR")]
    pub(crate) swap: Vec<PathBuf>,
    /// Configuration of the supervisor: how many guests may run at a time, and where they are parked.
    #[arg(long, value_name = "HOST.JSON")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: FormatArguments,
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

/// How results are written.
#[derive(Args, Debug)]
pub(crate) struct FormatArguments {
    /// Write JSON instead of text.
    #[arg(long)]
    json: bool,
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
            Command::Run(run) => run.start.format.format(),
            Command::Check(check) => check.format.format(),
            Command::Keep(keep) => keep.format.format(),
            Command::Supervisor(options) => options.format.format(),
            Command::Resume(resume) => resume.start.format.format(),
            Command::Doctor(doctor) => doctor.format.format(),
            Command::Images(format) | Command::Version(format) => format.format(),
            Command::Image(ImageCommand::Pack(pack)) => pack.format.format(),
            Command::Schema => Format::Human,
            _ => self.supervisor().map_or(Format::Human, |asked| asked.format.format()),
        }
    }
}

impl Arguments {
    /// Of a command that can ask a supervisor: which one.
    fn supervisor(&self) -> Option<&SupervisorArguments> {
        Some(match &self.command {
            Command::Status(status) => &status.supervisor,
            Command::SwapOut(swap_out) => &swap_out.supervisor,
            Command::Park(park) => &park.supervisor,
            Command::Snapshot(snapshot) => &snapshot.monitor.supervisor,
            Command::Create(create) => &create.supervisor,
            Command::Start(act)
            | Command::Stop(act)
            | Command::Wake(act)
            | Command::Remove(act) => &act.supervisor,
            Command::List(list) => &list.supervisor,
            Command::Inspect(guest) | Command::Console(guest) => &guest.supervisor,
            Command::Logs(logs) => &logs.guest.supervisor,
            Command::Events(events) => &events.supervisor,
            Command::Top(top) => &top.supervisor,
            Command::Drain(drain) => &drain.supervisor,
            _ => return None,
        })
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
        return "there is no command; run, check, keep, status, … (see denali --help)".into();
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
