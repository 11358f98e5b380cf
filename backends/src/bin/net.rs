//! `denali-vhost-user-net`: a virtio network card for other virtual machine monitors, on a tap.

use clap::Parser;
use denali_backends::arguments::{EXIT_STATUSES, SocketArguments, start};
use denali_backends::sandbox::{Allowed, Needs, any, equal};
use denali_backends::serve::Service;
use denali_backends::{Device, arguments};
use denali_devices::net::{NetConfig, NetDevice};
use denali_wire::{TUNSETOFFLOAD, Tap};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;

const NAME: &str = "denali-vhost-user-net";

/// What `--print-capabilities` prints.
const CAPABILITIES: &str = r#"{"type": "net", "features": ["tap", "mtu"]}"#;

/// System calls of the card while it is used.
const USED: &[Allowed] = &[
    any(libc::SYS_readv, "frames for the guest"),
    any(libc::SYS_writev, "frames of the guest"),
    equal(libc::SYS_ioctl, 1, TUNSETOFFLOAD, "what the driver takes"),
];

const EXAMPLES: &str = "\
Examples:
  ip tuntap add tap0 mode tap user $USER vnet_hdr && ip link set tap0 up       (once, as root)
  denali-vhost-user-net --socket-path=/run/net.sock --tap=tap0
  qemu-system-x86_64 … -object memory-backend-memfd,id=ram,size=1G,share=on -machine memory-backend=ram \\
      -chardev socket,id=net,path=/run/net.sock -netdev vhost-user,id=net0,chardev=net \\
      -device virtio-net-pci,netdev=net0
  denali run vm.json --set net.0.backend.vhost-user=/run/net.sock";

/// Serve a virtio network card on a tap interface to a virtual machine monitor, over vhost-user.
///
/// One front end is served at a time; when it leaves, the next may come. Each is served by a process of
/// its own, which can open nothing.
#[derive(Debug, Parser)]
#[command(name = NAME, version, after_help = end())]
struct Arguments {
    #[command(flatten)]
    socket: SocketArguments,
    /// The tap interface. Whoever may administer the network gets one made if there is none.
    #[arg(long, value_name = "NAME", required_unless_present = "print_capabilities")]
    tap: Option<String>,
    /// Most bytes of an IP packet.
    #[arg(long, value_name = "BYTES", default_value_t = 1500)]
    #[arg(value_parser = clap::value_parser!(u16).range(68..))]
    mtu: u16,
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
    let tap = match Tap::open(arguments.tap.as_deref().unwrap_or_default()) {
        Ok(tap) => tap,
        Err(error) => return arguments::lacking(&format!("--tap: {error}")),
    };
    let socket = match arguments.socket.open() {
        Ok(socket) => socket,
        Err(error) => return arguments::lacking(&error.to_string()),
    };
    // The card's address is the front end's affair; this one is seen by nobody.
    let config = NetConfig { mac: [2, 0, 0, 0, 0, 1], mtu: arguments.mtu };
    let needs = Needs { used: USED.to_vec(), made: Vec::new() };
    let once = arguments.socket.once;
    Service { device: || card(&tap, config), needs, once }.run(socket)
}

fn card(tap: &OwnedFd, config: NetConfig) -> io::Result<Device> {
    let tap = Tap::new(tap.try_clone()?)?;
    let wake = Some(tap.as_raw_fd());
    Ok(Device { device: Box::new(NetDevice::new(config, tap)), wake, config: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }
}
