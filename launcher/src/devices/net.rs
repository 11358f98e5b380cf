//! Opens what network devices are connected to.

use super::Place;
use crate::error::LaunchError;
use crate::listen;
use crate::prepare::{Opened, Published};
use crate::spec::{NetBackendSpec, NetSpec, PublishSpec, UserSpec};
use denali_config::{Net, NetBackend, UserBackend};

/// Opens network device `number`; `place` gives the place of a field of its back end.
pub(super) fn open<'a>(
    number: usize,
    net: &Net,
    opened: &mut Opened,
    place: &dyn Fn(&str) -> Place<'a>,
) -> Result<NetSpec, LaunchError> {
    let backend = match &net.backend {
        NetBackend::User(user) => NetBackendSpec::User(open_user(number, user, opened, place)?),
        NetBackend::Tap(_) => return Err(place(".tap").unavailable("not built in")),
        NetBackend::VhostUser(_) => return Err(place(".vhost-user").unavailable("not built in")),
        NetBackend::Socket(_) => return Err(place(".socket").unavailable("not built in")),
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
    Ok(UserSpec { publish, max_connections: user.max_connections, egress: None, resolves: false })
}
