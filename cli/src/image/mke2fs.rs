//! `mke2fs`, which makes file systems.

use super::contents::{BLOCK, Contents};
use super::failure;
use super::target::Target;
use crate::output::Failure;
use denali_abi::status;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Features, named one by one, so that a host's own preferences make no difference. No journal: nothing is
/// ever written.
const FEATURES: &str = "none,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,\
                        huge_file,dir_nlink,extra_isize,metadata_csum";
/// Blocks of a group.
const GROUP: u64 = 32768;
const INODE: u64 = 256;
/// Inodes that every file system has, and one for `lost+found`.
const OWN_INODES: u64 = 11;
/// Times that an image which turns out too small is made larger.
const TRIES: u32 = 12;

/// Where the program is.
pub(super) fn find() -> Result<PathBuf, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut places = std::env::split_paths(&path).chain(usual).map(|folder| folder.join("mke2fs"));
    places.find(|program| program.is_file()).ok_or_else(|| {
        let message = "mke2fs, which makes images, is not installed: install e2fsprogs";
        Failure::new(status::HOST_LACKS, message)
    })
}

/// Makes the image, as small as it can easily be; returns its bytes.
pub(super) fn make(
    program: &Path,
    folder: &Path,
    contents: &Contents,
    target: &Target,
) -> Result<u64, Failure> {
    let mut blocks = estimate(contents);
    for _ in 0..TRIES {
        target.begin(blocks * BLOCK)?;
        match run(program, folder, contents, target)? {
            Outcome::Made => return Ok(blocks * BLOCK),
            Outcome::TooSmall => blocks += blocks / 16 + 16,
            Outcome::Failed(why) => {
                return Err(failure(status::HOST_LACKS, program, why));
            }
        }
    }
    Err(failure(status::HOST_LACKS, program, "finds no size that is large enough"))
}

/// Blocks of an image for these contents, of which a few may be missing where files are many.
fn estimate(contents: &Contents) -> u64 {
    let inodes = (contents.inodes + OWN_INODES) * INODE;
    // lost+found has four blocks.
    let inside = contents.blocks + inodes.div_ceil(BLOCK) + 4;
    let groups = inside.div_ceil(GROUP);
    let descriptors = 1 + (groups * 64).div_ceil(BLOCK);
    // Copies of superblock and descriptors are in groups 1 and powers of 3, 5 and 7.
    let copies = 1 + groups.min(2) + 3 * u64::from(groups.checked_ilog2().unwrap_or(0)) / 2;
    (inside + groups * 3 + descriptors * copies + contents.blocks / 512 + 8).max(64)
}

enum Outcome {
    Made,
    TooSmall,
    Failed(String),
}

fn run(
    program: &Path,
    folder: &Path,
    contents: &Contents,
    target: &Target,
) -> Result<Outcome, Failure> {
    let uuid = contents.uuid();
    let now = std::env::var("SOURCE_DATE_EPOCH").unwrap_or_else(|_| contents.modified.to_string());
    let mut command = Command::new(program);
    command.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0"]);
    command.args(["-O", FEATURES, "-U", &uuid]);
    command.arg("-N").arg((contents.inodes + OWN_INODES).to_string());
    command.arg("-E").arg(format!("hash_seed={uuid},root_owner=0:0,lazy_itable_init=0,nodiscard"));
    command.arg("-d").arg(folder).arg(target.path());
    command.env("SOURCE_DATE_EPOCH", &now).env("E2FSPROGS_FAKE_TIME", &now).env("LC_ALL", "C");
    let output = command.stdin(Stdio::null()).output().map_err(super::host(program))?;
    if output.status.success() {
        return Ok(Outcome::Made);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let small = ["Could not allocate", "No free space", "too small", "Not enough space"];
    if small.iter().any(|text| said.contains(text)) {
        return Ok(Outcome::TooSmall);
    }
    let line = said.lines().rev().find(|line| !line.trim().is_empty());
    Ok(Outcome::Failed(line.map_or_else(|| output.status.to_string(), |line| line.trim().into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_grow_with_contents_and_little_slack() {
        let blocks_of = |blocks, inodes| estimate(&Contents::with(blocks, inodes));
        assert!(blocks_of(1, 1) >= 64);
        for blocks in [1_000, 100_000, 10_000_000] {
            let estimated = blocks_of(blocks, 10);
            assert!(estimated > blocks && estimated < blocks + blocks / 100 + 100, "{estimated}");
        }
        assert!(blocks_of(1000, 16_000) >= 2000);
    }
}
