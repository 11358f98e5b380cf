//! A swap region of a guest: one file in each of the swap folders.

use super::stripe::{self, Stripe};
use denali_config::Swap;
use denali_disk::{Disk, DiskOptions, Method};
use denali_swap::{GuestId, Label, Options, peek, region_size};
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// The files of a region, open and locked: no other monitor can use it while they are.
#[derive(Debug)]
pub struct Region {
    stripes: Vec<Stripe>,
    unit: u64,
}

/// What is wrong with one of the folders of a region, and what to do; one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionError {
    /// The field of the configuration.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl std::error::Error for RegionError {}

impl Region {
    /// Makes the region of guest `id`, with all its space reserved unless the configuration says otherwise; the store in it is still to be made.
    ///
    /// # Errors
    /// When a folder cannot be used or has too little room. Nothing is left of the region then.
    pub fn create(swap: &Swap, id: GuestId, options: &Options) -> Result<Self, RegionError> {
        let count = swap.stripes.len();
        let size = stripe_size(region_size(options), swap.unit, count);
        let mut region = Self { stripes: Vec::with_capacity(count), unit: swap.unit };
        for (index, folder) in swap.stripes.iter().enumerate() {
            match Stripe::create(folder, &name(id, index, count), size, swap.reserve) {
                Ok(stripe) => region.stripes.push(stripe),
                Err(message) => {
                    // The message tells more than one about what is left behind would.
                    let _ = region.remove();
                    return Err(in_stripe(index, message));
                }
            }
        }
        Ok(region)
    }

    /// Opens the region of guest `id`, and reads what it says of itself.
    ///
    /// # Errors
    /// When it is not there, in use, somebody else's, or of another shape than the configuration says.
    pub fn open(swap: &Swap, id: GuestId) -> Result<(Self, Label), RegionError> {
        Self::open_in(&swap.stripes, swap.unit, id)
    }

    /// The same, in these folders, with stripes of `unit` bytes.
    pub(super) fn open_in(
        folders: &[PathBuf],
        unit: u64,
        id: GuestId,
    ) -> Result<(Self, Label), RegionError> {
        let count = folders.len();
        let mut region = Self { stripes: Vec::with_capacity(count), unit };
        for (index, folder) in folders.iter().enumerate() {
            let opened = Stripe::open(folder, &name(id, index, count));
            let stripe = opened.map_err(|message| in_stripe(index, message))?;
            let stripe = stripe.ok_or_else(|| in_stripe(index, missing(folders, id, index)))?;
            region.stripes.push(stripe);
        }
        let label = region.label().map_err(|message| in_stripe(0, message))?;
        region.check(&label, id)?;
        Ok((region, label))
    }

    /// Takes the region's files away; their space is free when nobody has them open any more.
    ///
    /// # Errors
    /// When one cannot be removed; the others are.
    pub fn remove(&self) -> Result<(), RegionError> {
        let mut result = Ok(());
        for (index, stripe) in self.stripes.iter().enumerate() {
            result = result.and(stripe.remove().map_err(|message| in_stripe(index, message)));
        }
        result
    }

    /// Takes away the files of the region of guest `id` in these folders, as far as they are there.
    ///
    /// # Errors
    /// When one cannot be removed; the others are.
    pub(super) fn remove_in(folders: &[PathBuf], id: GuestId) -> Result<(), RegionError> {
        let mut result = Ok(());
        for (index, folder) in folders.iter().enumerate() {
            let removed = stripe::remove(folder, &name(id, index, folders.len()));
            result = result.and(removed.map_err(|message| in_stripe(index, message)));
        }
        result
    }

    /// Whether the host's page cache is passed by in all folders; else the first one where it is not.
    pub(super) fn direct(&self) -> Result<(), usize> {
        self.stripes.iter().position(|stripe| !stripe.direct).map_or(Ok(()), Err)
    }

    /// Descriptors of its files, for a monitor.
    pub(super) fn share(&self) -> Result<Vec<OwnedFd>, RegionError> {
        let share = |(index, stripe): (usize, &Stripe)| {
            stripe.share().map_err(|message| in_stripe(index, message))
        };
        self.stripes.iter().enumerate().map(share).collect()
    }

    fn label(&self) -> Result<Label, String> {
        let files = self.share().map_err(|error| error.message)?;
        let options = DiskOptions {
            direct: self.direct().is_ok(),
            method: Method::Plain,
            stripe_unit: self.unit,
            ..DiskOptions::default()
        };
        let disk = Disk::new(files, &options).map_err(|error| error.to_string())?;
        peek(disk).map_err(|error| format!("{}: {error}", self.stripes[0].path().display()))
    }

    fn check(&self, label: &Label, id: GuestId) -> Result<(), RegionError> {
        if label.guest != id {
            let path = self.stripes[0].path();
            let message = format!("{} belongs to guest {}", path.display(), label.guest);
            return Err(in_stripe(0, message));
        }
        let size = stripe_size(region_size(&label.options), self.unit, self.stripes.len());
        for (index, stripe) in self.stripes.iter().enumerate() {
            if stripe.size != size {
                let message = format!(
                    "{} has {} bytes where {size} are wanted; name the region's folders in their order, and \
                     its unit",
                    stripe.path().display(),
                    stripe.size
                );
                return Err(in_stripe(index, message));
            }
        }
        Ok(())
    }
}

/// Bytes of each of `count` files: whole units.
fn stripe_size(size: u64, unit: u64, count: usize) -> u64 {
    size.div_ceil(unit).div_ceil(count as u64) * unit
}

/// The name of a file says whose it is, and that it is not the whole region.
pub(super) fn name(id: GuestId, index: usize, count: usize) -> String {
    format!("denali-{id}.{}of{count}.swap", index + 1)
}

/// Why a file of a region is not there.
fn missing(folders: &[PathBuf], id: GuestId, index: usize) -> String {
    let folder = &folders[index];
    let there = |count: &usize| folder.join(name(id, index, *count)).exists();
    match (1..=16).find(there) {
        Some(count) => format!(
            "the region of guest {id} is striped over {count} folders, and {} are named; name those, in \
             their order",
            folders.len()
        ),
        None => format!("{} has no region of guest {id}", folder.display()),
    }
}

fn in_stripe(index: usize, message: String) -> RegionError {
    RegionError { field: format!("swap.stripes[{index}]"), message }
}
