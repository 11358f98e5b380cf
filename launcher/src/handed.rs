//! The other side of the pool: a monitor that was started before there is a guest for it gets one.
//!
//! At first it is told what to make before there is a guest. The guest comes in one message: the machine as JSON, and descriptors, of which the machine's numbers are
//! positions in the list. The first three are the monitor's standard streams; the socket that the message
//! comes through becomes the channel to its keeper.

use crate::inherit::FIRST;
use crate::spec::{MachineSpec, PreparationSpec};
use denali_control::{MESSAGE_MAX, Received, receive};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fmt::Display;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

/// Takes from a socket, non-blocking, what a keeper has told this monitor to make before it has a guest. `None`:
/// the keeper is gone.
///
/// # Errors
/// When what comes is no preparation.
pub fn await_preparation(socket: BorrowedFd<'_>) -> Result<Option<PreparationSpec>, String> {
    let mut buffer = Vec::new();
    match next_message(socket, None, &mut buffer)? {
        None => Ok(None),
        Some(_) => serde_json::from_slice(&buffer)
            .map(Some)
            .map_err(|error| format!("cannot understand what to make: {error}")),
    }
}

/// Waits at a socket, non-blocking, for the machine that a keeper hands over. `None`: the keeper is gone, or
/// `asked_to_end` is readable, and there is nothing to be run.
///
/// For programs with one thread that have done nothing with their standard streams yet: they become the
/// machine's.
///
/// # Errors
/// When what comes is no machine.
pub fn await_machine(
    socket: OwnedFd,
    asked_to_end: Option<BorrowedFd<'_>>,
) -> Result<Option<MachineSpec>, String> {
    let mut buffer = Vec::new();
    let Some(descriptors) = next_message(socket.as_fd(), asked_to_end, &mut buffer)? else {
        return Ok(None);
    };
    let mut spec = understand(&buffer)?;
    let streams = take_over(&mut spec, descriptors)?;
    for (number, stream) in (0..FIRST).zip(&streams) {
        replace(number, stream)?;
    }
    spec.control.channel = Some(socket.into_raw_fd());
    Ok(Some(spec))
}

/// The next message, in the buffer, and its descriptors; `None` if there will be none.
fn next_message(
    socket: BorrowedFd<'_>,
    asked_to_end: Option<BorrowedFd<'_>>,
    buffer: &mut Vec<u8>,
) -> Result<Option<Vec<OwnedFd>>, String> {
    let failed = |error: &dyn Display| format!("cannot receive the machine: {error}");
    // In memory from the start, as it is filled while a guest waits.
    buffer.resize(MESSAGE_MAX, 1);
    loop {
        let mut sources = vec![PollFd::new(socket, PollFlags::POLLIN)];
        sources.extend(asked_to_end.map(|source| PollFd::new(source, PollFlags::POLLIN)));
        match poll(&mut sources, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(failed(&error.desc())),
        }
        let asked = sources.get(1).and_then(PollFd::any).unwrap_or(false);
        match receive(socket, buffer) {
            Ok(Received::Message(descriptors)) => return Ok(Some(descriptors)),
            Ok(Received::Gone) => return Ok(None),
            // A guest that is there already is the one who is asked.
            Ok(Received::Nothing) if asked => return Ok(None),
            Ok(Received::Nothing) => {}
            Err(error) => return Err(failed(&error)),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use denali_control::{pair, send};

    fn refusal(message: &[u8]) -> String {
        let (ours, theirs) = pair().unwrap();
        send(ours.as_fd(), message, &[]).unwrap();
        await_machine(theirs, None).unwrap_err()
    }

    #[test]
    fn a_keeper_that_goes_leaves_nothing_to_run() {
        let (ours, theirs) = pair().unwrap();
        drop(ours);
        assert_eq!(await_preparation(theirs.as_fd()), Ok(None));
        assert_eq!(await_machine(theirs, None), Ok(None));
    }

    #[test]
    fn a_monitor_that_is_asked_to_end_while_it_waits_has_nothing_to_run() {
        let (asked, asking) = std::io::pipe().unwrap();
        drop(asking);
        let (ours, theirs) = pair().unwrap();
        assert_eq!(await_machine(theirs, Some(asked.as_fd())), Ok(None));
        drop(ours);
        let (ours, theirs) = pair().unwrap();
        send(ours.as_fd(), b"{}", &[]).unwrap();
        let error = await_machine(theirs, Some(asked.as_fd())).unwrap_err();
        assert!(
            error.starts_with("cannot understand the machine"),
            "its guest comes first: {error}"
        );
    }

    #[test]
    fn what_to_make_is_told_first() {
        let (ours, theirs) = pair().unwrap();
        let text = br#"{"kvm": 3, "userfault": null, "root": null, "likeness":
            {"kvm": true, "memory_size": 4194304, "swaps": false, "plain": true}}"#;
        send(ours.as_fd(), text, &[]).unwrap();
        let told = await_preparation(theirs.as_fd()).unwrap().unwrap();
        assert_eq!((told.kvm, told.likeness.memory_size), (Some(3), 4 << 20));
        send(ours.as_fd(), b"{}", &[]).unwrap();
        let error = await_preparation(theirs.as_fd()).unwrap_err();
        assert!(error.starts_with("cannot understand what to make: "), "{error}");
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
