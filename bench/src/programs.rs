//! The programs under test, as this build made them.

use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The programs that are measured, and where they say what goes wrong.
#[derive(Debug)]
pub(crate) struct Programs {
    /// `denali`, the command people use.
    pub(crate) denali: PathBuf,
    /// `denali-vmm`, the monitor.
    pub(crate) monitor: PathBuf,
    /// Has no name, so that nothing is left of it.
    log: File,
}

impl Programs {
    /// Finds the programs; `denali` is built if cargo started the benchmark, so that it is not older.
    pub(crate) fn find() -> Result<Self> {
        let own = std::env::current_exe().context("cannot find out where this program is")?;
        let folder = own.parent().context("this program is in no folder")?;
        if let Some(cargo) = std::env::var_os("CARGO") {
            build(
                Path::new(&cargo),
                folder.parent().context("this program is in no build folder")?,
            )?;
        }
        let denali = folder.join("denali");
        if !denali.is_file() {
            bail!("{} is not there; use cargo run --release -p bench", denali.display());
        }
        let monitor = denali_launcher::find_monitor(Path::new(denali_images::MONITOR_PATH))?;
        let log = tempfile::tempfile().context("cannot make a file for messages")?;
        Ok(Self { denali, monitor, log })
    }

    /// A standard error stream whose text [`Programs::last_message`] quotes.
    pub(crate) fn error_stream(&self) -> Result<Stdio> {
        let file = File::options().append(true).open(self.log_path());
        Ok(file.context("cannot open the file for messages")?.into())
    }

    /// The last line the programs wrote to their standard error.
    pub(crate) fn last_message(&self) -> String {
        self.message().unwrap_or_else(|| "no message".into())
    }

    /// The same, if they wrote any.
    pub(crate) fn message(&self) -> Option<String> {
        let text = fs::read_to_string(self.log_path()).unwrap_or_default();
        text.lines().last().map(str::to_owned)
    }

    fn log_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.log.as_raw_fd()))
    }
}

fn build(cargo: &Path, target_folder: &Path) -> Result<()> {
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--release", "-p", "denali-cli", "--target-dir"]);
    command.arg(target_folder).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let status = command.stdout(Stdio::null()).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the program denali cannot be built");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_message_is_quoted() {
        let log = tempfile::tempfile().unwrap();
        let (denali, monitor) = (PathBuf::new(), PathBuf::new());
        let programs = Programs { denali, monitor, log };
        assert_eq!(programs.last_message(), "no message");
        let mut command = Command::new("sh");
        command.args(["-c", "echo one >&2; echo two >&2"]);
        command.stderr(programs.error_stream().unwrap()).status().unwrap();
        assert_eq!(programs.last_message(), "two");
    }
}
