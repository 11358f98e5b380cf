//! Who a guest is on its network: hardware address, IPv4 address and gateway. A copy of a guest is somebody else.

use crate::entropy;
use denali_abi::boot::DeviceEntry;
use smoltcp::iface::{Config, Interface};
use smoltcp::phy::{Device, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, IpCidr, Ipv4Address, Ipv4Cidr,
};

/// The addresses by which a guest goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    hardware: EthernetAddress,
    address: Option<Ipv4Cidr>,
    gateway: Option<Ipv4Address>,
}

impl Identity {
    /// What the card's hardware address and its entry in the device table say.
    pub(super) fn new(mac: [u8; 6], entry: &DeviceEntry) -> Self {
        let address = Ipv4Address::from(entry.ipv4);
        let usable =
            !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast();
        let gateway = Ipv4Address::from(entry.gateway);
        Self {
            hardware: EthernetAddress(mac),
            address: usable.then(|| Ipv4Cidr::new(address, entry.prefix_len.min(32))),
            gateway: (!gateway.is_unspecified()).then_some(gateway),
        }
    }

    /// The hardware address.
    pub(super) fn hardware(&self) -> EthernetAddress {
        self.hardware
    }

    /// An interface that goes by these addresses, knows nobody yet, and chooses sequence numbers of its own.
    pub(super) fn interface(&self, device: &mut impl Device, now: Instant) -> Interface {
        let mut config = Config::new(self.hardware.into());
        config.random_seed = entropy::next_u64();
        let mut interface = Interface::new(config, device, now);
        if let Some(address) = self.address {
            interface.update_ip_addrs(|addresses| {
                // The list is empty and holds at least one.
                let _ = addresses.push(IpCidr::Ipv4(address));
            });
        }
        if let Some(gateway) = self.gateway {
            // The table of routes is empty and holds at least one.
            let _ = interface.routes_mut().add_default_ipv4_route(gateway);
        }
        interface
    }

    /// Tells everybody on the network at which hardware address the IPv4 address is now (an ARP announcement,
    /// RFC 5227). False if the device has no room for it.
    pub(super) fn announce(&self, device: &mut impl Device, now: Instant) -> bool {
        let Some(address) = self.address else { return true };
        let Some(token) = device.transmit(now) else { return false };
        let ethernet = EthernetRepr {
            src_addr: self.hardware,
            dst_addr: EthernetAddress::BROADCAST,
            ethertype: EthernetProtocol::Arp,
        };
        let arp = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: self.hardware,
            source_protocol_addr: address.address(),
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: address.address(),
        };
        token.consume(ethernet.buffer_len() + arp.buffer_len(), |bytes| {
            let mut frame = EthernetFrame::new_unchecked(bytes);
            ethernet.emit(&mut frame);
            arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_nobody_can_have_are_none() {
        for ipv4 in [[0; 4], [224, 0, 0, 1], [255; 4]] {
            let entry = DeviceEntry { ipv4, prefix_len: 200, ..DeviceEntry::EMPTY };
            let identity = Identity::new([2, 0, 0, 0, 0, 1], &entry);
            assert_eq!((identity.address, identity.gateway), (None, None));
        }
    }

    #[test]
    fn every_address_makes_another_identity() {
        let entry = DeviceEntry { ipv4: [10, 0, 0, 2], prefix_len: 24, ..DeviceEntry::EMPTY };
        let identity = Identity::new([2, 0, 0, 0, 0, 1], &entry);
        assert_eq!(identity, Identity::new([2, 0, 0, 0, 0, 1], &entry));
        assert_ne!(identity, Identity::new([2, 0, 0, 0, 0, 2], &entry));
        let gateway = [10, 0, 0, 1];
        for other in [
            DeviceEntry { ipv4: [10, 0, 0, 3], ..entry },
            DeviceEntry { prefix_len: 16, ..entry },
            DeviceEntry { gateway, ..entry },
        ] {
            assert_ne!(identity, Identity::new([2, 0, 0, 0, 0, 1], &other));
        }
    }
}
