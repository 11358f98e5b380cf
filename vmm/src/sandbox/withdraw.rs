//! What a monitor that waits gives up beside system calls, as far as the host lets it: the file system, and the
//! capabilities of the superuser.

use nix::unistd::{chroot, fchdir};
use std::os::fd::OwnedFd;

/// Makes `root`, an empty folder that nobody can put anything in, all there is of the file system. Only who may do
/// that can; for all others, the filter stands alone between the monitor and files.
pub(super) fn leave_files(root: &OwnedFd) -> nix::Result<()> {
    fchdir(root)?;
    chroot(".")
}

/// Keeps of all capabilities those that setting up a guest may take: to have keys in memory where little may be
/// locked (CAP_IPC_LOCK), and to give a guest more than an ordinary share of the processor (CAP_SYS_NICE).
pub(super) fn drop_capabilities() -> nix::Result<()> {
    const IPC_LOCK: u32 = 14;
    const SYS_NICE: u32 = 23;
    let header = Header { version: VERSION_3, pid: 0 };
    let mut sets = [Sets::default(); 2];
    // SAFETY: header and sets are as the call takes them in this version, and writable.
    let got = unsafe { libc::syscall(libc::SYS_capget, &raw const header, sets.as_mut_ptr()) };
    nix::errno::Errno::result(got)?;
    let kept = [1 << IPC_LOCK | 1 << SYS_NICE, 0];
    for (sets, kept) in sets.iter_mut().zip(kept) {
        let kept = sets.permitted & kept;
        *sets = Sets { effective: kept, permitted: kept, inheritable: 0 };
    }
    // SAFETY: as above; the call only reads.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    nix::errno::Errno::result(set).map(drop)
}

/// `_LINUX_CAPABILITY_VERSION_3`: sets of 64 bits.
const VERSION_3: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    /// 0: this thread.
    pid: i32,
}

/// `struct __user_cap_data_struct`: 32 bits of each set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}
