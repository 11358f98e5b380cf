//! Entropy devices, checked.

use super::limit::{self, Limit};
use super::names::Names;
use crate::error::FieldError;
use crate::written::EntropyConfig;

/// A source of random bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entropy {
    /// Name of the device.
    pub name: String,
    /// Limits of what it gives.
    pub limit: Limit,
}

pub(super) fn resolve(
    configs: &[EntropyConfig],
    names: &mut Names,
) -> Result<Vec<Entropy>, FieldError> {
    let device = |(index, config): (usize, &EntropyConfig)| {
        let field = format!("entropy[{index}].rate_limit");
        Ok(Entropy {
            name: names.take("entropy", index, config.name.as_deref())?,
            limit: limit::resolve(config.rate_limit.as_ref(), &field)?,
        })
    };
    configs.iter().enumerate().map(device).collect()
}
