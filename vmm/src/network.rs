//! Connects network cards to the user-mode gateway.

use crate::events::Events;
use crate::start::inherited;
use denali_devices::net::{Checksum, Frame, NetBackend, NetConfig, NetDevice};
use denali_devices::virtio::VirtioDevice;
use denali_hypervisor::GuestRam;
use denali_launcher::spec::{NetBackendSpec, NetSpec, UserSpec};
use denali_usernet::{Config, Gateway};
use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;

/// Makes the network card that `spec` describes, woken through `events`.
pub(crate) fn create(
    spec: &NetSpec,
    events: &Events,
) -> io::Result<Box<dyn VirtioDevice<GuestRam>>> {
    match &spec.backend {
        NetBackendSpec::User(user) => create_user(spec, user, events),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
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
    let listeners = user
        .publish
        .iter()
        .map(|publish| (TcpListener::from(inherited(publish.listener)), publish.guest_port));
    let gateway = Gateway::new(config, listeners.collect())?;
    events.watch(gateway.as_raw_fd())?;
    let config = NetConfig { mac: spec.mac, mtu: spec.mtu };
    Ok(Box::new(NetDevice::new(config, UserBackend(gateway))))
}

/// A locally administered address for the gateway that is not the guest's.
fn gateway_mac(guest: [u8; 6]) -> [u8; 6] {
    const GATEWAY: [u8; 6] = [0x02, 0xde, 0x4a, 0x11, 0x00, 0x01];
    if guest == GATEWAY { [0x02, 0xde, 0x4a, 0x11, 0x00, 0x02] } else { GATEWAY }
}

/// The gateway as a back end of the card. Frames never leave memory, so checksums are not computed.
struct UserBackend(Gateway);

impl NetBackend for UserBackend {
    fn begin(&mut self, now_ns: u64) {
        self.0.begin(now_ns);
    }

    fn transmit(&mut self, frame: Frame<'_>) {
        self.0.transmit(frame.bytes);
    }

    fn process(&mut self) {
        self.0.poll();
    }

    fn peek(&mut self) -> Option<Frame<'_>> {
        let bytes = self.0.next_frame()?;
        Some(Frame { bytes, checksum: Checksum::Absent })
    }

    fn consume(&mut self) {
        self.0.consume();
    }

    fn has_work(&self) -> bool {
        self.0.has_work()
    }

    fn deadline(&self) -> Option<u64> {
        self.0.deadline()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.0.counters().list().to_vec()
    }
}
