//! Where a guest's memory goes when it leaves: a region on the swap disks, and the key to it.

mod closed;
mod host_key;
mod janitor;
mod region;
mod stripe;
#[cfg(test)]
mod tests;
mod userfault;

pub(crate) use closed::ClosedSpace;
pub use host_key::host_key;
pub use region::{Region, RegionError};

use crate::devices::Place;
use crate::error::{LaunchError, host};
use crate::image::SealedImage;
use crate::opened::Opened;
use crate::spec::{ParkSpec, STATE_MAX, SwapSpec};
use denali_abi::layout::{PAGE_SIZE, RAM_START};
use denali_config::{Document, Guest, MemorySize, Park, Swap};
use denali_swap::{GuestId, Key, KeyError, Options, WrappedKey, hex};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use std::os::fd::{AsFd, OwnedFd};

/// Fewest pages that a region has room for.
const CAPACITY_MIN: u64 = 16;

/// The region of a guest and the key to it, for one monitor to be started with.
///
/// The region is locked while this or the monitor lives.
pub struct SwapSpace {
    region: Region,
    id: GuestId,
    options: Options,
    key: Key,
    wrapped: Option<WrappedKey>,
}

impl SwapSpace {
    /// Makes the region of guest `id`, under a new key. With the key of a host it can be opened again; see
    /// [`host_key`].
    ///
    /// # Errors
    /// When the guest has no `swap`, its limit is more than it can use, or a folder has no room.
    pub fn create(
        document: &Document,
        guest: &Guest,
        image: &SealedImage,
        id: GuestId,
        host: Option<&Key>,
    ) -> Result<Self, LaunchError> {
        let swap = configured(document, guest)?;
        let capacity = capacity(document, guest, swap, image)?;
        let options = Options { capacity, state_max: STATE_MAX, encrypt: swap.encrypt };
        let key = Key::random().map_err(no_key)?;
        let wrapped = host.map(|host| key.wrap(host, id)).transpose().map_err(no_key)?;
        let region =
            Region::create(swap, id, &options).map_err(|error| unavailable(document, &error))?;
        Ok(Self { region, id, options, key, wrapped })
    }

    /// Whether another process has the region of guest `id`: its monitor, or for a moment one that has ended.
    #[must_use]
    pub fn is_in_use(guest: &Guest, id: GuestId) -> bool {
        guest.swap.as_ref().is_some_and(|swap| closed::is_in_use(&swap.stripes, id))
    }

    /// Whether there is a region of guest `id`, or a part of one.
    #[must_use]
    pub fn exists(guest: &Guest, id: GuestId) -> bool {
        guest.swap.as_ref().is_some_and(|swap| closed::exists(&swap.stripes, id))
    }

    /// Takes away the region of guest `id`, as far as it is there.
    ///
    /// # Errors
    /// When a file cannot be removed; the others are.
    pub fn remove_of(guest: &Guest, id: GuestId) -> Result<(), RegionError> {
        guest.swap.as_ref().map_or(Ok(()), |swap| Region::remove_in(&swap.stripes, id))
    }

    /// Opens the region of guest `id`, whose key is in it, under that of the host.
    ///
    /// # Errors
    /// When the guest has no `swap`, the region cannot be used, or its key is not under this host's.
    pub fn open(
        document: &Document,
        guest: &Guest,
        id: GuestId,
        host: Option<&Key>,
    ) -> Result<Self, LaunchError> {
        let swap = configured(document, guest)?;
        let opened = Region::open(swap, id);
        let (region, label) = opened.map_err(|error| unavailable(document, &error))?;
        let place = Place::new(document, "swap.key".into());
        let (Some(wrapped), Some(host)) = (label.wrapped_key, host) else {
            return Err(place.unavailable(match label.wrapped_key {
                None => {
                    "the region was made without a host's key, and its own died with its process"
                }
                Some(_) => "is missing; name the host's key that the region was made with",
            }));
        };
        let key = Key::unwrap(&wrapped, host, id).map_err(|error| match error {
            KeyError::Wrong => place.unavailable(
                "is not the host's key that the region was made with, or the region was changed",
            ),
            KeyError::Host(error) => no_key(error),
        })?;
        Ok(Self { region, id, options: label.options, key, wrapped: Some(wrapped) })
    }

    /// Whose it is.
    #[must_use]
    pub fn id(&self) -> GuestId {
        self.id
    }

    /// Takes the region's files away; a monitor that has them keeps them until it ends.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn remove(&self) -> Result<(), RegionError> {
        self.region.remove()
    }
}

