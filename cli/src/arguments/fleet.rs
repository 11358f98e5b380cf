//! Guests that a supervisor looks after: which ones, and what becomes of them.

use super::FormatArguments;
use super::guest::ChangeArguments;
use clap::{Args, ValueEnum, value_parser};
use denali_client::GuestState;
use std::path::PathBuf;

pub(super) const CREATE_EXAMPLES: &str = "\
Examples:
  denali create web-1 web.json --start
  denali create web web.json --count 1000 --start       web-1 to web-1000
  denali snapshot web-1 web.snapshot
  denali create web --from web.snapshot --count 10000 --start
  denali create probe hello --arg verbose               an image, without a configuration
  denali create db db.json --tenant alice --set memory=64MiB

A guest that is not started waits for denali start; with --on-demand, for whoever first connects to it.";

pub(super) const START_EXAMPLES: &str = "\
Examples:
  denali start web-1
  denali start 'web-*' mail";

pub(super) const STOP_EXAMPLES: &str = "\
Examples:
  denali stop web-1
  denali stop 'web-*'                       quoted, because shells have patterns too

What was in the guests' memory is gone; denali park keeps it.";

pub(super) const WAKE_EXAMPLES: &str = "\
Examples:
  denali wake web-1
  denali wake 'web-1??'                     web-100 to web-199

Guests that were parked also wake by themselves when something comes for them.";

pub(super) const REMOVE_EXAMPLES: &str = "\
Examples:
  denali remove web-1
  denali remove 'test-*'

The guests are stopped and forgotten, with all that was parked of them.";

pub(super) const LIST_EXAMPLES: &str = "\
Examples:
  denali list
  denali list 'web-*' --state parked
  denali list --tenant alice --state failed --state queued
  denali list --json | jq -r 'select(.wakes > 9) | .name'

With --json there is an object a line.";

pub(super) const INSPECT_EXAMPLES: &str = "\
Examples:
  denali inspect web-1
  denali inspect web-1 --json | jq .configuration";

pub(super) const CONSOLE_EXAMPLES: &str = "\
Examples:
  denali console db-1                       Ctrl-] leaves

The guest needs a console device with a back end \"socket\". Of one that has none, what it writes is shown.";

pub(super) const LOGS_EXAMPLES: &str = "\
Examples:
  denali logs web-1
  denali logs web-1 --tail 20 --follow      Ctrl-C leaves";

pub(super) const EVENTS_EXAMPLES: &str = "\
Examples:
  denali events                             Ctrl-C leaves
  denali events 'web-*' --json | jq 'select(.event == \"woken\") | .micros'

Told is what happens from now on. With --json there is an object a line.";

pub(super) const TOP_EXAMPLES: &str = "\
Examples:
  denali top
  denali top 'web-*'
  denali top --once                         one picture, as text

Keys: s and S choose the column that is sorted by, r turns the order, / a pattern, space pauses, arrows and page keys
move, q leaves.";

pub(super) const DRAIN_EXAMPLES: &str = "\
Examples:
  denali drain                              before the host is restarted

All guests are parked, and the supervisor ends. It goes on with them when it is started again.";

/// Which supervisor is asked, and how its answers are shown.
#[derive(Args, Debug)]
pub(crate) struct SupervisorArguments {
    /// Socket of the supervisor; otherwise $DENALI_SOCKET, or where supervisors of this user listen.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: FormatArguments,
}

/// Options of `denali create`.
#[derive(Args, Debug)]
pub(crate) struct CreateArguments {
    /// Name of the guest; of several, the beginning of their names: `-1`, `-2`, … follow.
    pub(crate) name: String,
    /// A configuration (ends in `.json`), an image (a path, or a built-in image's name), or `-` for
    /// a configuration on standard input.
    #[arg(value_name = "VM.JSON|IMAGE", required_unless_present = "from")]
    pub(crate) target: Option<String>,
    /// How many guests are made.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    pub(crate) count: u32,
    /// Make copies of the guest in this snapshot, with its image and memory; without a configuration,
    /// with the snapshot's.
    #[arg(long, value_name = "SNAPSHOT")]
    pub(crate) from: Option<PathBuf>,
    /// Whose guests they are: quotas are a tenant's.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) tenant: String,
    /// Start them at once.
    #[arg(long)]
    pub(crate) start: bool,
    /// Start each when something first comes for it.
    #[arg(long, conflicts_with = "start")]
    pub(crate) on_demand: bool,
    #[command(flatten)]
    pub(crate) changes: ChangeArguments,
    #[command(flatten)]
    pub(crate) supervisor: SupervisorArguments,
}

