//! Opens what block devices are made of.

use super::Place;
use super::channels::Channels;
use crate::error::LaunchError;
use crate::opened::Opened;
use crate::spec::{BlockBackendSpec, BlockSpec, IoSpec};
use denali_config::{Block, BlockBackend, FileIo};
use denali_disk::Access;
use denali_vhost_user::{CONNECT_PATIENCE, connect};

/// Opens a block device; `place` gives the place of a field of its back end.
pub(super) fn open<'a>(
    block: &Block,
    channels: &mut Channels,
    opened: &mut Opened,
    place: &dyn Fn(&str) -> Place<'a>,
) -> Result<BlockSpec, LaunchError> {
    let backend = match &block.backend {
        BlockBackend::File { path, direct, io } => {
            let access = Access { read_only: block.read_only, direct: *direct };
            let file = denali_disk::open(path, access).map_err(|error| {
                place(".file.path").unavailable(format!("{}: {error}", path.display()))
            })?;
            BlockBackendSpec::File { file: opened.keep(file), direct: *direct, io: method(*io) }
        }
        BlockBackend::VhostUser(path) => {
            let socket = connect(path, CONNECT_PATIENCE);
            let socket = socket.map_err(|error| place(".vhost-user").unavailable(error))?;
            let broker = opened.keep(channels.next()?);
            BlockBackendSpec::VhostUser { socket: opened.keep(socket), broker }
        }
    };
    Ok(BlockSpec {
        name: block.name.clone(),
        read_only: block.read_only,
        limit: block.limit.into(),
        backend,
    })
}

fn method(io: FileIo) -> IoSpec {
    match io {
        FileIo::Auto => IoSpec::Auto,
        FileIo::IoUring => IoSpec::IoUring,
        FileIo::Sync => IoSpec::Sync,
    }
}
