//! The configuration of a host, for its supervisor: as it is written in JSON, and checked.

use crate::decode::decode;
use crate::error::{ConfigError, FieldError, quoted};
use crate::json;
use crate::resolve::interface_name;
use crate::values::{MemorySize, Span, Subnet};
use crate::written::SwapConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Most bytes a configuration can have.
const SIZE_MAX: usize = 1 << 20;

/// Most monitors that can wait, guests that can run at a time, and guests.
const POOL_MAX: u64 = 256;
const RUNNING_MAX: u64 = 1 << 20;

/// The network that guests have when nothing else is said.
const NETWORK: &str = "10.96.0.1/12";

/// A host, as its configuration file describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(title = "Denali host"))]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// Folder for all that is to be remembered; by default `/var/lib/denali`, or
    /// `~/.local/state/denali` for who is not root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Folder for sockets; by default `/run/denali`, or `$XDG_RUNTIME_DIR/denali` for who is not root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Folder in which what each guest writes to its console is added to a file; dropped by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<String>,
    /// User ids that may ask for anything, beside the supervisor's own and root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub admins: Vec<u32>,
    /// User ids that may look, and change nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readers: Vec<u32>,
    /// Monitors that wait for guests, up to 256.
    #[serde(default = "pool_default")]
    pub pool: u64,
    /// Guests that may have monitors at a time.
    #[serde(default = "running_default")]
    pub max_running: u64,
    /// Memory that is left free.
    #[serde(default = "free_default")]
    pub minimum_free: MemorySize,
    /// Memory that guests may use all in all; by default what is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemorySize>,
    /// The network of the guests.
    #[serde(default)]
    pub network: NetworkConfig,
    /// Where the memory of guests goes whose own configuration does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<SwapConfig>,
    /// When the space of a guest is reserved.
    #[serde(default)]
    pub reserve: Reserve,
    /// Whether guests are started anew whose monitors end in any other way than by their own will.
    #[serde(default = "yes")]
    pub restart: bool,
    /// How long a supervisor that is asked to stop takes to park all guests at most.
    #[serde(default = "drain_default")]
    pub drain: Span,
    /// What each tenant may have; those that are not named may have anything.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tenants: BTreeMap<String, TenantConfig>,
}

/// The network of the guests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Address of the host in it, and bits of its prefix: guests have the addresses that follow.
    #[serde(default = "network_default")]
    pub address: Subnet,
    /// A TUN interface, by name, through which host and guests reach each other; made if there is none.
    /// Needs CAP_NET_ADMIN; without one, ports are published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tun: Option<String>,
    /// Who may talk to whom.
    #[serde(default)]
    pub among_guests: AmongGuests,
}

/// Which guests may talk to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum AmongGuests {
    /// None.
    #[default]
    Isolated,
    /// Those of one tenant.
    Tenant,
    /// All.
    Open,
}

/// When the space of a guest is reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Reserve {
    /// When it is created: a disk that is full is found then.
    #[default]
    Create,
    /// When it is first started: for more guests than there is space for, most of which never start.
    Start,
}

/// What a tenant may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TenantConfig {
    /// Guests; by default any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guests: Option<u64>,
    /// Guests that have monitors at a time; by default any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<u64>,
    /// Memory of those; by default any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemorySize>,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self { address: network_default(), tun: None, among_guests: AmongGuests::default() }
    }
}

