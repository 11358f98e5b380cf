//! Files in memory that nobody can change any more.

use crate::error::{LaunchError, host};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::uio::pwrite;
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// A new, empty file in memory, to be filled and then [sealed](seal). `name` shows in
/// `/proc/*/maps`.
pub(crate) fn create(name: &CStr) -> Result<OwnedFd, LaunchError> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Hosts can be set up to refuse files in memory that could be executed; kernels before 6.3 do
    // not know the flag.
    let file = match memfd_create(name, flags | MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL)) {
        Err(Errno::EINVAL) => memfd_create(name, flags),
        other => other,
    };
    file.map_err(|error| host("cannot create a file in memory", error))
}

/// Makes the file unchangeable, for everybody and for good.
pub(crate) fn seal(file: &OwnedFd) -> Result<(), LaunchError> {
    let all = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SEAL;
    match fcntl(file, FcntlArg::F_ADD_SEALS(all)) {
        Ok(_) => Ok(()),
        Err(error) => Err(host("cannot seal a file in memory", error)),
    }
}

/// A sealed file with these bytes, its position at the start.
pub(crate) fn from_bytes(name: &CStr, bytes: &[u8]) -> Result<OwnedFd, LaunchError> {
    let file = create(name)?;
    let mut written = 0;
    while written < bytes.len() {
        match pwrite(&file, &bytes[written..], written as i64) {
            Ok(0) => return Err(host("cannot fill a file in memory", Errno::ENOSPC)),
            Ok(count) => written += count,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(host("cannot fill a file in memory", error)),
        }
    }
    seal(&file)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};

    #[test]
    fn a_sealed_file_reads_from_its_start_and_cannot_change() {
        let mut file = File::from(from_bytes(c"test", b"content").unwrap());
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
        assert!(file.write_all(b"more").is_err());
        assert!(file.set_len(1).is_err());
        assert!(file.set_len(100).is_err());
    }
}
