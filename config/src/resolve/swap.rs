//! Swapping, checked.

use super::path;
use crate::error::{FieldError, quoted};
use crate::values::{MemorySize, Span};
use crate::written::{
    BlockBackendConfig, GuestConfig, HypervisorChoice, KeyConfig, NetBackendConfig, SwapConfig,
};
use denali_abi::layout::{PAGE_SIZE, RAM_START};
use std::path::{Path, PathBuf};

/// Where a guest's memory goes while it idles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// Folders over which its region is striped, in order; 1 to 16.
    pub stripes: Vec<PathBuf>,
    /// Bytes that stay together in one of them: a power of two, at least a page.
    pub unit: u64,
    /// Most bytes that may be out at a time: whole pages; `None` = all that the guest can write.
    pub limit: Option<u64>,
    /// After how much idling it is swapped out, in ns; `None` = only when it is told to.
    pub after_ns: Option<u64>,
    /// When a keeper parks it; `None` = only when it is told to.
    pub park: Option<Park>,
    /// Whether the pages that it needed last time are read ahead when it wakes.
    pub prefetch: bool,
    /// Whether what leaves memory is encrypted.
    pub encrypt: bool,
    /// Whether all space of the region is reserved when it is made.
    pub reserve: bool,
    /// Where the host's key is; `None` = the guest's dies with its process.
    pub key: Option<HostKey>,
    /// Most bytes of the guest's that are in memory while it runs: whole pages; `None` = all of them.
    pub resident_limit: Option<u64>,
}

/// When a guest is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Park {
    /// After how much idling, in ns.
    pub after_ns: u64,
    /// Not if its next deadline is nearer than this, in ns.
    pub horizon_ns: u64,
}

/// Where the host's key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostKey {
    /// In a file.
    File(PathBuf),
    /// In a credential that systemd passes.
    Credential(String),
}

const STRIPES_MAX: usize = 16;
const UNIT_MAX: MemorySize = MemorySize(16 << 20);
const LIMIT_MIN: MemorySize = MemorySize(64 << 10);
const RESIDENT_MIN: MemorySize = MemorySize(256 << 10);
const TIME_MAX: Span = Span(86_400_000_000_000);
const CREDENTIAL_MAX: usize = 255;

/// Checks the swapping of a guest with `memory` bytes of memory.
pub(super) fn resolve(
    config: &GuestConfig,
    memory: u64,
    folder: &Path,
) -> Result<Option<Swap>, FieldError> {
    check_sharing(config)?;
    let Some(swap) = &config.swap else {
        return match config.resident_limit {
            None => Ok(None),
            Some(_) => Err(FieldError::new(
                "resident_limit",
                "needs \"swap\": pages that leave memory have to go somewhere; add e.g. \"swap\": \
                 {\"stripes\": [\"/var/lib/denali/swap\"]}",
            )),
        };
    };
    Ok(Some(Swap {
        stripes: stripes(&swap.stripes, folder)?,
        unit: unit(swap.unit)?,
        limit: swap.limit.map(|size| limit(size, memory)).transpose()?,
        after_ns: time("swap.after", swap.after)?,
        park: park(swap)?,
        prefetch: swap.prefetch,
        encrypt: swap.encrypt,
        reserve: swap.reserve,
        key: swap.key.as_ref().map(|key| host_key(key, folder)).transpose()?,
        resident_limit: resident_limit(config, memory)?,
    }))
}

/// Memory that a vhost-user back end maps cannot be taken away from it.
fn check_sharing(config: &GuestConfig) -> Result<(), FieldError> {
    let field = match (&config.resident_limit, &config.swap) {
        (Some(_), _) => "resident_limit",
        (None, Some(_)) => "swap",
        (None, None) => return Ok(()),
    };
    let net =
        config.net.iter().position(|net| matches!(net.backend, NetBackendConfig::VhostUser(_)));
    let block = config
        .block
        .iter()
        .position(|block| matches!(block.backend, BlockBackendConfig::VhostUser(_)));
    let shared = net.map(|index| ("net", index)).or(block.map(|index| ("block", index)));
    let Some((kind, index)) = shared else { return Ok(()) };
    let message = format!(
        "does not go with {kind}[{index}].backend.vhost-user: memory that another process shares \
         cannot be swapped; leave one of them out"
    );
    Err(FieldError::new(field, message))
}