impl HostConfig {
    /// What a host is like about which nothing is said.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self {
            state: None,
            run: None,
            logs: None,
            admins: Vec::new(),
            readers: Vec::new(),
            pool: pool_default(),
            max_running: running_default(),
            minimum_free: free_default(),
            memory: None,
            network: NetworkConfig::default(),
            swap: None,
            reserve: Reserve::default(),
            restart: true,
            drain: drain_default(),
            tenants: BTreeMap::new(),
        }
    }

    /// Reads the configuration of a host; relative paths in it become relative to its folder.
    ///
    /// # Errors
    /// What is wrong, in one line that names the file and the field.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let source = path.display().to_string();
        let text = std::fs::read(path).map_err(|error| {
            ConfigError::new(&source, "", format!("cannot be read: {error}; check the path"))
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, &source, folder)
    }

    /// Parses the configuration of a host that messages call `source`; relative paths in it become relative
    /// to `folder`.
    ///
    /// # Errors
    /// As [`HostConfig::read`].
    pub fn parse(text: &[u8], source: &str, folder: &Path) -> Result<Self, ConfigError> {
        if text.len() > SIZE_MAX {
            let message = "is larger than 1 MiB; is it a configuration?";
            return Err(ConfigError::new(source, "", message));
        }
        let value = json::parse(text)
            .map_err(|error| ConfigError::new(source, "", format!("not valid JSON: {error}")))?;
        let mut config: Self = decode(&value)
            .map_err(|error| ConfigError::new(source, &error.field, error.message))?;
        config.paths_mut(&mut |path| {
            if let Ok(absolute) = std::path::absolute(folder.join(path.as_str()))
                && let Some(text) = absolute.to_str()
            {
                text.clone_into(path);
            }
        });
        config.check().map_err(|error| ConfigError::new(source, &error.field, error.message))?;
        Ok(config)
    }

    fn paths_mut(&mut self, visit: &mut dyn FnMut(&mut String)) {
        let folders = [&mut self.state, &mut self.run, &mut self.logs];
        folders.into_iter().flatten().for_each(&mut *visit);
        if let Some(swap) = &mut self.swap {
            swap.paths_mut(visit);
        }
    }

    fn check(&self) -> Result<(), FieldError> {
        let up_to = |field: &str, value: u64, least: u64, most: u64| {
            let message = format!("{value} is out of range; write a number from {least} to {most}");
            match (least..=most).contains(&value) {
                true => Ok(()),
                false => Err(FieldError::new(field, message)),
            }
        };
        up_to("pool", self.pool, 0, POOL_MAX)?;
        up_to("max_running", self.max_running, 1, RUNNING_MAX)?;
        if let Some(tun) = &self.network.tun {
            interface_name(tun).map_err(|why| FieldError::new("network.tun", why))?;
        }
        for name in self.tenants.keys() {
            check_name(name).map_err(|why| FieldError::new("tenants", why))?;
        }
        Ok(())
    }
}

/// Whether guests and tenants of a supervisor can have this name.
///
/// # Errors
/// Why not, and what to do.
pub fn check_name(name: &str) -> Result<(), String> {
    const LONGEST: usize = 64;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match name.bytes().all(plain) && !name.starts_with(['.', '-']) {
        true if (1..=LONGEST).contains(&name.len()) => Ok(()),
        _ => Err(format!(
            "{} is no name: write 1 to {LONGEST} of letters, digits, '.', '_' and '-', and begin with a \
             letter, a digit or '_'",
            quoted(name)
        )),
    }
}

fn pool_default() -> u64 {
    8
}

fn running_default() -> u64 {
    12_000
}

fn free_default() -> MemorySize {
    MemorySize(1 << 30)
}

fn drain_default() -> Span {
    Span(60_000_000_000)
}

fn yes() -> bool {
    true
}

fn network_default() -> Subnet {
    // Known to be one, as a test checks.
    NETWORK.parse().unwrap_or(Subnet { address: [10, 96, 0, 1].into(), prefix_len: 12 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<HostConfig, String> {
        let parsed = HostConfig::parse(text.as_bytes(), "host.json", Path::new("/etc/denali"));
        parsed.map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_a_host() {
        assert_eq!(parse("{}").unwrap(), HostConfig::of_nothing());
        assert_eq!(HostConfig::of_nothing().network.address.to_string(), NETWORK);
    }

    #[test]
    fn paths_are_absolute_afterwards() {
        let host = parse(r#"{"state": "s", "swap": {"stripes": ["a", "/b"]}}"#).unwrap();
        assert_eq!(host.state.unwrap(), "/etc/denali/s");
        assert_eq!(host.swap.unwrap().stripes, ["/etc/denali/a", "/b"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("[]", "host.json: "),
            (r#"{"pools": 3}"#, "host.json: pools: "),
            (r#"{"pool": 1000}"#, "host.json: pool: 1000 is out of range"),
            (r#"{"max_running": 0}"#, "host.json: max_running: 0 is out of range"),
            (r#"{"network": {"tun": "a/b"}}"#, "host.json: network.tun: "),
            (r#"{"network": {"address": "10.0.0.0/8"}}"#, "host.json: network.address: "),
            (r#"{"tenants": {"-x": {}}}"#, "host.json: tenants: \"-x\" is no name"),
            (r#"{"tenants": {"x": {"guest": 1}}}"#, "host.json: tenants.x.guest: "),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(says) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn names_are_fit_for_files_and_patterns() {
        for name in ["a", "web-1", "_x.y", &"n".repeat(64)] {
            check_name(name).unwrap();
        }
        for name in ["", "-a", ".", "a/b", "a*", "ä", "a b", &"n".repeat(65)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
