//! The supervisor's own command line.

use super::FormatArguments;
use clap::Args;
use std::path::PathBuf;

pub(super) const SUPERVISOR_EXAMPLES: &str = "\
Examples:
  denali supervisor                         with what is usual, for this user's guests
  denali supervisor --config resources/host.json
  denali create web resources/vms/fleet-web.json --count 100 --start
  denali top

SIGTERM or Ctrl-C parks all guests, and ends; a second one ends those that are not parked yet. SIGUSR1 ends the
supervisor alone: its guests go on, and the next supervisor of the same state takes them over, as it does after
a crash.";

/// Options of `denali supervisor`.
#[derive(Args, Debug)]
pub(crate) struct SupervisorOptions {
    /// Configuration of the host; by default all is as usual.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where it listens; by default $DENALI_SOCKET, or supervisor.sock in the folder for sockets.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: FormatArguments,
}
