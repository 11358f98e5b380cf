//! Keepers, and what is asked of guests that run.

use super::FormatArguments;
use super::fleet::SupervisorArguments;
use super::guest::StartArguments;
use clap::Args;
use std::path::PathBuf;

pub(super) const KEEP_EXAMPLES: &str = "\
Examples:
  denali keep web.json                      a guest that is parked while nobody wants it
  denali keep *.json --state /var/lib/denali/keeper
  denali keep --state /var/lib/denali/keeper   go on with the guests that were parked there

A guest is parked after it has idled for its \"swap\": {\"park_after\": …}: it then has no process and no
memory, and the keeper holds its published ports, its taps and its timer. What comes for it wakes it.

Ctrl-C or SIGTERM asks the guests to stop; with --state, they are parked instead and go on the next time.
A second one insists.";

pub(super) const STATUS_EXAMPLES: &str = "\
Examples:
  denali run web.json --set control=web.sock
  denali status web.sock                    a guest that runs by itself
  denali status /run/denali/*.sock --json
  denali status 'web-*'                     guests of the supervisor that have control sockets

What has a / in it, ends in .sock, or is a socket here is the control socket of a guest that runs by itself; anything
else is the name of a guest of the supervisor, as are all names together with --socket.";

pub(super) const SWAP_OUT_EXAMPLES: &str = "\
Examples:
  denali swap-out web.sock                  the guest idles: its memory goes to its swap region now
  denali swap-out web-7                     a guest of the supervisor

The guest comes back when something is for it.";

pub(super) const PARK_EXAMPLES: &str = "\
Examples:
  denali park web.sock --record web.record  write the guest into its swap region, and end its monitor
  denali resume web.json --record web.record

Needs \"swap\" with \"key\" in the guest's configuration. A guest that was started with --from needs its snapshot
no more afterwards. The record says which state is the guest's last: keep
it as safe as the guest, for it is how a region that was put back to an older state is recognized.";

pub(super) const RESUME_EXAMPLES: &str = "\
Examples:
  denali park web.sock --record web.record
  denali resume web.json --record web.record

The configuration is the one that the guest was started with; --set may change how the guest is reached. For
one that was started with --from, it names the image and as much memory as the snapshot has.
A guest goes on once: the record is of no use then. A guest of the supervisor goes on with denali wake.";

pub(super) const SNAPSHOT_EXAMPLES: &str = "\
Examples:
  denali snapshot web.sock web.snapshot     the guest goes on
  denali snapshot web-1 web.snapshot        the same of a guest of the supervisor
  denali run --from web.snapshot --set net.0.backend.user.publish.0=8081:80

A snapshot contains the guest's memory as it is, unencrypted: secrets included. It is made for this user
alone (mode 0600).";

/// Options of `denali keep`.
#[derive(Args, Debug)]
pub(crate) struct KeepArguments {
    /// Configurations of guests, each with a name of its own.
    #[arg(value_name = "VM.JSON", required_unless_present = "state")]
    pub(crate) guests: Vec<PathBuf>,
    /// Remember parked guests in this folder, to go on after the keeper or the host has started anew. Each
    /// guest needs \"swap\" with \"key\".
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Monitors that are started in advance and wait for a guest to wake.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) pool: usize,
    /// Add what each guest writes to its console to a file in this folder, NAME.log; otherwise it is
    /// dropped.
    #[arg(long, value_name = "DIR")]
    pub(crate) logs: Option<PathBuf>,
    /// Let a guest whose monitor is killed while it runs go back to where it was last parked, instead of
    /// ending. What it has done since then, it may do again.
    #[arg(long)]
    pub(crate) go_back: bool,
    #[command(flatten)]
    pub(crate) format: FormatArguments,
}

/// Options of `denali status`.
#[derive(Args, Debug)]
pub(crate) struct StatusArguments {
    /// Control sockets of guests (`"control"` in their configurations), or names of guests of the supervisor.
    #[arg(value_name = "SOCK|NAME", required = true)]
    pub(crate) targets: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) supervisor: SupervisorArguments,
}

/// Options of `denali swap-out`, and of all commands for one guest that has a monitor.
#[derive(Args, Debug)]
pub(crate) struct MonitorArguments {
    /// Control socket of the guest (`"control"` in its configuration), or name of a guest of the supervisor.
    #[arg(value_name = "SOCK|NAME")]
    pub(crate) target: PathBuf,
    #[command(flatten)]
    pub(crate) supervisor: SupervisorArguments,
}

/// Options of `denali park`.
#[derive(Args, Debug)]
pub(crate) struct ParkArguments {
    /// Names of guests of the supervisor, or the control socket of one that runs by itself (`"control"` in its
    /// configuration).
    #[arg(value_name = "NAME|SOCK", required = true)]
    pub(crate) targets: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) supervisor: SupervisorArguments,
    /// Park a guest that runs by itself though it has connections through the user-mode network: they are cut.
    #[arg(long)]
    pub(crate) cut: bool,
    /// Write what `denali resume` needs for a guest that runs by itself to this new file; otherwise it is printed.
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
}

/// Options of `denali resume`.
#[derive(Args, Debug)]
pub(crate) struct ResumeArguments {
    /// The guest's configuration.
    #[arg(value_name = "VM.JSON")]
    pub(crate) target: String,
    /// What `denali park` wrote.
    #[arg(long, value_name = "FILE")]
    pub(crate) record: PathBuf,
    #[command(flatten)]
    pub(crate) start: StartArguments,
}

/// Options of `denali snapshot`.
#[derive(Args, Debug)]
pub(crate) struct SnapshotArguments {
    #[command(flatten)]
    pub(crate) monitor: MonitorArguments,
    /// The snapshot to be made.
    pub(crate) file: PathBuf,
}