/// What a monitor is told of a guest's swapping; `space` is where it goes, or else a region is made that
/// nobody but the monitor has. `kvm` says what runs the guest.
pub(crate) fn open(
    document: &Document,
    guest: &Guest,
    image: &SealedImage,
    space: Option<&SwapSpace>,
    opened: &mut Opened,
    kvm: bool,
) -> Result<Option<SwapSpec>, LaunchError> {
    let Some(swap) = &guest.swap else { return Ok(None) };
    let userfault = userfault(document, swap, kvm)?;
    let made;
    let used = match space {
        Some(space) => space,
        None => {
            let host = host_key(document, guest)?;
            let id = GuestId::random().map_err(no_key)?;
            made = SwapSpace::create(document, guest, image, id, host.as_ref())?;
            // Nothing is left of it when the monitor ends, however it ends.
            made.remove().map_err(|error| unavailable(document, &error))?;
            &made
        }
    };
    let files = used.region.share().map_err(|error| unavailable(document, &error))?;
    let direct = used.region.direct();
    if let Err(index) = direct {
        let folder = swap.stripes[index].display();
        opened.notice(format!(
            "swap.stripes[{index}]: the file system of {folder} has no O_DIRECT: swapped pages pass through \
             the host's page cache"
        ));
    }
    let park = |Park { after_ns, horizon_ns }: Park| ParkSpec { after_ns, horizon_ns };
    Ok(Some(SwapSpec {
        files: files.into_iter().map(|file| opened.keep(file)).collect(),
        direct: direct.is_ok(),
        unit: swap.unit,
        capacity: used.options.capacity,
        state_max: used.options.state_max,
        guest_id: used.id.to_string(),
        key: opened.keep(through_pipe(&used.key)?),
        wrapped: used.wrapped.map(|key| hex::encode(key.as_bytes())),
        lasting: space.is_some(),
        encrypt: used.options.encrypt,
        prefetch: swap.prefetch,
        after_ns: swap.after_ns,
        park: swap.park.map(park),
        resident_limit: swap.resident_limit.map(|bytes| bytes / PAGE_SIZE),
        userfault: userfault.map(|device| opened.keep(device)),
    }))
}

fn configured<'a>(document: &Document, guest: &'a Guest) -> Result<&'a Swap, LaunchError> {
    guest.swap.as_ref().ok_or_else(|| {
        Place::new(document, "swap".into())
            .unavailable("is missing; say where the guest's memory goes")
    })
}

/// Most pages that may be out: what the configuration says, or all that the guest can write.
fn capacity(
    document: &Document,
    guest: &Guest,
    swap: &Swap,
    image: &SealedImage,
) -> Result<u32, LaunchError> {
    let most = guest.memory_size.saturating_sub(RAM_START + image.read_only_size()?);
    let most = most.max(CAPACITY_MIN * PAGE_SIZE);
    match swap.limit {
        Some(limit) if limit > most => {
            let message = format!(
                "{} is more than the {} that the guest can write; leave it out for all of it",
                MemorySize(limit),
                MemorySize(most)
            );
            Err(document.refuse("swap.limit", &message).into())
        }
        limit => Ok((limit.unwrap_or(most) / PAGE_SIZE) as u32),
    }
}

/// `/dev/userfaultfd`, where it can be had and is of use.
fn userfault(document: &Document, swap: &Swap, kvm: bool) -> Result<Option<OwnedFd>, LaunchError> {
    let lacks = |what: &str| Err(Place::new(document, "resident_limit".into()).unavailable(what));
    match (kvm, swap.resident_limit) {
        (false, Some(_)) => lacks("needs KVM, which does not run this guest; leave it out"),
        (false, None) => Ok(None),
        (true, limit) => match userfault::open() {
            Err(why) if limit.is_some() => lacks(&format!(
                "needs {}: run as root or give this user access ({why})",
                userfault::DEVICE
            )),
            device => Ok(device.ok()),
        },
    }
}

/// A pipe from which the key can be read once.
fn through_pipe(key: &Key) -> Result<OwnedFd, LaunchError> {
    let failed = |error| host("cannot pass on a key", error);
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
    key.write_to(writer.as_fd()).map_err(no_key)?;
    Ok(reader)
}

fn unavailable(document: &Document, error: &RegionError) -> LaunchError {
    Place::new(document, error.field.clone()).unavailable(&error.message)
}

fn no_key(error: impl std::fmt::Display) -> LaunchError {
    LaunchError::Host(format!("swap: cannot make a key: {error}"))
}
