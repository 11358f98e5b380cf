//! Datagrams of sockets that are not connected: from whom, and to which of the host's addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

/// The two ends of a datagram on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    /// Who wrote it.
    pub peer: SocketAddr,
    /// The host's address it was written to, where the socket has more than one.
    pub local: Option<IpAddr>,
}

/// A datagram that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes of it in the buffer.
    pub length: usize,
    /// It was longer than the buffer.
    pub cut: bool,
    pub ends: Ends,
    /// Datagrams that the host has dropped for want of room in the socket, since it was made; `None`
    /// if there were none before this one.
    pub overrun: Option<u32>,
}

/// Room for the control messages of one datagram, aligned as they are.
#[repr(C, align(8))]
struct Control([u8; 128]);

/// Prepares a socket for [`receive`].
pub fn prepare(socket: &UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    set(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL)?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => set(socket, libc::IPPROTO_IP, libc::IP_PKTINFO),
        IpAddr::V6(ip) if ip.is_unspecified() => {
            set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
        }
        _ => Ok(()),
    }
}

fn set(socket: &UdpSocket, level: libc::c_int, name: libc::c_int) -> io::Result<()> {
    crate::sys::set_option(socket.as_raw_fd(), level, name, &(1 as libc::c_int))
}

/// Receives the next datagram, without waiting for one.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    // SAFETY: these structures are numbers and pointers, for which zeros are valid.
    let (mut from, mut message): (libc::sockaddr_storage, libc::msghdr) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    let mut control = Control([0; 128]);
    let mut piece = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = size_of_val(&from) as libc::socklen_t;
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    let flags = libc::MSG_DONTWAIT;
    // SAFETY: everything the message points to is valid and of the sizes it says during the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    let peer = address(&from).ok_or(io::ErrorKind::Unsupported)?;
    let cut = message.msg_flags & libc::MSG_TRUNC != 0;
    let ends = Ends { peer, local: None };
    let mut received = Received { length: length as usize, cut, ends, overrun: None };
    // SAFETY: the kernel has filled in the message, whose control messages are in `control`, which is
    // still there; these functions stay within the length it says.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            take_control(&*header, libc::CMSG_DATA(header), &mut received);
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok(received)
}

/// Notes what a control message says.
///
/// # Safety
/// `data` points to the data of a control message with this header, as the kernel writes it.
unsafe fn take_control(header: &libc::cmsghdr, data: *const u8, received: &mut Received) {
    // SAFETY: for each kind the kernel writes the structure read here; it need not be aligned.
    unsafe {
        match (header.cmsg_level, header.cmsg_type) {
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                received.overrun = Some(data.cast::<u32>().read_unaligned());
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                let local = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
                received.ends.local = Some(local.into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                received.ends.local = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
            }
            _ => {}
        }
    }
}

/// The address in a structure that the kernel has filled in.
fn address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let start = std::ptr::from_ref(storage);
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the storage is large enough and aligned for each kind of address, and of this one.
            let v4 = unsafe { &*start.cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*start.cast::<libc::sockaddr_in6>() };
            let (ip, port) = (Ipv6Addr::from(v6.sin6_addr.s6_addr), u16::from_be(v6.sin6_port));
            Some(SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Sends a datagram back to who wrote one, from the address that was written to.
pub fn send(socket: &UdpSocket, payload: &[u8], ends: &Ends) -> io::Result<usize> {
    match (ends.peer, ends.local) {
        (SocketAddr::V4(peer), Some(IpAddr::V4(local))) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(local.octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            let to = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: peer.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(peer.ip().octets()) },
                sin_zero: [0; 8],
            };
            send_from(socket, payload, (to, info), (libc::IPPROTO_IP, libc::IP_PKTINFO))
        }
        (SocketAddr::V6(peer), Some(IpAddr::V6(local))) => {
            let address = |ip: Ipv6Addr| libc::in6_addr { s6_addr: ip.octets() };
            let info = libc::in6_pktinfo { ipi6_addr: address(local), ipi6_ifindex: 0 };
            let to = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: peer.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: address(*peer.ip()),
                sin6_scope_id: peer.scope_id(),
            };
            send_from(socket, payload, (to, info), (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO))
        }
        _ => socket.send_to(payload, ends.peer),
    }
}

/// Sends to the address `to` with one control message, which says from where.
fn send_from<A, I>(
    socket: &UdpSocket,
    payload: &[u8],
    (mut to, info): (A, I),
    (level, kind): (libc::c_int, libc::c_int),
) -> io::Result<usize> {
    let mut control = Control([0; 128]);
    let mut piece =
        libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    // SAFETY: the structure is numbers and pointers, for which zeros are valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut to).cast();
    message.msg_namelen = size_of::<A>() as libc::socklen_t;
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    let size = size_of::<I>() as libc::c_uint;
    // SAFETY: a header and either structure fit in `control`, which is aligned for a header; the payload
    // is only read; everything the message points to is valid during the call.
    let sent = unsafe {
        message.msg_controllen = libc::CMSG_SPACE(size) as usize;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(size) as usize;
        libc::CMSG_DATA(header).cast::<I>().write_unaligned(info);
        libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_from_the_address_that_was_written_to() {
        for (any, one) in
            [("0.0.0.0:0", "127.0.0.9"), ("[::]:0", "::1"), ("127.0.0.9:0", "127.0.0.9")]
        {
            let Ok(socket) = UdpSocket::bind(any) else { continue };
            prepare(&socket).unwrap();
            let to: IpAddr = one.parse().unwrap();
            let to = SocketAddr::new(to, socket.local_addr().unwrap().port());
            let client = UdpSocket::bind((one, 0)).unwrap();
            // A connected socket hears of no other address.
            client.connect(to).unwrap();
            client.send(b"question").unwrap();
            let mut buffer = [0; 5];
            let received = receive(&socket, &mut buffer).unwrap();
            assert_eq!((received.length, received.cut, &buffer), (5, true, b"quest"));
            assert_eq!(received.ends.peer, client.local_addr().unwrap());
            assert_eq!(received.overrun, None);
            assert_eq!(send(&socket, b"answer", &received.ends).unwrap(), 6);
            let mut answer = [0; 16];
            assert_eq!(client.recv(&mut answer).unwrap(), 6);
            let nothing = receive(&socket, &mut buffer).unwrap_err();
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn the_host_says_what_it_dropped() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        prepare(&socket).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        const SENT: u32 = 20_000;
        for _ in 0..SENT {
            client.send_to(&[0; 64], to).unwrap();
        }
        let mut buffer = [0; 64];
        let mut kept = 0;
        while receive(&socket, &mut buffer).is_ok() {
            kept += 1;
        }
        assert!(kept < SENT, "the host keeps everything");
        client.send_to(b"one more", to).unwrap();
        assert_eq!(receive(&socket, &mut buffer).unwrap().overrun, Some(SENT - kept));
    }
}