fn stripes(texts: &[String], folder: &Path) -> Result<Vec<PathBuf>, FieldError> {
    if texts.is_empty() || texts.len() > STRIPES_MAX {
        let message = format!("names {} folders; name 1 to {STRIPES_MAX}", texts.len());
        return Err(FieldError::new("swap.stripes", message));
    }
    let mut stripes = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let field = format!("swap.stripes[{index}]");
        let stripe = path(text, folder, &field)?;
        if stripes.contains(&stripe) {
            let message = "is named by an entry before it; name each folder once";
            return Err(FieldError::new(field, message));
        }
        stripes.push(stripe);
    }
    Ok(stripes)
}

fn unit(unit: MemorySize) -> Result<u64, FieldError> {
    if !unit.0.is_power_of_two() || unit.0 < PAGE_SIZE || unit.0 > UNIT_MAX.0 {
        let message = format!("{unit} is not a power of two from 4KiB to {UNIT_MAX}");
        return Err(FieldError::new("swap.unit", message));
    }
    Ok(unit.0)
}

fn limit(size: MemorySize, memory: u64) -> Result<u64, FieldError> {
    let most = MemorySize(memory - RAM_START);
    let wrong = |why: String| Err(FieldError::new("swap.limit", format!("{size} {why}")));
    match size.0 {
        bytes if bytes < LIMIT_MIN.0 => wrong(format!("is less than {LIMIT_MIN}")),
        bytes if !bytes.is_multiple_of(PAGE_SIZE) => wrong("is not a multiple of 4KiB".into()),
        bytes if bytes > most.0 => wrong(format!(
            "is more than the {most} that a guest with {} of memory can use; leave it out for all of it",
            MemorySize(memory)
        )),
        bytes => Ok(bytes),
    }
}

fn resident_limit(config: &GuestConfig, memory: u64) -> Result<Option<u64>, FieldError> {
    let Some(size) = config.resident_limit else { return Ok(None) };
    let wrong = |why: String| Err(FieldError::new("resident_limit", why));
    if config.hypervisor == HypervisorChoice::Process {
        return wrong("needs KVM; leave it out, or write \"hypervisor\": \"kvm\"".into());
    }
    match size.0 {
        bytes if bytes < RESIDENT_MIN.0 => wrong(format!("{size} is less than {RESIDENT_MIN}")),
        bytes if !bytes.is_multiple_of(PAGE_SIZE) => {
            wrong(format!("{size} is not a multiple of 4KiB"))
        }
        bytes if bytes >= memory => wrong(format!(
            "{size} is not less than the memory of {}; leave it out to keep all of it",
            MemorySize(memory)
        )),
        bytes => Ok(Some(bytes)),
    }
}

/// A time, or never where it is 0.
fn time(field: &str, span: Span) -> Result<Option<u64>, FieldError> {
    if span > TIME_MAX {
        return Err(FieldError::new(field, format!("{span} is more than {TIME_MAX}")));
    }
    Ok(Some(span.0).filter(|&ns| ns > 0))
}

fn park(swap: &SwapConfig) -> Result<Option<Park>, FieldError> {
    let after = time("swap.park_after", swap.park_after)?;
    let horizon_ns = time("swap.park_horizon", swap.park_horizon)?.unwrap_or(0);
    Ok(after.map(|after_ns| Park { after_ns, horizon_ns }))
}

fn host_key(key: &KeyConfig, folder: &Path) -> Result<HostKey, FieldError> {
    match key {
        KeyConfig::File(text) => Ok(HostKey::File(path(text, folder, "swap.key.file")?)),
        KeyConfig::Credential(name) => credential(name).map(HostKey::Credential),
    }
}

/// The name of a credential is one of a file: no way out of systemd's folder.
fn credential(name: &str) -> Result<String, FieldError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let dots = name.bytes().all(|byte| byte == b'.');
    if dots || name.len() > CREDENTIAL_MAX || !name.bytes().all(plain) {
        let message = format!(
            "{} is not the name of a credential: letters, digits, \"-\", \"_\" and \".\"; write e.g. \
             \"denali-host-key\"",
            quoted(name)
        );
        return Err(FieldError::new("swap.key.credential", message));
    }
    Ok(name.to_owned())
}
