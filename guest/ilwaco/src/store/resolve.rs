//! From a path to what it stands for: symbolic links are followed here, with limits.

use super::{Device, Error, Kind, Metadata, Shared, Store, view};
use alloc::vec::Vec;

/// Most symbolic links in one path.
const LINKS_MAX: usize = 40;
/// Most names in one path, those that links bring included.
const NAMES_MAX: usize = 256;
/// Most bytes of a path, and of what a link says.
const PATH_MAX: usize = 4096;
/// Most bytes of a name.
const NAME_MAX: usize = 255;
/// Most bytes of a folder's own data: names are looked for one after the other.
const FOLDER_MAX: u64 = 3 << 20;

/// Something that a path stands for.
pub(super) struct Found {
    /// Its path without links, each name after a `/`; empty for the root.
    real: Vec<u8>,
    pub(super) metadata: Metadata,
}

impl Found {
    /// Its path without symbolic links.
    pub(super) fn path(&self) -> &[u8] {
        if self.real.is_empty() { b"/" } else { &self.real }
    }
}

impl<D: Device> Store<D> {
    /// What `path` stands for.
    pub(super) async fn resolve(&self, path: &[u8]) -> Result<Found, Error> {
        let mut found = self.look(Vec::new()).await?;
        let root = found.metadata;
        // The names still to be looked up, the next one last.
        let mut names = Vec::new();
        push_names(&mut names, path)?;
        let (mut links, mut steps) = (0, 0);
        while let Some(name) = names.pop() {
            steps += 1;
            if found.metadata.kind != Kind::Folder {
                return Err(Error::NotFound);
            }
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    let above = found.real.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                    found.real.truncate(above);
                    found = self.look(found.real).await?;
                    continue;
                }
                _ => {}
            }
            if steps > NAMES_MAX || found.real.len() + name.len() >= PATH_MAX {
                return Err(Error::TooLarge);
            }
            let mut path = found.real.clone();
            path.push(b'/');
            path.extend_from_slice(&name);
            let next = self.look(path).await?;
            if next.metadata.kind != Kind::Link {
                found = next;
                continue;
            }
            links += 1;
            if links > LINKS_MAX {
                return Err(Error::TooLarge);
            }
            let target = self.follow(&next).await?;
            if target.starts_with(b"/") {
                found = Found { real: Vec::new(), metadata: root };
            }
            push_names(&mut names, &target)?;
        }
        Ok(found)
    }

    /// What this path, which goes over no links, itself stands for.
    async fn look(&self, real: Vec<u8>) -> Result<Found, Error> {
        let Shared { view, cache, device, .. } = &*self.shared;
        let mut found =
            Found { real, metadata: Metadata { kind: Kind::Other, bytes: 0, modified: 0 } };
        found.metadata =
            view.run(cache, device, |files| view::metadata(files, found.path())).await?;
        if found.metadata.kind == Kind::Folder && found.metadata.bytes > FOLDER_MAX {
            return Err(Error::TooLarge);
        }
        Ok(found)
    }

    /// Where a symbolic link leads.
    async fn follow(&self, link: &Found) -> Result<Vec<u8>, Error> {
        if link.metadata.bytes > PATH_MAX as u64 {
            return Err(Error::Corrupt);
        }
        let Shared { view, cache, device, .. } = &*self.shared;
        view.run(cache, device, |files| view::link(files, link.path())).await
    }
}

fn push_names(names: &mut Vec<Vec<u8>>, path: &[u8]) -> Result<(), Error> {
    if path.len() > PATH_MAX || path.contains(&0) {
        return Err(Error::NotFound);
    }
    for name in path.split(|&byte| byte == b'/').rev() {
        if name.len() > NAME_MAX {
            return Err(Error::NotFound);
        }
        // An empty name only says that what is before it must be a folder.
        if !name.is_empty() || names.is_empty() {
            names.push(name.to_vec());
        }
    }
    if names.len() > 2 * NAMES_MAX { Err(Error::TooLarge) } else { Ok(()) }
}
