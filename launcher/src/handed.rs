//! The other side of the pool: a monitor that was started before there is a guest for it gets one.
//!
//! It comes in one message: the machine as JSON, and descriptors, of which the machine's numbers are
//! positions in the list. The first three are the monitor's standard streams; the socket that the message
//! comes through becomes the channel to its keeper.

use crate::inherit::FIRST;
use crate::spec::MachineSpec;
use denali_control::{Received, receive};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};

/// Waits at a socket, non-blocking before and after, for the machine that a keeper hands over. `None`: the
/// keeper is gone, and there is nothing to be run.
///
/// For programs with one thread that have done nothing with their standard streams yet: they become the
/// machine's.
///
/// # Errors
/// When what comes is no machine.
pub fn await_machine(socket: OwnedFd) -> Result<Option<MachineSpec>, String> {
    let mut buffer = Vec::new();
    set_waiting(&socket, true)?;
    let descriptors = loop {
        match receive(socket.as_fd(), &mut buffer) {
            Ok(Received::Message(descriptors)) => break descriptors,
            Ok(Received::Gone) => return Ok(None),
            Ok(Received::Nothing) => {}
            Err(error) => return Err(format!("cannot receive the machine: {error}")),
        }
    };
    set_waiting(&socket, false)?;
    let mut spec = understand(&buffer)?;
    let streams = take_over(&mut spec, descriptors)?;
    for (number, stream) in (0..FIRST).zip(&streams) {
        replace(number, stream)?;
    }
    spec.control.channel = Some(socket.into_raw_fd());
    Ok(Some(spec))
}

pub(crate) fn understand(message: &[u8]) -> Result<MachineSpec, String> {
    let spec: MachineSpec = serde_json::from_slice(message)
        .map_err(|error| format!("cannot understand the machine: {error}"))?;
    match spec.control.channel {
        None => Ok(spec),
        Some(_) => Err("the machine has another channel already".into()),
    }
}

/// Numbers the machine's descriptors as they are here, and returns the standard streams. What it does not
/// name is closed.
pub(crate) fn take_over(
    spec: &mut MachineSpec,
    descriptors: Vec<OwnedFd>,
) -> Result<Vec<OwnedFd>, String> {
    let mut streams = descriptors;
    if streams.len() < FIRST as usize {
        return Err("the machine has no standard streams".into());
    }
    let rest = streams.split_off(FIRST as usize);
    let mut rest: Vec<Option<OwnedFd>> = rest.into_iter().map(Some).collect();
    let mut missing = None;
    spec.descriptors_mut(&mut |number| {
        let place = number.checked_sub(FIRST).and_then(|place| usize::try_from(place).ok());
        match place.and_then(|place| rest.get_mut(place)).and_then(Option::take) {
            Some(descriptor) => *number = descriptor.into_raw_fd(),
            None => missing = Some(*number),
        }
    });
    match missing {
        None => Ok(streams),
        Some(number) => {
            Err(format!("descriptor {number} of the machine did not come, or is named twice"))
        }
    }
}

/// Puts a descriptor in the place of a standard stream.
fn replace(number: RawFd, stream: &OwnedFd) -> Result<(), String> {
    // SAFETY: nobody owns the numbers of the standard streams; they are meant to be given a new meaning, and
    // nothing is in the midst of using them.
    let done = unsafe { libc::dup2(stream.as_raw_fd(), number) };
    Errno::result(done)
        .map(drop)
        .map_err(|error| format!("cannot set up the standard streams: {}", error.desc()))
}

/// Has calls on the socket wait, or not.
fn set_waiting(socket: &OwnedFd, waiting: bool) -> Result<(), String> {
    let flags = if waiting { OFlag::empty() } else { OFlag::O_NONBLOCK };
    match fcntl(socket, FcntlArg::F_SETFL(flags)) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("cannot set up the channel: {}", error.desc())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use denali_control::{pair, send};

    fn refusal(message: &[u8]) -> String {
        let (ours, theirs) = pair().unwrap();
        send(ours.as_fd(), message, &[]).unwrap();
        await_machine(theirs).unwrap_err()
    }

    #[test]
    fn a_keeper_that_goes_leaves_nothing_to_run() {
        let (ours, theirs) = pair().unwrap();
        drop(ours);
        assert_eq!(await_machine(theirs), Ok(None));
    }

    #[test]
    fn what_is_no_machine_is_refused_before_anything_is_exchanged() {
        assert!(refusal(b"{}").starts_with("cannot understand the machine: missing field"));
        assert!(refusal(&[b' '; 100_000]).starts_with("cannot receive the machine: "));
        let machine = br#"{"name": "m", "hypervisor": "process", "memory_size": 65536,
            "image": {"file": 3, "name": "i", "hash": ""}, "arguments": "", "net": [], "block": [],
            "console": [], "entropy": [], "cpu": {"window_ns": 1, "count": 0, "sleep": true, "spin_ns": 0,
            "deep_after_ns": 5, "niceness": 0, "quantum_ns": 9}, "output": "human", "report": null,
            "swap": null, "control": {"listener": null, "channel": null, "configuration": null},
            "resume": null, "boot_id": ""}"#;
        assert_eq!(refusal(machine), "the machine has no standard streams");
        let text = String::from_utf8(machine.to_vec()).unwrap();
        let other = text.replace(r#""channel": null"#, r#""channel": 3"#);
        assert_eq!(refusal(other.as_bytes()), "the machine has another channel already");
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let mut spec = understand(machine).unwrap();
        let error = take_over(&mut spec, vec![null(), null(), null()]).unwrap_err();
        assert_eq!(error, "descriptor 3 of the machine did not come, or is named twice");
    }
}
