//! The TUN interface through which host and guests reach each other: opened, made if there is none, and set up.

use crate::options::Options;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

const TUNSETIFF: libc::Ioctl = 0x4004_54ca;

/// Opens the TUN interface `name`, or makes one that goes when the switch does, and sees to it that it is up, with the
/// gateway's address, the subnet's prefix and the MTU of `options`. To make it or to change something takes CAP_NET_ADMIN; an interface that
/// was made for this user, and is as it should be, can be opened without.
///
/// # Errors
/// One line that names the interface and what could not be done.
pub fn open(name: &str, options: &Options) -> io::Result<OwnedFd> {
    let failed = |what: &str| {
        let what = format!("cannot {what} the TUN interface {name}");
        move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"))
    };
    let file = File::options().read(true).write(true).open("/dev/net/tun");
    let file = file.map_err(failed("open /dev/net/tun for"))?;
    let mut request = request(name)?;
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    ioctl(&file, TUNSETIFF, &mut request).map_err(failed("open"))?;
    let kind = SockFlag::SOCK_CLOEXEC;
    let any = socket(AddressFamily::Inet, SockType::Datagram, kind, None)?;
    set_up(&any, name, options).map_err(failed("set up"))?;
    Ok(file.into())
}

/// Changes what is not as it should be.
fn set_up(any: &OwnedFd, name: &str, options: &Options) -> io::Result<()> {
    let mask = Ipv4Addr::from_bits(u32::MAX << (32 - u32::from(options.prefix_len)));
    for (get, set, wanted) in [
        (libc::SIOCGIFADDR, libc::SIOCSIFADDR, options.gateway),
        (libc::SIOCGIFNETMASK, libc::SIOCSIFNETMASK, mask),
    ] {
        let mut request = request(name)?;
        // It fails where there is none.
        let is_so = ioctl(any, get, &mut request).is_ok() && read_address(&request) == wanted;
        if !is_so {
            write_address(&mut request, wanted);
            ioctl(any, set, &mut request)?;
        }
    }
    let mut mtu = request(name)?;
    ioctl(any, libc::SIOCGIFMTU, &mut mtu)?;
    // SAFETY: the call before has written this number.
    if unsafe { mtu.ifr_ifru.ifru_mtu } != libc::c_int::from(options.mtu) {
        mtu.ifr_ifru.ifru_mtu = options.mtu.into();
        ioctl(any, libc::SIOCSIFMTU, &mut mtu)?;
    }
    let mut state = request(name)?;
    ioctl(any, libc::SIOCGIFFLAGS, &mut state)?;
    // SAFETY: the call before has written these flags.
    let flags = unsafe { state.ifr_ifru.ifru_flags };
    let up = libc::IFF_UP as libc::c_short;
    if flags & up == 0 {
        state.ifr_ifru.ifru_flags = flags | up;
        ioctl(any, libc::SIOCSIFFLAGS, &mut state)?;
    }
    Ok(())
}

/// A request about the interface.
fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: zeroes are a request without name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let fits = (1..request.ifr_name.len()).contains(&name.len());
    if !fits || name.bytes().any(|byte| byte == 0 || byte == b'/' || byte == b'%') {
        let what =
            format!("{name:?} is no name of an interface: 1 to 15 bytes, none of them / or %");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn ioctl(on: &impl AsRawFd, what: impl Into<u64>, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: all of these read or write a request, which lives during the call.
    let done = unsafe { libc::ioctl(on.as_raw_fd(), what.into(), std::ptr::from_mut(request)) };
    Errno::result(done)?;
    Ok(())
}

fn write_address(request: &mut libc::ifreq, address: Ipv4Addr) {
    let to = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: address.to_bits().to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: both are plain numbers, of one size.
    request.ifr_ifru.ifru_addr =
        unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(to) };
}

fn read_address(request: &libc::ifreq) -> Ipv4Addr {
    // SAFETY: a call has written an address here; if not of IPv4, its bytes are numbers all the same.
    let read = unsafe {
        std::mem::transmute::<libc::sockaddr, libc::sockaddr_in>(request.ifr_ifru.ifru_addr)
    };
    Ipv4Addr::from_bits(u32::from_be(read.sin_addr.s_addr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_name_is_said() {
        for name in ["", "sixteen-bytes-at", "a/b", "tun%d"] {
            assert!(request(name).is_err_and(|error| error.to_string().contains("is no name")));
        }
        assert!(request("fifteen-bytes-a").is_ok());
    }

    #[test]
    fn addresses_are_read_as_they_were_written() {
        let mut asked = request("tun0").unwrap();
        write_address(&mut asked, Ipv4Addr::new(10, 64, 0, 1));
        assert_eq!(read_address(&asked), Ipv4Addr::new(10, 64, 0, 1));
    }
}
