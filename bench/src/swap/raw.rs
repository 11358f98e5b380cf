//! Files on the same disks as a guest's region, written and read in the same way by who does nothing else.

use anyhow::{Context, Result, bail};
use denali_devices::block::{BlockBackend, Operation};
use denali_devices::virtio::HostSlice;
use denali_disk::{Access, Disk, DiskOptions, open};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Bytes of one write or read.
const PIECE: usize = 1 << 20;

/// Writes or reads in flight.
const DEPTH: u16 = 8;

/// Memory aligned as direct transfers need it.
#[derive(Clone)]
#[repr(align(4096))]
struct Page([u8; 4096]);

/// One file on each disk, striped, and what is written to them.
pub(super) struct Raw {
    disk: Disk,
    memory: Vec<Page>,
    _files: Vec<Gone>,
}

/// A file that is removed with its owner.
struct Gone(PathBuf);

impl Drop for Gone {
    fn drop(&mut self) {
        // It lies in a folder that is removed too.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Raw {
    /// Makes files for so many MiB in all, and writes them once, so that no space is found later.
    pub(super) fn new(folders: &[&Path], mib: u32) -> Result<Self> {
        let bytes = (mib as usize) << 20;
        let mut memory = vec![Page([0; 4096]); bytes / size_of::<Page>()];
        for (index, page) in memory.iter_mut().enumerate() {
            page.0.fill(index as u8);
        }
        let options = DiskOptions { direct: true, ..DiskOptions::default() };
        let each = bytes.div_ceil(folders.len()).next_multiple_of(options.stripe_unit as usize);
        let (mut files, mut opened) = (Vec::new(), Vec::new());
        for folder in folders {
            let path = folder.join("raw");
            let made = File::create(&path).and_then(|file| file.set_len(each as u64));
            made.with_context(|| format!("cannot make {}", path.display()))?;
            files.push(Gone(path.clone()));
            let access = Access { read_only: false, direct: true };
            opened.push(open(&path, access).with_context(|| format!("{}", path.display()))?);
        }
        let disk = Disk::new(opened, &options).context("cannot use files as a disk")?;
        let mut raw = Self { disk, memory, _files: files };
        raw.write()?;
        Ok(raw)
    }

    /// Writes everything; says how long that took, in seconds.
    pub(super) fn write(&mut self) -> Result<f64> {
        self.transfer(|offset| Operation::Write { offset, durable: false })
    }

    /// Reads everything; says how long that took, in seconds.
    pub(super) fn read(&mut self) -> Result<f64> {
        self.transfer(|offset| Operation::Read { offset })
    }

    fn transfer(&mut self, operation: impl Fn(u64) -> Operation) -> Result<f64> {
        let begun = Instant::now();
        let mut free: Vec<u16> = (0..DEPTH).collect();
        let mut failed = None;
        let disk = &mut self.disk;
        let mut settle = |disk: &mut Disk, free: &mut Vec<u16>| {
            disk.completed(&mut |id, outcome| {
                failed = failed.take().or(outcome.err());
                free.push(id);
            });
        };
        let mut offset = 0;
        for piece in self.memory.chunks_mut(PIECE / size_of::<Page>()) {
            while free.is_empty() {
                disk.wait();
                settle(disk, &mut free);
            }
            let (address, length) = (piece.as_mut_ptr() as usize, size_of_val(piece));
            let id = free.pop().context("nothing is free")?;
            // SAFETY: the memory is this one's own, outlives the operation, which is waited for below, and nobody
            // looks at it meanwhile.
            unsafe { disk.submit(id, operation(offset), &[HostSlice { address, length }]) };
            disk.start();
            offset += length as u64;
        }
        while !disk.drain() {}
        settle(disk, &mut free);
        match failed {
            None => Ok(begun.elapsed().as_secs_f64()),
            Some(error) => bail!("a disk failed: {error:?}"),
        }
    }
}
