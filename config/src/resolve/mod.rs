//! A configuration with every default filled in and every rule between fields checked.

mod block;
mod console;
mod cpu;
mod entropy;
mod limit;
mod names;
mod net;
mod swap;

pub use block::{Block, BlockBackend};
pub use console::{Console, ConsoleBackend};
pub use cpu::Cpu;
pub use entropy::Entropy;
pub use limit::{Bucket, Limit};
pub(crate) use net::interface_name;
pub use net::{EgressRule, Net, NetBackend, SwitchBackend, UserBackend};
pub use swap::{HostKey, Park, Swap};

use crate::error::{FieldError, quoted};
use crate::values::MemorySize;
use crate::written::{GuestConfig, HypervisorChoice};
use denali_abi::doorbell::DEVICES_MAX;
use denali_abi::layout::{ARGUMENTS_MAX, MEMORY_MAX, MEMORY_MIN, PAGE_SIZE};
use names::Names;
use std::path::{Path, PathBuf};

/// Most characters of a guest's name.
const NAME_MAX: usize = 64;

/// A guest, every value of which is known and possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Name in messages.
    pub name: String,
    /// The program.
    pub image: Image,
    /// End of RAM in bytes: whole pages.
    pub memory_size: u64,
    /// Argument string, at most 4096 bytes.
    pub arguments: String,
    /// What shall run the guest.
    pub hypervisor: HypervisorChoice,
    /// Network devices in order of their numbers.
    pub net: Vec<Net>,
    /// Block devices, whose numbers follow.
    pub block: Vec<Block>,
    /// Console devices, whose numbers follow.
    pub console: Vec<Console>,
    /// Entropy devices, whose numbers follow.
    pub entropy: Vec<Entropy>,
    /// When it is interrupted, how it idles, and its share of the processor.
    pub cpu: Cpu,
    /// Where its memory goes while it idles; `None` = it stays where it is.
    pub swap: Option<Swap>,
    /// Where its monitor listens for commands.
    pub control: Option<PathBuf>,
}

/// Where a guest's program is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// An image that is part of the `denali` program, by name.
    BuiltIn(String),
    /// A file.
    File(PathBuf),
}

/// Checks `config`, whose relative paths are relative to `folder`.
pub(crate) fn resolve(config: &GuestConfig, folder: &Path) -> Result<Guest, FieldError> {
    count_devices(config)?;
    let mut names = Names::default();
    let image = image(config, folder)?;
    let memory_size = memory(config.memory)?;
    let guest = Guest {
        name: name(config, &image)?,
        image,
        memory_size,
        arguments: arguments(&config.args)?,
        hypervisor: config.hypervisor,
        net: net::resolve(&config.net, folder, &mut names)?,
        block: block::resolve(&config.block, folder, &mut names)?,
        console: console::resolve(&config.console, folder, &mut names)?,
        entropy: entropy::resolve(&config.entropy, &mut names)?,
        cpu: cpu::resolve(config)?,
        swap: swap::resolve(config, memory_size, folder)?,
        control: control(config.control.as_deref(), folder)?,
    };
    Ok(guest)
}

/// Doorbells and interrupts are numbered; there are no more numbers than these.
fn count_devices(config: &GuestConfig) -> Result<(), FieldError> {
    let mut total = 0;
    for (field, count) in [
        ("net", config.net.len()),
        ("block", config.block.len()),
        ("console", config.console.len()),
        ("entropy", config.entropy.len()),
    ] {
        total += count;
        if total > DEVICES_MAX {
            let message =
                format!("makes {total} devices in all; at most {DEVICES_MAX} are possible");
            return Err(FieldError::new(field, message));
        }
    }
    Ok(())
}

/// A path of the configuration; relative ones are relative to `folder`.
fn path(text: &str, folder: &Path, field: &str) -> Result<PathBuf, FieldError> {
    if text.is_empty() || text.contains('\0') {
        return Err(FieldError::new(field, "is not a path; write e.g. \"./disk.img\""));
    }
    Ok(folder.join(text))
}

/// Most bytes of the path of a Unix socket.
const SOCKET_PATH_MAX: usize = 107;

/// The path of a Unix socket.
fn socket_path(text: &str, folder: &Path, field: &str) -> Result<PathBuf, FieldError> {
    let path = path(text, folder, field)?;
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_MAX {
        let message = format!(
            "has {length} bytes; the path of a socket has at most {SOCKET_PATH_MAX}, choose a shorter one"
        );
        return Err(FieldError::new(field, message));
    }
    Ok(path)
}

fn control(text: Option<&str>, folder: &Path) -> Result<Option<PathBuf>, FieldError> {
    text.map(|text| socket_path(text, folder, "control")).transpose()
}

fn image(config: &GuestConfig, folder: &Path) -> Result<Image, FieldError> {
    let text = &config.image;
    if text.is_empty() || text.contains('\0') {
        return Err(FieldError::new(
            "image",
            "is not a path or the name of a built-in image; write e.g. \"hello\" or \"./app.elf\"",
        ));
    }
    let is_path = config.image_is_path();
    Ok(if is_path { Image::File(folder.join(text)) } else { Image::BuiltIn(text.into()) })
}

fn name(config: &GuestConfig, image: &Image) -> Result<String, FieldError> {
    if let Some(name) = &config.name {
        let plain = !name.is_empty() && !name.chars().any(char::is_control);
        if !plain || name.chars().count() > NAME_MAX {
            let message =
                format!("{} is not a name of 1 to {NAME_MAX} printable characters", quoted(name));
            return Err(FieldError::new("name", message));
        }
        return Ok(name.clone());
    }
    let name = match image {
        Image::BuiltIn(name) => name.clone(),
        Image::File(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    };
    Ok(name.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect())
}

fn memory(size: MemorySize) -> Result<u64, FieldError> {
    let wrong = |why: String| Err(FieldError::new("memory", format!("{size} {why}")));
    match size.0 {
        bytes if bytes > MEMORY_MAX => wrong("is more than the 4GiB a guest can have".into()),
        bytes if bytes < MEMORY_MIN => {
            wrong(format!("is less than the {} a guest needs", MemorySize(MEMORY_MIN)))
        }
        bytes if !bytes.is_multiple_of(PAGE_SIZE) => wrong("is not a multiple of 4KiB".into()),
        bytes => Ok(bytes),
    }
}

fn arguments(text: &str) -> Result<String, FieldError> {
    if text.len() as u64 > ARGUMENTS_MAX {
        let message = format!("has {} bytes; at most {ARGUMENTS_MAX} fit", text.len());
        return Err(FieldError::new("args", message));
    }
    Ok(text.to_owned())
}
