//! What no guest has any more is removed when a keeper begins: images, and regions in the keeper's own folder.

use crate::event::Event;
use crate::keeper::Keeper;
use crate::registry::Record;
use denali_launcher::ImageHash;
use denali_swap::GuestId;
use std::collections::HashSet;
use std::fs::{read_dir, remove_file};
use std::path::Path;

/// Folders in that of the keeper's state.
const IMAGES: &str = "images";

impl Keeper<'_> {
    /// Removes what none of these guests has: all that the registry knows. Only folders that are the keeper's alone are
    /// looked at; regions that a configuration places elsewhere may be somebody else's.
    pub(crate) fn collect(&mut self, records: &[Record]) {
        let Some(state) = self.settings.state else { return };
        // A registry that was taken away is put back by somebody, perhaps, who then looks for all of it.
        if records.is_empty() {
            return;
        }
        let images: HashSet<ImageHash> =
            records.iter().filter_map(|record| record.image.parse().ok()).collect();
        let guests: HashSet<GuestId> = records.iter().map(|record| record.id).collect();
        let image = |name: &str| name.parse().is_ok_and(|hash| !images.contains(&hash));
        let region = |name: &str| guest_of(name).is_some_and(|id| !guests.contains(&id));
        let removed = [
            (remove(&state.join(IMAGES), image), "images"),
            (remove(&state.join(super::start::SWAP), region), "files of regions"),
        ];
        for (count, what) in removed {
            if count > 0 {
                let message = format!("{count} {what} that no guest has any more are removed");
                self.teller.tell(&Event::Notice { name: "", message });
            }
        }
    }
}

/// Removes files in a folder by their names; how many.
fn remove(folder: &Path, is_left: impl Fn(&str) -> bool) -> usize {
    let entries = read_dir(folder).into_iter().flatten().flatten();
    let left = entries.filter(|entry| entry.file_name().to_str().is_some_and(&is_left));
    left.filter(|entry| remove_file(entry.path()).is_ok()).count()
}

/// The guest in whose region a file of this name is.
fn guest_of(name: &str) -> Option<GuestId> {
    let (id, _) = name.strip_prefix("denali-")?.strip_suffix(".swap")?.split_once('.')?;
    id.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nobodys_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (known, other) = (GuestId([1; 16]), GuestId([2; 16]));
        let region = |id: GuestId| format!("denali-{id}.1of2.swap");
        for name in [&region(known), &region(other), "denali-x.1of1.swap", "notes.swap"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let count = remove(folder.path(), |name| guest_of(name).is_some_and(|id| id != known));
        let mut left: Vec<String> = read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut expected = vec![region(known), "denali-x.1of1.swap".into(), "notes.swap".into()];
        expected.sort();
        assert_eq!((count, left), (1, expected));
        assert_eq!(remove(Path::new("/no-such-folder"), |_| true), 0);
    }
}