/// Options of commands that have guests do something.
#[derive(Args, Debug)]
pub(crate) struct ActArguments {
    /// Names of guests, in which `*` stands for any characters and `?` for one.
    #[arg(value_name = "NAME", required = true)]
    pub(crate) guests: Vec<String>,
    #[command(flatten)]
    pub(crate) supervisor: SupervisorArguments,
}

/// Options of `denali list`.
#[derive(Args, Debug)]
pub(crate) struct ListArguments {
    /// Names of guests, in which `*` stands for any characters and `?` for one; all guests without any.
    #[arg(value_name = "NAME")]
    pub(crate) guests: Vec<String>,
    /// Only guests that do this. May be repeated.
    #[arg(long, value_enum, value_name = "STATE")]
    pub(crate) state: Vec<StateArgument>,
    /// Only guests of this tenant.
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<String>,
    #[command(flatten)]
    pub(crate) supervisor: SupervisorArguments,
}

/// What a guest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StateArgument {
    /// It has not been started, or was stopped.
    Stopped,
    /// It waits until there is room for it.
    Queued,
    /// It starts, or comes back.
    Waking,
    /// It runs, or idles in memory.
    Running,
    /// It is being written to a disk.
    Parking,
    /// It is on a disk, and wakes when something comes for it.
    Parked,
    /// It has ended by itself, or cannot go on.
    Failed,
}

impl From<StateArgument> for GuestState {
    fn from(state: StateArgument) -> Self {
        match state {
            StateArgument::Stopped => Self::Stopped,
            StateArgument::Queued => Self::Queued,
            StateArgument::Waking => Self::Waking,
            StateArgument::Running => Self::Running,
            StateArgument::Parking => Self::Parking,
            StateArgument::Parked => Self::Parked,
            StateArgument::Failed => Self::Failed,
        }
    }
}

/// Options of commands for one guest.
#[derive(Args, Debug)]
pub(crate) struct GuestArguments {
    /// Name of the guest.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) supervisor: SupervisorArguments,
}

/// Options of `denali logs`.
#[derive(Args, Debug)]
pub(crate) struct LogsArguments {
    #[command(flatten)]
    pub(crate) guest: GuestArguments,
    /// Only the last lines.
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub(crate) tail: Option<u64>,
    /// Go on with what the guest writes.
    #[arg(long, short)]
    pub(crate) follow: bool,
}

/// Options of `denali events`.
#[derive(Args, Debug)]
pub(crate) struct EventsArguments {
    /// Names of guests, in which `*` stands for any characters and `?` for one; everything without.
    #[arg(value_name = "NAME")]
    pub(crate) pattern: Option<String>,
    #[command(flatten)]
    pub(crate) supervisor: SupervisorArguments,
}

/// Options of `denali top`.
#[derive(Args, Debug)]
pub(crate) struct TopArguments {
    /// Names of guests, in which `*` stands for any characters and `?` for one; all guests without any.
    #[arg(value_name = "NAME")]
    pub(crate) guests: Vec<String>,
    /// Print one picture as text, and end; the same where standard output is no terminal.
    #[arg(long)]
    pub(crate) once: bool,
    /// Seconds between two pictures.
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = value_parser!(u64).range(1..=3600))]
    pub(crate) every: u64,
    #[command(flatten)]
    pub(crate) supervisor: SupervisorArguments,
}

/// Options of `denali drain`.
#[derive(Args, Debug)]
pub(crate) struct DrainArguments {
    /// Do not wait until it is done.
    #[arg(long)]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) supervisor: SupervisorArguments,
}
