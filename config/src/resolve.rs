//! A configuration with every default filled in and every rule between fields checked.

use crate::error::{FieldError, quoted};
use crate::guest::{BackendConfig, GuestConfig, HypervisorChoice, NetConfig};
use crate::values::{MacAddress, MemorySize, Publish, Subnet};
use denali_abi::boot::DEVICE_NAME_MAX;
use denali_abi::doorbell::DEVICES_MAX;
use denali_abi::layout::{ARGUMENTS_MAX, MEMORY_MAX, MEMORY_MIN, PAGE_SIZE};
use std::collections::HashSet;
use std::hash::Hash;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Most characters of a guest's name.
const NAME_MAX: usize = 64;

/// Most published ports of one device.
const PUBLISH_MAX: usize = 256;

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
}

/// Where a guest's program is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// An image that is part of the `denali` program, by name.
    BuiltIn(String),
    /// A file.
    File(PathBuf),
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Net {
    /// Name of the device.
    pub name: String,
    /// MAC address of the guest.
    pub mac: MacAddress,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Address of the guest and its subnet.
    pub address: Subnet,
    /// Address of the gateway.
    pub gateway: Ipv4Addr,
    /// Ports of the host that lead into the guest.
    pub publish: Vec<Publish>,
    /// Most connections at once.
    pub max_connections: usize,
}

/// Checks `config`, whose relative paths are relative to `folder`.
pub(crate) fn resolve(config: &GuestConfig, folder: &Path) -> Result<Guest, FieldError> {
    let image = image(&config.image, folder)?;
    let guest = Guest {
        name: name(config, &image)?,
        image,
        memory_size: memory(config.memory)?,
        arguments: arguments(&config.args)?,
        hypervisor: config.hypervisor,
        net: networks(&config.net)?,
    };
    Ok(guest)
}

fn image(text: &str, folder: &Path) -> Result<Image, FieldError> {
    if text.is_empty() || text.contains('\0') {
        return Err(FieldError::new(
            "image",
            "is not a path or the name of a built-in image; write e.g. \"hello\" or \"./app.elf\"",
        ));
    }
    let is_path = text.contains('/') || text.ends_with(".elf");
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

fn networks(configs: &[NetConfig]) -> Result<Vec<Net>, FieldError> {
    if configs.len() > DEVICES_MAX {
        let message = format!("has {} devices; at most {DEVICES_MAX} are possible", configs.len());
        return Err(FieldError::new("net", message));
    }
    let mut networks = Vec::with_capacity(configs.len());
    let mut unique = Unique::default();
    for (index, config) in configs.iter().enumerate() {
        let net = network(index, config)?;
        unique.check(index, &net)?;
        networks.push(net);
    }
    Ok(networks)
}

fn network(index: usize, config: &NetConfig) -> Result<Net, FieldError> {
    let field = |name: &str| format!("net[{index}].{name}");
    let BackendConfig::User(user) = &config.backend;
    let address = config.address.unwrap_or_else(|| address_default(index));
    let gateway = config.gateway.map_or_else(|| gateway_default(address), |gateway| gateway.0);
    check_gateway(address, gateway).map_err(|why| FieldError::new(field("gateway"), why))?;
    if user.publish.len() > PUBLISH_MAX {
        let message = format!("has {} ports; at most {PUBLISH_MAX}", user.publish.len());
        return Err(FieldError::new(field("backend.user.publish"), message));
    }
    Ok(Net {
        name: device_name(index, config.name.as_deref())
            .map_err(|why| FieldError::new(field("name"), why))?,
        mac: config.mac.unwrap_or_else(|| mac_default(index)),
        mtu: ranged(config.mtu, 576, 65535).map_err(|why| FieldError::new(field("mtu"), why))?,
        address,
        gateway,
        publish: user.publish.clone(),
        max_connections: ranged(user.max_connections, 1, 16384)
            .map_err(|why| FieldError::new(field("backend.user.max_connections"), why))?
            .into(),
    })
}

/// The device's name: what the configuration says, or `net` and its number.
fn device_name(index: usize, name: Option<&str>) -> Result<String, String> {
    let Some(name) = name else {
        return Ok(format!("net{index}"));
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > DEVICE_NAME_MAX || !name.bytes().all(plain) {
        return Err(format!(
            "{} is not a name of 1 to {DEVICE_NAME_MAX} letters, digits, \"-\", \"_\" or \".\"",
            quoted(name)
        ));
    }
    Ok(name.to_owned())
}

/// 02:00:00:00:00:01 (locally administered) for the first device, and upwards.
fn mac_default(index: usize) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0, index as u8 + 1])
}

/// 10.0.2.15/24 for the first device, 10.0.3.15/24 for the next, and so on.
fn address_default(index: usize) -> Subnet {
    Subnet { address: Ipv4Addr::new(10, 0, index as u8 + 2, 15), prefix_len: 24 }
}

/// The second address of the subnet, or the first where the guest has the second.
fn gateway_default(subnet: Subnet) -> Ipv4Addr {
    let second = subnet.nth(2);
    if second == subnet.address { subnet.nth(1) } else { second }
}

fn check_gateway(subnet: Subnet, gateway: Ipv4Addr) -> Result<(), String> {
    if gateway == subnet.address {
        return Err(format!("{gateway} is the guest's own address; choose another"));
    }
    if !subnet.has_host(gateway) {
        return Err(format!(
            "{gateway} is not the address of a host in {subnet}; choose one there"
        ));
    }
    Ok(())
}

/// `value` if it is from `least` to `most`.
fn ranged(value: u64, least: u16, most: u16) -> Result<u16, String> {
    match u16::try_from(value) {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(format!("{value} is out of range; write a number from {least} to {most}")),
    }
}

/// What no two devices may have in common.
#[derive(Default)]
struct Unique {
    names: HashSet<String>,
    macs: HashSet<[u8; 6]>,
    ports: HashSet<std::net::SocketAddr>,
}

impl Unique {
    fn check(&mut self, index: usize, net: &Net) -> Result<(), FieldError> {
        insert(&mut self.names, net.name.clone(), || format!("net[{index}].name"))?;
        insert_shown(&mut self.macs, net.mac.0, &net.mac, || format!("net[{index}].mac"))?;
        for (number, publish) in net.publish.iter().enumerate() {
            if publish.host.port() != 0 {
                insert(&mut self.ports, publish.host, || {
                    format!("net[{index}].backend.user.publish[{number}]")
                })?;
            }
        }
        Ok(())
    }
}

fn insert<T: Eq + Hash + ToString>(
    set: &mut HashSet<T>,
    value: T,
    field: impl Fn() -> String,
) -> Result<(), FieldError> {
    let shown = value.to_string();
    insert_shown(set, value, &shown, field)
}

fn insert_shown<T: Eq + Hash>(
    set: &mut HashSet<T>,
    value: T,
    shown: &impl ToString,
    field: impl Fn() -> String,
) -> Result<(), FieldError> {
    if set.insert(value) {
        return Ok(());
    }
    Err(FieldError::new(field(), format!("{} is taken by an entry before it", shown.to_string())))
}
