//! What a keeper is told beside its guests' configurations.

use std::path::{Path, PathBuf};

/// What a keeper is told beside its guests' configurations.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// Built-in images: names and ELF files.
    pub built_in: &'a [(&'a str, &'a [u8])],
    /// The program `denali-vmm`.
    pub monitor: PathBuf,
    /// Where `denali-broker` was built; one that lies beside the running program is taken first.
    pub broker: &'a Path,
    /// Monitors that wait for a guest to wake.
    pub pool: usize,
    /// Folder in which parked guests are remembered, to go on after the keeper or the host has started anew;
    /// made if it is missing. `None` = they end with the keeper.
    pub state: Option<&'a Path>,
    /// Folder in which what each guest writes to its console is added to a file; made if it is missing. `None` =
    /// it is dropped.
    pub logs: Option<&'a Path>,
    /// Whether a guest whose monitor is killed while it runs goes back to where it was last parked, instead of
    /// ending. What it did since then it may do again.
    pub go_back: bool,
}
