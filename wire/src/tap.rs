//! A tap interface of the host as the wire of a network card.

use crate::error::OpenError;
use crate::interest::Interest;
use crate::sys;
use denali_devices::net::{NET_HEADER, NetBackend, Offers, Packet, Room, Sent, Wanted};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

/// Gives a descriptor of /dev/net/tun its interface.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
/// Says which frames the reader of a tap takes as they are: its argument is a set of `TUN_F_*`.
pub const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
/// Sets the bytes of the header before each frame.
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;

/// A tap interface, whose other side is an Ethernet interface of the host.
///
/// Frames travel with a virtio-net header, so that checksums and the cutting of large segments are
/// left to whoever needs them: mostly nobody does.
#[derive(Debug)]
pub struct Tap {
    file: OwnedFd,
    interest: Interest,
    /// What the driver takes, once there is one.
    agreed: Option<Wanted>,
    /// Frames may wait: none was missed since the service began.
    readable: bool,
    /// The interface was removed.
    gone: bool,
    counters: Counters,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    reads: u64,
    writes: u64,
    write_errors: u64,
}

impl Tap {
    /// Opens the tap interface `name`, for [`Tap::new`]. A persistent interface can be opened by its
    /// owner; who may administer the network gets one made, which lasts as long as the descriptor.
    ///
    /// # Errors
    /// When the kernel has no taps, or not this one for this user; each says what to do.
    pub fn open(name: &str) -> Result<OwnedFd, OpenError> {
        let request = interface_request(name)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")
            .map_err(|error| match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => OpenError::NoTunDevice,
                _ => OpenError::TunDevice(error),
            })?;
        let file = OwnedFd::from(file);
        // SAFETY: the kernel reads and writes the request, which lives during the call.
        let done = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw const request) };
        if done < 0 {
            return Err(refused(name, io::Error::last_os_error()));
        }
        let size = NET_HEADER as libc::c_int;
        // SAFETY: the kernel reads one integer.
        let done = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETVNETHDRSZ, &raw const size) };
        if done < 0 {
            let source = io::Error::last_os_error();
            return Err(OpenError::Other { what: "set the header size of a tap", source });
        }
        Ok(file)
    }

    /// A back end over a descriptor that [`Tap::open`] returned.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn new(file: OwnedFd) -> io::Result<Self> {
        let interest = Interest::new(&file)?;
        Ok(Self {
            file,
            interest,
            agreed: None,
            readable: false,
            gone: false,
            counters: Counters::default(),
        })
    }
}

/// Readable while the card should be serviced.
impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> RawFd {
        self.interest.as_raw_fd()
    }
}

fn interface_request(name: &str) -> Result<libc::ifreq, OpenError> {
    let usable = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':' | b'%');
    let fits = (1..libc::IFNAMSIZ).contains(&name.len()) && name.bytes().all(usable);
    if !fits || matches!(name, "." | "..") {
        return Err(OpenError::Name(name.to_owned()));
    }
    // SAFETY: all bytes zero is a request without a name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    Ok(request)
}

fn refused(name: &str, error: io::Error) -> OpenError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => OpenError::NoRight(name.to_owned()),
        Some(libc::EBUSY) => OpenError::Busy(name.to_owned()),
        Some(libc::EINVAL) => OpenError::NotTap(name.to_owned()),
        _ => OpenError::Other { what: "open a tap", source: error },
    }
}

impl NetBackend for Tap {
    fn offers(&self) -> Offers {
        Offers { checksums: true, segments: true }
    }

    fn agree(&mut self, wanted: Option<Wanted>) {
        self.agreed = wanted;
        let offload = wanted.map_or(0, offload);
        // A tap refuses no set of these. Were it to, a frame that the driver does not take would be
        // dropped by the card, which looks at every header.
        // SAFETY: the argument is a number.
        unsafe { libc::ioctl(self.file.as_raw_fd(), TUNSETOFFLOAD, offload) };
        self.interest.set(wanted.is_some() && !self.gone, false);
    }

    fn begin(&mut self, _now_ns: u64) {
        self.readable = self.agreed.is_some() && !self.gone;
    }

    fn transmit(&mut self, packet: &Packet<'_, '_>) -> Sent {
        self.counters.writes += 1;
        // An interface that is down, or whose queue is full, loses frames as any wire does.
        if sys::write(self.file.as_fd(), packet.pieces()).is_err() {
            self.counters.write_errors += 1;
        }
        Sent::Taken
    }

    fn process(&mut self) {}

    fn ready(&mut self) -> bool {
        self.readable
    }

    fn receive(&mut self, room: &mut Room<'_, '_>) -> Option<usize> {
        if !self.readable {
            return None;
        }
        match sys::read(self.file.as_fd(), room.pieces()) {
            Ok(length) if length >= NET_HEADER => {
                self.counters.reads += 1;
                Some(length)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                None
            }
            Ok(_) | Err(_) => {
                self.readable = false;
                self.gone = true;
                self.interest.set(false, false);
                None
            }
        }
    }

    fn want_frames(&mut self, wanted: bool) {
        self.interest.set(wanted && self.agreed.is_some() && !self.gone, false);
    }

    fn link_up(&self) -> bool {
        !self.gone
    }

    fn has_work(&self) -> bool {
        false
    }

    fn deadline(&self) -> Option<u64> {
        None
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("tap_reads", self.counters.reads),
            ("tap_writes", self.counters.writes),
            ("tap_write_errors", self.counters.write_errors),
            ("tap_gone", u64::from(self.gone)),
        ]
    }
}

/// The driver's agreement as the kernel has it.
fn offload(wanted: Wanted) -> libc::c_uint {
    if !wanted.checksums {
        return 0;
    }
    let segments = |wanted, flag| if wanted { flag } else { 0 };
    libc::TUN_F_CSUM
        | segments(wanted.segments_v4, libc::TUN_F_TSO4)
        | segments(wanted.segments_v6, libc::TUN_F_TSO6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_interfaces() {
        for name in ["", "sixteen-letters-", "a b", "a/b", "a:b", ".", "..", "tap%d", "t\0p", "täp"]
        {
            assert!(matches!(Tap::open(name), Err(OpenError::Name(_))), "{name:?}");
        }
        let request = interface_request("fifteen.letters").expect("the longest name");
        assert_eq!(request.ifr_name[15], 0);
    }

    #[test]
    fn the_driver_gets_what_it_takes_and_no_segments_without_checksums() {
        let all = Wanted { checksums: true, segments_v4: true, segments_v6: true };
        assert_eq!(offload(all), 0b111);
        assert_eq!(offload(Wanted { segments_v6: false, ..all }), 0b011);
        assert_eq!(offload(Wanted { checksums: false, ..all }), 0);
    }
}
