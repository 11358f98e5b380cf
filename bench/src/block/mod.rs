//! `bench block`: reads of a guest from a disk of its own, beside fio on the same file.

mod file;
mod fio;
mod load;
mod reader;
mod rounds;
mod storage_daemon;
mod text;

use crate::document;
use crate::figures::Figures;
use crate::guest;
use crate::options::BlockOptions;
use crate::programs::Programs;
use anyhow::Result;
use file::TestFile;
use rounds::Rounds;
use storage_daemon::StorageDaemon;

/// Measures, prints, and writes the document.
pub(crate) fn run(options: &BlockOptions) -> Result<()> {
    let programs = Programs::find()?;
    let mut figures = Figures::default();
    figures.declare(&options.common.backends(), text::names());
    if let Some(problem) = fio::problem() {
        figures.skip("block", &problem);
    } else {
        measure(options, &programs, &mut figures)?;
    }
    document::finish(&options.common, &figures, &[("block", text::document(&figures, options))])
}

fn measure(options: &BlockOptions, programs: &Programs, figures: &mut Figures) -> Result<()> {
    let backends = guest::usable(&options.common, programs, figures)?;
    if backends.is_empty() {
        return Ok(());
    }
    let file = TestFile::new(options.mib)?;
    let daemon = match StorageDaemon::start(&file, programs) {
        Ok(daemon) => Some(daemon),
        Err(error) => {
            figures.skip("qemu-storage-daemon", &format!("{error:#}"));
            None
        }
    };
    let rounds = Rounds::measure(&file, daemon.as_ref(), &backends, programs, options)?;
    rounds.fill(figures);
    Ok(())
}
