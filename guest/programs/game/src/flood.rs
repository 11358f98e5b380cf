//! A guest that floods: datagrams to the gateway, as fast as it can, until it is asked to stop.

use ilwaco::abi::boot::KIND_NET;
use ilwaco::net::{Error, IpAddress, IpEndpoint, Ipv4Address, UdpSocket};
use ilwaco::{registers, stop};

/// The port that throws everything away.
const DISCARD: u16 = 9;
/// Bytes of each datagram: few, so that there are many.
const SIZE: usize = 64;

pub(crate) async fn run() -> Result<(), Error> {
    let device = registers::devices(KIND_NET).next().ok_or(Error::NoDevice)?;
    let gateway = Ipv4Address::from(device.gateway);
    if gateway.is_unspecified() {
        return Err(Error::NoAddress);
    }
    let socket = UdpSocket::open()?;
    let to = IpEndpoint::new(IpAddress::Ipv4(gateway), DISCARD);
    ilwaco::println!("game: flooding {to}");
    let mut count = 0_u64;
    while !stop::is_requested() {
        socket.send_to(&[0; SIZE], to).await?;
        count += 1;
    }
    ilwaco::println!("flooded={count}");
    Ok(())
}
