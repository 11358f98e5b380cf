//! Opens what network devices are connected to.

use super::Place;
use super::channels::Channels;
use crate::error::LaunchError;
use crate::listen;
use crate::opened::Opened;
use crate::prepare::Published;
use crate::spec::{NetBackendSpec, NetSpec, PublishSpec, PublishedSocket, UserSpec};
use denali_config::{Net, NetBackend, Protocol, Publish};
use denali_vhost_user::{CONNECT_PATIENCE, connect};
use denali_wire::{SeqpacketSocket, Tap};

/// Opens network device `number`; `place` gives the place of a field of its back end.
pub(super) fn open<'a>(
    number: usize,
    net: &Net,
    channels: &mut Channels,
    opened: &mut Opened,
    place: &dyn Fn(&str) -> Place<'a>,
) -> Result<NetSpec, LaunchError> {
    let backend = match &net.backend {
        NetBackend::User(user) => {
            let publish = open_ports(number, &user.publish, opened, place)?;
            let broker = match user.egress.is_empty() {
                true => None,
                false => Some(opened.keep(channels.next()?)),
            };
            NetBackendSpec::User(UserSpec {
                publish,
                max_connections: user.max_connections,
                broker,
                resolves: user.resolves(),
            })
        }
        NetBackend::Tap(name) => {
            let tap = Tap::open(name).map_err(|error| place(".tap").unavailable(error))?;
            NetBackendSpec::Tap { tap: opened.keep(tap) }
        }
        NetBackend::Socket(path) => {
            let socket = SeqpacketSocket::connect(path.as_ref());
            let socket = socket.map_err(|error| place(".socket").unavailable(error))?;
            NetBackendSpec::Socket { socket: opened.keep(socket) }
        }
        NetBackend::Switch(_) if !opened.has_switch => {
            let message = "is for the guests of a supervisor: make this one with denali create";
            return Err(place(".switch").unavailable(message));
        }
        NetBackend::Switch(_) => {
            // The monitor gets its end of a wire when it is started, and not before: see `Kept`.
            let (placeholder, _) =
                denali_control::pair().map_err(|error| place(".switch").unavailable(error))?;
            NetBackendSpec::Socket { socket: opened.keep(placeholder) }
        }
        NetBackend::VhostUser(path) => {
            let socket = connect(path, CONNECT_PATIENCE);
            let socket = socket.map_err(|error| place(".vhost-user").unavailable(error))?;
            let broker = opened.keep(channels.next()?);
            NetBackendSpec::VhostUser { socket: opened.keep(socket), broker }
        }
    };
    Ok(NetSpec {
        name: net.name.clone(),
        mac: net.mac.0,
        mtu: net.mtu,
        address: net.address.address,
        prefix_len: net.address.prefix_len,
        gateway: net.gateway,
        receive_limit: net.receive_limit.into(),
        transmit_limit: net.transmit_limit.into(),
        backend,
    })
}

fn open_ports<'a>(
    device: usize,
    ports: &[Publish],
    opened: &mut Opened,
    place: &dyn Fn(&str) -> Place<'a>,
) -> Result<Vec<PublishSpec>, LaunchError> {
    let mut publish = Vec::with_capacity(ports.len());
    for (index, port) in ports.iter().enumerate() {
        let place = place(&format!(".user.publish[{index}]"));
        let (socket, host) = listen::open(port, &place)?;
        let Publish { guest_port, protocol, .. } = *port;
        opened.published(Published { host, device, guest_port, protocol });
        let socket = opened.keep(socket);
        let socket = match protocol {
            Protocol::Tcp => PublishedSocket::Tcp(socket),
            Protocol::Udp => PublishedSocket::Udp(socket),
        };
        publish.push(PublishSpec { socket, guest_port });
    }
    Ok(publish)
}
