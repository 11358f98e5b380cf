//! Block devices, checked.

use super::limit::{self, Limit};
use super::names::Names;
use super::{path, socket_path};
use crate::error::FieldError;
use crate::written::{BlockBackendConfig, BlockConfig, FileIo};
use std::path::{Path, PathBuf};

/// A block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Name of the device.
    pub name: String,
    /// Whether the guest can only read.
    pub read_only: bool,
    /// Limits of what it carries.
    pub limit: Limit,
    /// Where the bytes are.
    pub backend: BlockBackend,
}

/// Where the bytes of a block device are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockBackend {
    /// A file or a block device of the host.
    File {
        /// Where it is.
        path: PathBuf,
        /// Whether the host's page cache is passed by.
        direct: bool,
        /// How it is read and written.
        io: FileIo,
    },
    /// The socket of a vhost-user back end.
    VhostUser(PathBuf),
}

pub(super) fn resolve(
    configs: &[BlockConfig],
    folder: &Path,
    names: &mut Names,
) -> Result<Vec<Block>, FieldError> {
    let device = |(index, config): (usize, &BlockConfig)| {
        let field = |name: &str| format!("block[{index}].{name}");
        let backend = backend(&config.backend, folder, &field("backend"))?;
        if matches!(backend, BlockBackend::VhostUser(_)) {
            check_vhost_user(config, index)?;
        }
        Ok(Block {
            name: names.take("block", index, config.name.as_deref())?,
            read_only: config.read_only,
            limit: limit::resolve(config.rate_limit.as_ref(), &field("rate_limit"))?,
            backend,
        })
    };
    configs.iter().enumerate().map(device).collect()
}

/// What the monitor cannot do where another process does the work.
fn check_vhost_user(config: &BlockConfig, index: usize) -> Result<(), FieldError> {
    for (name, present) in
        [("rate_limit", config.rate_limit.is_some()), ("read_only", config.read_only)]
    {
        if present {
            let message = "is for the vhost-user back end to apply; configure it there";
            return Err(FieldError::new(format!("block[{index}].{name}"), message));
        }
    }
    Ok(())
}

fn backend(
    config: &BlockBackendConfig,
    folder: &Path,
    field: &str,
) -> Result<BlockBackend, FieldError> {
    Ok(match config {
        BlockBackendConfig::File(file) => BlockBackend::File {
            path: path(&file.path, folder, &format!("{field}.file.path"))?,
            direct: file.direct,
            io: file.io,
        },
        BlockBackendConfig::VhostUser(text) => {
            BlockBackend::VhostUser(socket_path(text, folder, &format!("{field}.vhost-user"))?)
        }
    })
}
