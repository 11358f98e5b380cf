//! Monitors that another keeper left are taken over: each listens at a socket that is named for its process.

use super::Fleet;
use crate::clock;
use crate::event::{Event, Reason};
use crate::guest::{Living, Phase, State};
use crate::keeper::Keeper;
use crate::watcher::Token;
use denali_control::{Received, Request, Status, Tell, Told, connect, receive};
use denali_launcher::{LaunchError, Monitor, control_listener};
use denali_swap::GuestId;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long all monitors together may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How names of monitors' sockets end; before that is the process.
const ENDING: &str = ".sock";

/// Name of the socket of a monitor whose process is not known yet.
const NEXT: &str = "next.monitor";

impl Keeper<'_> {
    /// Takes over the monitors that are there.
    pub(crate) fn adopt_all(&mut self) {
        let Some(fleet) = &self.fleet else { return };
        let asked = ask_all(&fleet.told.run);
        let ids: HashMap<GuestId, u32> =
            (0..).zip(&self.guests).map(|(number, guest)| (guest.id, number)).collect();
        let until = Instant::now() + PATIENCE;
        let (mut adopted, mut buffer) = (0_u32, Vec::new());
        for (process, channel) in asked {
            let answer = hear(&channel, until, &mut buffer);
            let id = answer.as_ref().and_then(|status| status.guest_id.as_ref());
            let id: Option<GuestId> = id.and_then(|id| id.parse().ok());
            match id.and_then(|id| ids.get(&id).copied()) {
                Some(number) => {
                    self.adopt(number, process, channel);
                    adopted += 1;
                }
                None => {
                    let message = format!(
                        "process {process} is a monitor of no guest of this state, or does not answer; it is left alone"
                    );
                    self.teller.tell(&Event::Notice { name: "", message });
                }
            }
        }
        if adopted > 0 {
            let message = format!("{adopted} guests went on meanwhile");
            self.teller.tell(&Event::Notice { name: "", message });
        }
    }

    fn adopt(&mut self, number: u32, process: u32, channel: OwnedFd) {
        if !self.guests[number as usize].waits() || set_nonblocking(&channel).is_err() {
            return;
        }
        // Where it cannot be watched, its end is found by the next who asks it for something.
        let _ = self.watcher.add(channel.as_fd(), Token::Channel(number));
        let guest = &mut self.guests[number as usize];
        self.wheel.clear(number);
        guest.lives = guest.lives.saturating_add(1);
        guest.state = State::Lives(Box::new(Living {
            adopted: true,
            phase: Phase::Running,
            ..Living::new(Monitor { process, channel }, Reason::Again, clock::boot_ns())
        }));
        self.alive += 1;
        self.gate_found(number);
    }

    /// Takes away the socket of a monitor that has ended.
    pub(crate) fn remove_socket(&self, process: u32) {
        if let Some(fleet) = &self.fleet {
            // One that is left is found and removed by the next keeper.
            let _ = std::fs::remove_file(socket_of(&fleet.told.run, process));
        }
    }

    /// Sends a guest's monitor a signal.
    pub(crate) fn signal(&mut self, number: u32, signal: Signal) {
        let Some(living) = self.guests[number as usize].living() else { return };
        let process = nix::unistd::Pid::from_raw(living.monitor.process.cast_signed());
        if living.adopted {
            // It is nobody's child here: its number could be another's by now, unless its socket is there still.
            let _ = signal_by_descriptor(living, signal);
        } else {
            // It is a child that has not been waited for, so that the number is still its own.
            let _ = nix::sys::signal::kill(process, signal);
        }
    }
}

impl Fleet {
    /// The socket at which a monitor listens for whoever adopts it, made before it has a guest.
    pub(crate) fn socket_for(&self, process: u32) -> Result<OwnedFd, LaunchError> {
        control_listener(&socket_of(&self.told.run, process))
    }

    /// The socket of a monitor that is started next, until [`Fleet::name_socket`] says which process that is.
    pub(crate) fn socket_for_next(&self) -> Result<OwnedFd, LaunchError> {
        let path = self.told.run.join(NEXT);
        // What a keeper that was killed meanwhile has left behind.
        let _ = std::fs::remove_file(&path);
        control_listener(&path)
    }

    /// The socket that was made last is this process's.
    pub(crate) fn name_socket(&self, process: u32) {
        // A monitor whose socket has another name is not found by the next keeper, and goes on alone.
        let _ = std::fs::rename(self.told.run.join(NEXT), socket_of(&self.told.run, process));
    }
}

fn signal_by_descriptor(living: &Living, signal: Signal) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    let made = unsafe { libc::syscall(libc::SYS_pidfd_open, living.monitor.process, 0) };
    let number = Errno::result(made)?;
    // SAFETY: the descriptor was made by the call above and belongs to nobody else.
    let process = unsafe { OwnedFd::from_raw_fd(number as i32) };
    // Its end of the channel is open: so the process that had the number is the one that has it.
    let mut channel = [PollFd::new(living.monitor.channel.as_fd(), PollFlags::empty())];
    poll(&mut channel, PollTimeout::ZERO)?;
    if channel[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)) {
        return Err(Errno::ESRCH);
    }
    let null = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is a process's; no information goes along.
    let sent = unsafe {
        let call = libc::SYS_pidfd_send_signal;
        libc::syscall(call, process.as_raw_fd(), signal as libc::c_int, null, 0)
    };
    Errno::result(sent).map(drop)
}

fn socket_of(run: &Path, process: u32) -> PathBuf {
    run.join(format!("{process}{ENDING}"))
}

/// Asks all monitors that listen in a folder to be theirs. Sockets that nobody listens at are removed.
fn ask_all(run: &Path) -> Vec<(u32, OwnedFd)> {
    let mut asked = Vec::new();
    for entry in std::fs::read_dir(run).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(process) = name.strip_suffix(ENDING).and_then(|name| name.parse().ok()) else {
            continue;
        };
        match connect(&path) {
            Ok(channel) => {
                if (Request::Adopt {}).tell(channel.as_fd()).is_ok() {
                    asked.push((process, channel));
                }
            }
            Err(_) => {
                let _ = std::fs::remove_file(&path);
            }
        }
    }
    asked
}

/// What a monitor answers; `None` if it does not in time, or does not want.
fn hear(channel: &OwnedFd, until: Instant, buffer: &mut Vec<u8>) -> Option<Status> {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
    let mut sources = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
    if poll(&mut sources, timeout).is_ok_and(|ready| ready > 0)
        && let Ok(Received::Message(_)) = receive(channel.as_fd(), buffer)
        && let Ok(Told::Status(status)) = serde_json::from_slice(buffer)
    {
        return Some(status);
    }
    None
}

fn set_nonblocking(channel: &OwnedFd) -> Result<(), Errno> {
    fcntl(channel, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(drop)
}
