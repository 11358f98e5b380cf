//! Connects network cards to what carries their frames.

use super::egress::Egress;
use super::limit::limiter;
use super::vhost_user;
use crate::events::Events;
use crate::output::Output;
use crate::start::inherited;
use denali_devices::net::{
    NET_HEADER, NET_HEADER_DATA_VALID, NetBackend, NetConfig, NetDevice, Offers, Packet, Room,
    Sent, Wanted,
};
use denali_devices::virtio::VirtioDevice;
use denali_hypervisor::GuestRam;
use denali_launcher::spec::{NetBackendSpec, NetSpec, PublishSpec, PublishedSocket, UserSpec};
use denali_usernet::{Config, Gateway};
use denali_vhost_user::Profile;
use denali_wire::{SeqpacketSocket, Tap};
use std::io;
use std::os::fd::AsRawFd;

/// Makes the network card that `spec` describes, woken through `events`.
pub(super) fn create(
    spec: &NetSpec,
    surroundings: (&GuestRam, &Events, Output),
) -> io::Result<Box<dyn VirtioDevice<GuestRam>>> {
    let (_, events, _) = surroundings;
    match &spec.backend {
        NetBackendSpec::User(user) => create_user(spec, user, events),
        NetBackendSpec::Tap { tap } => {
            let tap = Tap::new(inherited(*tap))?;
            events.watch(tap.as_raw_fd())?;
            Ok(card(spec, tap))
        }
        NetBackendSpec::Socket { socket } => {
            let socket = SeqpacketSocket::new(inherited(*socket))?;
            events.watch(socket.as_raw_fd())?;
            Ok(card(spec, socket))
        }
        NetBackendSpec::VhostUser { socket, broker } => {
            let profile = Profile::Net(config(spec));
            let ends = (*socket, *broker);
            Ok(Box::new(vhost_user::create(&spec.name, profile, ends, surroundings)?))
        }
    }
}

fn card(spec: &NetSpec, backend: impl NetBackend + 'static) -> Box<dyn VirtioDevice<GuestRam>> {
    let card = NetDevice::new(config(spec), backend);
    Box::new(card.limited(limiter(spec.receive_limit), limiter(spec.transmit_limit)))
}

fn config(spec: &NetSpec) -> NetConfig {
    NetConfig { mac: spec.mac, mtu: spec.mtu }
}

fn create_user(
    spec: &NetSpec,
    user: &UserSpec,
    events: &Events,
) -> io::Result<Box<dyn VirtioDevice<GuestRam>>> {
    let guest = (spec.mac, spec.address);
    let mut config = Config::new(guest, (gateway_mac(spec.mac), spec.gateway), spec.prefix_len);
    config.mtu = spec.mtu;
    config.max_connections = user.max_connections;
    config.resolves = user.resolves;
    let (mut listeners, mut sockets) = (Vec::new(), Vec::new());
    for PublishSpec { socket, guest_port } in &user.publish {
        match *socket {
            PublishedSocket::Tcp(fd) => listeners.push((inherited(fd).into(), *guest_port)),
            PublishedSocket::Udp(fd) => sockets.push((inherited(fd).into(), *guest_port)),
        }
    }
    let mut gateway = Gateway::new(config, listeners)?;
    for (socket, guest_port) in sockets {
        gateway.publish_datagrams(socket, guest_port)?;
    }
    if let Some(broker) = user.broker {
        gateway.set_opener(Box::new(Egress::new(inherited(broker))))?;
    }
    events.watch(gateway.as_raw_fd())?;
    Ok(card(spec, UserBackend::new(gateway)))
}

/// A locally administered address for the gateway that is not the guest's.
fn gateway_mac(guest: [u8; 6]) -> [u8; 6] {
    const GATEWAY: [u8; 6] = [0x02, 0xde, 0x4a, 0x11, 0x00, 0x01];
    if guest == GATEWAY { [0x02, 0xde, 0x4a, 0x11, 0x00, 0x02] } else { GATEWAY }
}

/// The gateway as a back end of the card. Frames never leave memory, so their checksums are computed
/// only for a driver that insists on them.
struct UserBackend {
    gateway: Gateway,
    /// A frame of the guest, in one piece.
    frame: Vec<u8>,
    driver: Wanted,
}

impl UserBackend {
    fn new(gateway: Gateway) -> Self {
        Self { gateway, frame: Vec::new(), driver: Wanted::default() }
    }
}

impl NetBackend for UserBackend {
    fn offers(&self) -> Offers {
        Offers { checksums: true, segments: false }
    }

    fn agree(&mut self, wanted: Option<Wanted>) {
        self.driver = wanted.unwrap_or_default();
    }

    fn begin(&mut self, now_ns: u64) {
        self.gateway.begin(now_ns);
    }

    fn busy(&self) -> Option<&'static str> {
        self.gateway.busy()
    }

    fn transmit(&mut self, packet: &Packet<'_, '_>) -> Sent {
        packet.copy_frame(&mut self.frame);
        self.gateway.transmit(&self.frame);
        Sent::Taken
    }

    fn process(&mut self) {
        self.gateway.poll();
    }

    fn ready(&mut self) -> bool {
        self.gateway.next_frame().is_some()
    }

    fn receive(&mut self, room: &mut Room<'_, '_>) -> Option<usize> {
        let frame = self.gateway.next_frame()?;
        let mut header = [0; NET_HEADER];
        header[0] = NET_HEADER_DATA_VALID;
        let length = room.put(&header, frame);
        if !self.driver.checksums {
            room.complete_checksum(frame);
        }
        self.gateway.consume();
        Some(length)
    }

    fn has_work(&self) -> bool {
        self.gateway.has_work()
    }

    fn deadline(&self) -> Option<u64> {
        self.gateway.deadline()
    }

    fn tidy(&mut self) {
        self.gateway.tidy();
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.gateway.counters().list().to_vec()
    }
}
