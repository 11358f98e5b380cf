//! Opens what block devices are made of.

use super::Place;
use crate::error::LaunchError;
use crate::prepare::Opened;
use crate::spec::BlockSpec;
use denali_config::{Block, BlockBackend};

/// Opens a block device; `place` gives the place of a field of its back end.
pub(super) fn open<'a>(
    block: &Block,
    _opened: &mut Opened,
    place: &dyn Fn(&str) -> Place<'a>,
) -> Result<BlockSpec, LaunchError> {
    match &block.backend {
        BlockBackend::File { .. } => Err(place(".file").unavailable("not built in")),
        BlockBackend::VhostUser(_) => Err(place(".vhost-user").unavailable("not built in")),
    }
}
