//! Starts the broker, which opens connections for a monitor that can open none.

use crate::error::{LaunchError, host};
use crate::inherit::pass_on;
use crate::sealed;
use denali_broker::{Channel, Policy, Protocol, Rule, Service, Spec, Target, resolver};
use denali_config::{Destination, EgressRule, Net, UserBackend};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What the program says when it is ready.
const READY: &str = "ready\n";

/// What the broker is to serve for a network device, if anything leads out of it.
///
/// # Errors
/// When a rule has a name, the configuration names no resolver, and the host has none either.
pub(crate) fn egress(net: &Net, user: &UserBackend) -> Result<Option<Service>, String> {
    if user.egress.is_empty() {
        return Ok(None);
    }
    let policy = Policy {
        rules: user.egress.iter().map(rule).collect(),
        address: net.address.address,
        prefix_len: net.address.prefix_len,
        gateway: net.gateway,
    };
    let resolvers = match user.resolver {
        Some(resolver) => vec![resolver],
        None if policy.resolves() => host_resolvers()?,
        None => Vec::new(),
    };
    Ok(Some(Service::Egress { policy, resolvers }))
}

fn rule(rule: &EgressRule) -> Rule {
    Rule {
        target: match &rule.to {
            Destination::Range(start, prefix_len) => Target::Range(*start, *prefix_len),
            Destination::Name(name) => Target::Name(name.clone()),
            Destination::Below(name) => Target::Below(name.clone()),
            Destination::Host => Target::Host,
        },
        ports: rule.ports.clone(),
        protocol: match rule.protocol {
            denali_config::Protocol::Tcp => Protocol::Tcp,
            denali_config::Protocol::Udp => Protocol::Udp,
        },
    }
}

fn host_resolvers() -> Result<Vec<std::net::SocketAddr>, String> {
    let path = Path::new(resolver::RESOLV_CONF);
    let missing = |why: &dyn std::fmt::Display| {
        let path = path.display();
        format!("{path} names no name server{why}; add e.g. \"resolver\": \"192.0.2.53\"")
    };
    match resolver::listed(path) {
        Ok(servers) if servers.is_empty() => Err(missing(&"")),
        Ok(servers) => Ok(servers),
        Err(error) => Err(missing(&format_args!(" ({error})"))),
    }
}

/// Starts the program `broker` to serve these channels, and waits until it is ready; see
/// [`find_broker`](crate::find_broker). Returns the monitor's ends of the channels, in order. The
/// broker is nobody's child, and ends when all of them are closed.
pub(crate) fn start(broker: &Path, services: Vec<Service>) -> Result<Vec<OwnedFd>, LaunchError> {
    let mut ours = Vec::with_capacity(services.len());
    let mut theirs = Vec::with_capacity(services.len() + 1);
    let mut channels = Vec::with_capacity(services.len());
    for service in services {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (our, their) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .map_err(|error| host("cannot make a pair of sockets", error))?;
        channels.push(Channel { socket: their.as_raw_fd(), service });
        ours.push(our);
        theirs.push(their);
    }
    let json = serde_json::to_vec(&Spec { channels })
        .map_err(|error| LaunchError::Host(format!("cannot describe the broker: {error}")))?;
    let spec = sealed::from_bytes(c"denali-broker", &json)?;
    let argument = spec.as_raw_fd().to_string();
    theirs.push(spec);
    run(broker, &argument, theirs)?;
    Ok(ours)
}

/// Runs the program until it has gone its own way and says that it is ready.
fn run(broker: &Path, argument: &str, descriptors: Vec<OwnedFd>) -> Result<(), LaunchError> {
    let refuse = |why: &dyn std::fmt::Display| {
        LaunchError::Host(format!("cannot start the broker {}: {why}", broker.display()))
    };
    let mut command = Command::new(broker);
    command
        .arg0("denali-broker")
        .arg(OsStr::new(argument))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    // SAFETY: between fork and exec the closure makes system calls on descriptors that it owns, and
    // nothing else: no allocation, no lock.
    unsafe { command.pre_exec(move || pass_on(&descriptors).map_err(Into::into)) };
    let mut first = command.spawn().map_err(|error| refuse(&error))?;
    // The command owns the broker's ends: here they are to be closed, so that the broker alone has them.
    drop(command);
    let mut said = String::new();
    let heard = first.stderr.take().map(|mut pipe| pipe.read_to_string(&mut said));
    // The first process leaves a second one behind, which is the broker, and ends.
    let status = first.wait().map_err(|error| refuse(&error))?;
    match heard {
        Some(Ok(_)) if said == READY && status.success() => Ok(()),
        Some(Err(error)) => Err(refuse(&error)),
        _ if said.is_empty() => Err(refuse(&Errno::EPIPE.desc())),
        _ => Err(refuse(&said.trim_end())),
    }
}
