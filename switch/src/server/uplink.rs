//! The TUN interface that leads to the host: packets without Ethernet header, one a call.

use crate::frame::ETHERNET;
use crate::header::{HEADER, Header};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0;
const TUNGETIFF: libc::Ioctl = 0x8004_54d2;
const TUNSETVNETHDRSZ: libc::Ioctl = 0x4004_54d8;

const TUN: libc::c_short = libc::IFF_TUN as libc::c_short;
const NO_INFORMATION: libc::c_short = libc::IFF_NO_PI as libc::c_short;
const WITH_HEADER: libc::c_short = libc::IFF_VNET_HDR as libc::c_short;

/// That checksums may be left to the switch.
const OFFLOAD_CHECKSUMS: libc::c_ulong = 1;

/// The interface.
#[derive(Debug)]
pub struct Uplink {
    file: OwnedFd,
    /// Packets have a virtio header, so that guests and host leave checksums to each other that nobody ever computes.
    with_header: bool,
}

impl Uplink {
    /// The interface of a descriptor of /dev/net/tun.
    ///
    /// # Errors
    /// When it is none for packets (IFF_TUN and IFF_NO_PI).
    pub fn new(file: OwnedFd) -> io::Result<Self> {
        // SAFETY: zeroes are a request without name and flags.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes the structure, which lives during the call.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), TUNGETIFF, &raw mut request) };
        Errno::result(result).map_err(|_| io::Error::other("the uplink is no TUN interface"))?;
        // SAFETY: this call writes the flags.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        if flags & (TUN | NO_INFORMATION) != TUN | NO_INFORMATION {
            let what = "the uplink is not a TUN interface made with IFF_TUN and IFF_NO_PI";
            return Err(io::Error::other(what));
        }
        let with_header = flags & WITH_HEADER != 0;
        if with_header {
            let size = HEADER as libc::c_int;
            // SAFETY: the kernel reads a number, which lives during the call.
            let set = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETVNETHDRSZ, &raw const size) };
            Errno::result(set)?;
            // SAFETY: a plain number.
            let set = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETOFFLOAD, OFFLOAD_CHECKSUMS) };
            Errno::result(set)?;
        }
        let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
        fcntl(&file, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self { file, with_header })
    }

    /// Reads a packet into a message, leaving room for the Ethernet header; bytes of the message.
    pub fn receive(&self, message: &mut [u8]) -> Result<usize, Errno> {
        let (header, rest) = message.split_at_mut(HEADER);
        let packet = &mut rest[ETHERNET..];
        header.fill(0);
        let own = if self.with_header { HEADER } else { 0 };
        let pieces = [
            libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: own },
            libc::iovec { iov_base: packet.as_mut_ptr().cast(), iov_len: packet.len() },
        ];
        loop {
            // SAFETY: both pieces are parts of the message, which lives during the call.
            let result = unsafe { libc::readv(self.file.as_raw_fd(), pieces.as_ptr(), 2) };
            match Errno::result(result) {
                Err(Errno::EINTR) => {}
                other => return Ok((other? as usize).saturating_sub(own) + HEADER + ETHERNET),
            }
        }
    }

    /// Writes a packet, whose checksum is completed where the host does not do it.
    pub fn send(&self, header: Header, packet: &mut [u8]) -> Result<(), Errno> {
        let mut bytes = header.for_host();
        let own = if self.with_header { HEADER } else { 0 };
        if !self.with_header {
            header.complete(packet);
        }
        let pieces = [
            libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: own },
            libc::iovec { iov_base: packet.as_mut_ptr().cast(), iov_len: packet.len() },
        ];
        loop {
            // SAFETY: the pieces live during the call, and are only read.
            let result = unsafe { libc::writev(self.file.as_raw_fd(), pieces.as_ptr(), 2) };
            match Errno::result(result) {
                Err(Errno::EINTR) => {}
                other => return other.map(|_| ()),
            }
        }
    }
}

impl AsRawFd for Uplink {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
