//! `denali-vhost-user-blk`: a virtio disk for other virtual machine monitors, in a file or a striped set
//! of files.

use clap::{Parser, ValueEnum};
use denali_backends::Device;
use denali_backends::arguments::{EXIT_STATUSES, SocketArguments, lacking, start};
use denali_backends::sandbox::{Allowed, Needs, any};
use denali_backends::serve::Service;
use denali_devices::block::{BlockConfig, BlockDevice};
use denali_disk::{Access, Disk, DiskOptions, Issuer, Method};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const NAME: &str = "denali-vhost-user-blk";

/// What `--print-capabilities` prints.
const CAPABILITIES: &str = r#"{"type": "block", "features": ["read-only", "blk-file"]}"#;

/// System calls that make a disk of open files, for each front end anew.
#[rustfmt::skip]
const MADE: &[Allowed] = &[
    any(libc::SYS_fcntl, "whether a file can be written, descriptors for the disk's own use"),
    any(libc::SYS_ioctl, "block sizes of a block device"),
    any(libc::SYS_io_uring_setup, "the ring"),
    any(libc::SYS_io_uring_register, "what the ring may do, before it may do anything"),
    any(libc::SYS_timerfd_create, "completed requests collected together"),
];

const EXAMPLES: &str = "\
Examples:
  truncate -s 10G disk.img
  denali-vhost-user-blk --socket-path=/run/blk.sock --blk-file=disk.img
  denali-vhost-user-blk --socket-path=/run/blk.sock --blk-file=/dev/sda --blk-file=/dev/sdb --stripe-unit=128
  qemu-system-x86_64 … -object memory-backend-memfd,id=ram,size=1G,share=on -machine memory-backend=ram \\
      -chardev socket,id=blk,path=/run/blk.sock,reconnect=1 -device vhost-user-blk-pci,chardev=blk
  denali run vm.json --set block.0.backend.vhost-user=/run/blk.sock";

/// Serve a virtio disk to a virtual machine monitor, over vhost-user.
///
/// The disk is a raw file, a block device, or a striped set (RAID-0) of either. One front end is served at
/// a time; when it leaves, the next may come. Each is served by a process of its own, which can open
/// nothing. Requests in flight are not lost if that process ends: the front end hands them to the next.
#[derive(Debug, Parser)]
#[command(name = NAME, version, after_help = end())]
struct Arguments {
    #[command(flatten)]
    socket: SocketArguments,
    /// File or block device with the disk's content. Given several times, the disk is striped over them,
    /// in this order; all count as large as the smallest.
    #[arg(long, value_name = "PATH", required_unless_present = "print_capabilities")]
    blk_file: Vec<PathBuf>,
    /// The disk cannot be written. Several back ends may serve the same file then.
    #[arg(long)]
    read_only: bool,
    /// KiB that stay together in one file of a striped set: a power of two, at least 4.
    #[arg(long, value_name = "KIB", default_value_t = 64)]
    stripe_unit: u32,
    /// Go past the host's page cache (O_DIRECT).
    #[arg(long)]
    direct: bool,
    /// How files are read and written.
    #[arg(long, value_enum, default_value_t = IoMethod::Auto)]
    io: IoMethod,
    /// The name that the guest finds, at most 20 bytes.
    #[arg(long, value_name = "NAME", default_value = "denali")]
    serial: String,
}

/// How files are read and written.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum IoMethod {
    /// With io_uring where the host has it, else with plain calls.
    Auto,
    /// With io_uring, or not at all.
    #[value(name = "io_uring")]
    IoUring,
    /// With plain calls, one request after the other.
    Sync,
}

fn end() -> String {
    format!("{EXAMPLES}\n\n{EXIT_STATUSES}")
}

fn main() -> ExitCode {
    start(NAME, run)
}

fn run(arguments: &Arguments) -> u8 {
    if arguments.socket.print_capabilities {
        println!("{CAPABILITIES}");
        return 0;
    }
    let files = match open(arguments) {
        Ok(files) => files,
        Err(message) => return lacking(&message),
    };
    // A disk that cannot be served is better known before a front end asks for it.
    if let Err(error) = disk(&files, arguments) {
        return lacking(&error.to_string());
    }
    let socket = match arguments.socket.open() {
        Ok(socket) => socket,
        Err(error) => return lacking(&error.to_string()),
    };
    let needs = Needs { used: used(), made: MADE.to_vec() };
    let once = arguments.socket.once;
    Service { device: || disk(&files, arguments), needs, once }.run(socket)
}

fn open(arguments: &Arguments) -> Result<Vec<OwnedFd>, String> {
    let access = Access { read_only: arguments.read_only, direct: arguments.direct };
    let open = |path: &PathBuf| {
        denali_disk::open(path, access).map_err(|error| refused(path, &error.to_string()))
    };
    arguments.blk_file.iter().map(open).collect()
}

fn refused(path: &Path, error: &str) -> String {
    format!("--blk-file: {}: {error}", path.display())
}

/// The disk, made of descriptors of its own.
fn disk(files: &[OwnedFd], arguments: &Arguments) -> io::Result<Device> {
    let files: Vec<OwnedFd> = files.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
    let options = DiskOptions {
        direct: arguments.direct,
        method: match arguments.io {
            IoMethod::Auto => Method::Auto,
            IoMethod::IoUring => Method::IoUring,
            IoMethod::Sync => Method::Plain,
        },
        issuer: Issuer::ThisThread,
        stripe_unit: u64::from(arguments.stripe_unit) << 10,
        ..DiskOptions::default()
    };
    let disk = Disk::new(files, &options).map_err(|error| io::Error::other(error.to_string()))?;
    let wake = disk.descriptor();
    let config = BlockConfig::new(&arguments.serial, arguments.read_only);
    Ok(Device { device: Box::new(BlockDevice::new(config, disk)), wake, config: true })
}

/// What a disk calls while it is used.
fn used() -> Vec<Allowed> {
    denali_disk::SYSTEM_CALLS.iter().map(|&(call, _, reason)| any(call, reason)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }
}
