//! Whether files are in the page cache.

use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Bytes of a page.
const PAGE: usize = 4096;

/// How long it may take until nobody uses the files any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// Has the page cache give up all files in a folder. Nobody has them mapped.
pub(super) fn give_up(folder: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for entry in fs::read_dir(folder).context("cannot read a folder")? {
        let path = entry.context("cannot read a folder")?.path();
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        file.sync_all().context("cannot write a file back")?;
        while give_up_file(&file)? > 0 {
            if Instant::now() > deadline {
                bail!("{} stays in the page cache", path.display());
            }
            sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

/// Says how many pages of the file stay nevertheless.
fn give_up_file(file: &File) -> Result<usize> {
    // SAFETY: the descriptor is open; the call touches no memory of ours.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    let length = file.metadata().context("cannot look at a file")?.len() as usize;
    pages_in_cache(file, length)
}

fn pages_in_cache(file: &File, length: usize) -> Result<usize> {
    if length == 0 {
        return Ok(0);
    }
    let mut pages = vec![0_u8; length.div_ceil(PAGE)];
    // SAFETY: a fresh mapping, which nobody looks into; `mincore` writes one byte for each of its pages, for
    // which there is room; then the mapping is gone.
    let found = unsafe {
        let (access, kind) = (libc::PROT_READ, libc::MAP_SHARED);
        let at = libc::mmap(std::ptr::null_mut(), length, access, kind, file.as_raw_fd(), 0);
        if at == libc::MAP_FAILED {
            bail!("cannot map a file: {}", std::io::Error::last_os_error());
        }
        let found = libc::mincore(at, length, pages.as_mut_ptr());
        libc::munmap(at, length);
        found
    };
    if found != 0 {
        bail!("cannot see what is in the page cache: {}", std::io::Error::last_os_error());
    }
    Ok(pages.iter().filter(|&&page| page & 1 != 0).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_was_read_is_seen() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), [1; 3 * PAGE - 1]).unwrap();
        let mut file = File::open(file.path()).unwrap();
        file.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(pages_in_cache(&file, 3 * PAGE - 1).unwrap(), 3);
    }
}
