//! The TUN interface through which host and guests reach each other: one route for all guests, and no neighbours.

use denali_config::Subnet;
use std::fs::OpenOptions;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Gives a descriptor of /dev/net/tun its interface.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;

/// Packets that wait for the switch.
const QUEUE_LENGTH: libc::c_int = 4096;

/// Makes the interface `name`, or opens it if there is one that this user may have, with the host's address
/// in the guests' network, and sets it up. It lasts as long as the descriptor.
///
/// # Errors
/// What is wrong, in one line.
pub(crate) fn open(name: &str, address: Subnet) -> Result<OwnedFd, String> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")
        .map_err(|error| format!("cannot open /dev/net/tun: {error}; modprobe tun"))?;
    let file = OwnedFd::from(file);
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    call(&file, TUNSETIFF, request).map_err(|error| {
        format!("cannot make the interface {name}: {error}; run as root, or leave it out")
    })?;
    configure(name, address)
        .map_err(|error| format!("cannot set up the interface {name}: {error}"))?;
    Ok(file)
}

fn configure(name: &str, address: Subnet) -> io::Result<()> {
    // SAFETY: a plain system call.
    let made = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was made by the call above and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(made) };
    let mask = u32::MAX << (32 - u32::from(address.prefix_len));
    let mut wanted = request(name);
    wanted.ifr_ifru.ifru_addr = socket_address(address.address);
    call(&socket, libc::SIOCSIFADDR, wanted)?;
    wanted.ifr_ifru.ifru_netmask = socket_address(Ipv4Addr::from(mask));
    call(&socket, libc::SIOCSIFNETMASK, wanted)?;
    // A queue's length is in the place of a metric.
    wanted.ifr_ifru.ifru_metric = QUEUE_LENGTH;
    call(&socket, libc::SIOCSIFTXQLEN, wanted)?;
    wanted.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    call(&socket, libc::SIOCSIFFLAGS, wanted)
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: all bytes zero is a request without a name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn call(descriptor: &OwnedFd, what: libc::c_ulong, mut request: libc::ifreq) -> io::Result<()> {
    // SAFETY: the kernel reads and writes the request, which is a copy and lives during the call.
    let done = unsafe { libc::ioctl(descriptor.as_raw_fd(), what, &raw mut request) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let [a, b, c, d] = address.octets().map(|byte| byte as libc::c_char);
    // Port 0, then the address.
    let sa_data = [0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0];
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data }
}
