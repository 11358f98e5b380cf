//! Names of devices: given or made up, and each only once in a guest.

use crate::error::{FieldError, quoted};
use denali_abi::boot::DEVICE_NAME_MAX;
use std::collections::HashSet;

/// The names taken so far.
#[derive(Default)]
pub(super) struct Names(HashSet<String>);

impl Names {
    /// The name of device `index` of the list `kind`: what the configuration says, or the kind and the
    /// index.
    pub(super) fn take(
        &mut self,
        kind: &str,
        index: usize,
        name: Option<&str>,
    ) -> Result<String, FieldError> {
        let name = match name {
            None => format!("{kind}{index}"),
            Some(name) => plain(name)
                .map_err(|why| FieldError::new(format!("{kind}[{index}].name"), why))?
                .to_owned(),
        };
        if !self.0.insert(name.clone()) {
            let message = format!("{name} is taken by an entry before it");
            return Err(FieldError::new(format!("{kind}[{index}].name"), message));
        }
        Ok(name)
    }
}

fn plain(name: &str) -> Result<&str, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > DEVICE_NAME_MAX || !name.bytes().all(plain) {
        return Err(format!(
            "{} is not a name of 1 to {DEVICE_NAME_MAX} letters, digits, \"-\", \"_\" or \".\"",
            quoted(name)
        ));
    }
    Ok(name)
}
