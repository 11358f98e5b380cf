//! Opens what network devices are connected to.

use super::Place;
use crate::error::LaunchError;
use crate::listen;
use crate::prepare::{Opened, Published};
use crate::spec::{NetBackendSpec, NetSpec, PublishSpec, UserSpec};
use denali_config::{Net, NetBackend, UserBackend};
use denali_wire::{SeqpacketSocket, Tap};

/// Opens network device `number`; `place` gives the place of a field of its back end.
pub(super) fn open<'a>(
    number: usize,
    net: &Net,
    opened: &mut Opened,
    place: &dyn Fn(&str) -> Place<'a>,
) -> Result<NetSpec, LaunchError> {
    let backend = match &net.backend {
        NetBackend::User(user) => NetBackendSpec::User(open_user(number, user, opened, place)?),
        NetBackend::Tap(name) => {
            let tap = Tap::open(name).map_err(|error| place(".tap").unavailable(error))?;
            NetBackendSpec::Tap { tap: opened.keep(tap) }
        }
        NetBackend::Socket(path) => {
            let socket = SeqpacketSocket::connect(path.as_ref());
            let socket = socket.map_err(|error| place(".socket").unavailable(error))?;
            NetBackendSpec::Socket { socket: opened.keep(socket) }
        }
        NetBackend::VhostUser(_) => return Err(place(".vhost-user").unavailable("not built in")),
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

fn open_user<'a>(
    device: usize,
    user: &UserBackend,
    opened: &mut Opened,
    place: &dyn Fn(&str) -> Place<'a>,
) -> Result<UserSpec, LaunchError> {
    let mut publish = Vec::with_capacity(user.publish.len());
    for (index, port) in user.publish.iter().enumerate() {
        let place = place(&format!(".user.publish[{index}]"));
        let (listener, host) = listen::open(port, &place)?;
        opened.published(Published { host, device, guest_port: port.guest_port });
        let listener = opened.keep(listener);
        publish.push(PublishSpec { listener, guest_port: port.guest_port });
    }
    Ok(UserSpec { publish, max_connections: user.max_connections, broker: None, resolves: false })
}
