//! All pages of a guest, wherever they are: for copies.

use super::{Residence, ResidenceError, host};
use denali_disk::Disk;
use denali_hypervisor::GuestRam;
use denali_swap::{PAGE, PageNumber, Store};
use std::collections::BTreeMap;

/// Takes one page of a guest, or says why it cannot.
pub(crate) type Take<'a> = &'a mut dyn FnMut(PageNumber, &[u8; PAGE]) -> Result<(), String>;

/// Pages that are read at once: 1 MiB.
const AT_ONCE: usize = 256;

/// Where a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Original,
    Store,
    Memory,
}

/// Gives `take` the pages of a guest whose memory is in no region, in ascending order, but for those that are
/// all zeroes and never were anything else.
pub(crate) fn each_page(ram: &GuestRam, take: Take<'_>) -> Result<(), String> {
    give(ram, &places(ram, None).map_err(|error| error.to_string())?, None, take)
}

impl Residence {
    /// As [`each_page`], of pages in the region too. The guest does not run meanwhile, and is as before after.
    pub(crate) fn each_page(&mut self, take: Take<'_>) -> Result<(), String> {
        self.settle();
        let ram = self.ram.clone();
        let copied = places(&ram, self.store.as_ref())
            .map_err(|error| error.to_string())
            .and_then(|places| give(&ram, &places, self.store.as_mut(), take));
        self.go_on_or_end();
        copied
    }
}

/// Where each page is that is anything.
fn places(
    ram: &GuestRam,
    store: Option<&Store<Disk>>,
) -> Result<BTreeMap<PageNumber, Place>, ResidenceError> {
    let mut places = BTreeMap::new();
    places.extend(ram.pages_with_originals().map(|page| (PageNumber(page), Place::Original)));
    let resident = ram.resident_pages().map_err(host("find the guest's pages"))?;
    places.extend(resident.into_iter().map(|page| (PageNumber(page), Place::Memory)));
    places.extend(store.into_iter().flat_map(Store::pages).map(|page| (page, Place::Store)));
    Ok(places)
}

fn give(
    ram: &GuestRam,
    places: &BTreeMap<PageNumber, Place>,
    mut store: Option<&mut Store<Disk>>,
    take: Take<'_>,
) -> Result<(), String> {
    let refused = |what| move |error| host(what)(error).to_string();
    let pages: Vec<(PageNumber, Place)> =
        places.iter().map(|(page, place)| (*page, *place)).collect();
    let mut content = Vec::new();
    for run in pages.chunk_by(|one, other| one.1 == other.1) {
        for part in run.chunks(AT_ONCE) {
            if let (Place::Store, Some(store)) = (part[0].1, &mut store) {
                let stored: Vec<PageNumber> = part.iter().map(|(page, _)| *page).collect();
                content.resize(stored.len() * PAGE, 0);
                store.read(&stored, &mut content).map_err(|error| error.to_string())?;
            }
            for (index, &(page, place)) in part.iter().enumerate() {
                match place {
                    Place::Original => {
                        let original =
                            ram.original_of(page.0).map_err(refused("read the image"))?;
                        take(page, original.content())?;
                    }
                    Place::Memory => ram
                        .with_page(page.0, |content| take(page, content))
                        .map_err(refused("read the guest's memory"))??,
                    Place::Store => take(page, &content.as_chunks::<PAGE>().0[index])?,
                }
            }
        }
    }
    Ok(())
}
