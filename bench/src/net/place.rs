//! Networks to measure in: a client, a native server at the end of a veth pair, and a tap for a guest.

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

/// Address of the client.
pub(super) const CLIENT: &str = "10.83.0.1";
/// Address of the native server.
pub(super) const NATIVE: &str = "10.83.0.2";
/// Address of a guest.
pub(super) const GUEST: &str = "10.83.0.3";
/// The tap's name.
pub(super) const TAP: &str = "tap0";
/// Both ends of the shaped link send at this rate. A burst is larger than any segment, and the queue
/// larger than any window, so that segments are neither cut nor lost.
const SHAPE: &str = "root tbf rate 10gbit burst 256k limit 16m";

/// A kind of network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing between client and server but the veth pair, or the tap.
    Direct,
    /// A bridge, and between it and the client a veth pair of 10 Gb/s.
    Shaped,
}

/// Network namespaces, which are gone when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) kind: Kind,
    /// Where the client of the native server is.
    native_client: String,
    /// Where the native server is.
    native_server: String,
    /// Where the client of guests is.
    guest_client: String,
    /// Where the tap is.
    guest: String,
    all: Vec<String>,
}

impl Place {
    /// Why there can be none on this machine, if so.
    pub(super) fn problem() -> Option<String> {
        // SAFETY: reads this process's user id, nothing else.
        if unsafe { libc::geteuid() } != 0 {
            return Some("not root".into());
        }
        if !Path::new("/dev/net/tun").exists() {
            return Some("no /dev/net/tun".into());
        }
        let found = Command::new("tc").arg("-V").stdout(Stdio::null()).status();
        found.err().map(|error| format!("tc: {error}"))
    }

    /// A veth pair for the native server, and a tap beside its client.
    pub(super) fn direct() -> Result<Self> {
        let mut place = Self::empty(Kind::Direct);
        place.native_client = place.namespace("a")?;
        place.native_server = place.namespace("b")?;
        place.guest = place.namespace("g")?;
        place.guest_client = place.guest.clone();
        place.cable((&place.native_client, "eth0"), (&place.native_server, "eth0"))?;
        place.address(&place.native_client, "eth0", CLIENT)?;
        place.address(&place.native_server, "eth0", NATIVE)?;
        place.tap()?;
        place.address(&place.guest, TAP, CLIENT)?;
        Ok(place)
    }

    /// One client behind a shaped link to a bridge, on which the native server and the tap are.
    pub(super) fn shaped() -> Result<Self> {
        let mut place = Self::empty(Kind::Shaped);
        place.native_client = place.namespace("c")?;
        place.guest_client = place.native_client.clone();
        place.native_server = place.namespace("s")?;
        place.guest = place.namespace("r")?;
        let bridge = place.guest.clone();
        place.cable((&place.native_client, "eth0"), (&bridge, "up0"))?;
        place.cable((&place.native_server, "eth0"), (&bridge, "down0"))?;
        place.tap()?;
        ip(&format!("-n {bridge} link add br0 type bridge"))?;
        for member in ["up0", "down0", TAP] {
            ip(&format!("-n {bridge} link set {member} master br0"))?;
            ip(&format!("-n {bridge} link set {member} up"))?;
        }
        ip(&format!("-n {bridge} link set br0 up"))?;
        place.address(&place.native_client, "eth0", CLIENT)?;
        place.address(&place.native_server, "eth0", NATIVE)?;
        command("tc", &format!("-n {} qdisc add dev eth0 {SHAPE}", place.native_client))?;
        command("tc", &format!("-n {bridge} qdisc add dev up0 {SHAPE}"))?;
        Ok(place)
    }

    fn empty(kind: Kind) -> Self {
        let [native_client, native_server, guest_client, guest] = [const { String::new() }; 4];
        Self { kind, native_client, native_server, guest_client, guest, all: Vec::new() }
    }

    fn namespace(&mut self, suffix: &str) -> Result<String> {
        let name = format!("denali-bench-{}-{:?}-{suffix}", std::process::id(), self.kind);
        ip(&format!("netns add {name}"))?;
        self.all.push(name.clone());
        ip(&format!("-n {name} link set lo up"))?;
        Ok(name)
    }

    fn cable(&self, one: (&str, &str), other: (&str, &str)) -> Result<()> {
        let ends =
            format!("{} netns {} type veth peer name {} netns {}", one.1, one.0, other.1, other.0);
        ip(&format!("link add {ends}"))
    }

    fn tap(&self) -> Result<()> {
        ip(&format!("-n {} tuntap add {TAP} mode tap", self.guest))
    }

    fn address(&self, namespace: &str, interface: &str, address: &str) -> Result<()> {
        ip(&format!("-n {namespace} address add {address}/24 dev {interface}"))?;
        ip(&format!("-n {namespace} link set {interface} up"))
    }

    /// The namespace of a server, of the client that talks to it, and the server's address.
    pub(super) fn ends(&self, is_guest: bool) -> (&str, &str, &'static str) {
        if is_guest {
            (&self.guest, &self.guest_client, GUEST)
        } else {
            (&self.native_server, &self.native_client, NATIVE)
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for name in &self.all {
            // What is left of it is in the way of nobody.
            let _ = ip(&format!("netns delete {name}"));
        }
    }
}

/// A program in a namespace.
pub(super) fn program(namespace: &str, program: &Path) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program).stdin(Stdio::null());
    command
}

/// Moves the calling thread into a namespace.
pub(super) fn enter(namespace: &str) -> Result<()> {
    let path = format!("/run/netns/{namespace}");
    let file = File::open(&path).with_context(|| format!("cannot open {path}"))?;
    let kind = nix::sched::CloneFlags::CLONE_NEWNET;
    nix::sched::setns(file, kind).context("cannot enter a network namespace")
}

fn ip(words: &str) -> Result<()> {
    command("ip", words)
}

fn command(program: &str, words: &str) -> Result<()> {
    let output = Command::new(program).args(words.split(' ')).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program} {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
