//! The switch: the keeper's connection to it, and guests' ports of it.

use super::Fleet;
use crate::clock;
use crate::event::{Event, Reason};
use crate::guest::{Phase, State};
use crate::keeper::Keeper;
use crate::watcher::Token;
use denali_client::Desired;
use denali_config::{AmongGuests, Document, NetBackend, Protocol, Publish, SwitchBackend};
use denali_control::{Request, Tell, pair};
use denali_launcher::{LaunchError, open_port};
use denali_switch::client::{PORTS_IN_MESSAGE, Table, control_socket};
use denali_switch::protocol::{Ask, Port, Told, VERSION};
use denali_switch::{Client, Options, Policy, start, tun};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Name of the switch's socket.
pub(crate) const SWITCH_SOCKET: &str = "switch.sock";

/// The switch's MAC address; guests' follow from their numbers.
const SWITCH_MAC: [u8; 6] = [0x02, 0x44, 0xff, 0xff, 0xff, 0xff];

/// How long a switch may take to say who it is.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);

/// Most messages of the switch that are heard before others are.
const MESSAGES_MAX: usize = 64;

/// How often it is waited for a switch that is behind, and for how long each time, in ms.
const ROOM_TRIES: u32 = 20;
const ROOM_PATIENCE_MS: u16 = 100;

/// How long after a failure the switch is started again, in ns.
const AGAIN_NS: u64 = 1_000_000_000;

/// A connection to the switch.
pub(crate) struct Network {
    client: Client,
    activity: Activity,
    /// Whether it was started just now, and knows no ports.
    pub(crate) is_new: bool,
}

/// What ports do, in the table that the switch shares.
pub(crate) struct Activity(Table);

impl Activity {
    /// When a guest last sent or got a packet, in ns of the boot time; 0 = never.
    pub(crate) fn last_ns(&self, number: u32) -> u64 {
        use std::sync::atomic::Ordering::Relaxed;
        self.0.get(number).map_or(0, |port| port.last_ms.load(Relaxed).saturating_mul(1_000_000))
    }

    /// Packets that it sent and got.
    pub(crate) fn packets(&self, number: u32) -> u64 {
        use std::sync::atomic::Ordering::Relaxed;
        let sum = |port: &denali_switch::protocol::Activity| {
            port.sent.load(Relaxed).wrapping_add(port.received.load(Relaxed))
        };
        self.0.get(number).map_or(0, sum)
    }
}

impl Network {
    /// Connects to the switch that is there, or starts one.
    ///
    /// # Errors
    /// What is wrong, in one line.
    pub(crate) fn open(told: &super::Supervision) -> Result<Self, String> {
        let path = told.run.join(SWITCH_SOCKET);
        let (client, is_new) = match Client::connect(&path) {
            Ok(client) => (client, false),
            Err(_) => (begin(told, &path)?, true),
        };
        let activity = greet(client).map_err(|error| format!("the switch: {error}"))?;
        Ok(Self { client: activity.0, activity: activity.1, is_new })
    }

    /// Readable when the switch says something.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }

    /// What ports do.
    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Makes the wire of a guest that gets a monitor; the monitor's end.
    pub(crate) fn connect(&self, number: u32) -> io::Result<OwnedFd> {
        let (ours, theirs) = pair()?;
        self.ask(&Ask::Connect { port: number }, Some(theirs.as_fd()))?;
        Ok(ours)
    }

    /// Has the switch have these ports.
    pub(crate) fn set(&self, ports: &[Port]) -> io::Result<()> {
        for some in ports.chunks(PORTS_IN_MESSAGE) {
            self.ask(&Ask::Set { ports: some.to_vec() }, None)?;
        }
        Ok(())
    }

    /// Asks; a switch that is behind is waited for, for a moment.
    fn ask(&self, ask: &Ask, passed: Option<BorrowedFd<'_>>) -> io::Result<()> {
        for _ in 0..ROOM_TRIES {
            match self.client.ask(ask, passed) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut socket = [PollFd::new(self.client.as_fd(), PollFlags::POLLOUT)];
                    poll(&mut socket, ROOM_PATIENCE_MS)?;
                }
                done => return done,
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "it takes no requests"))
    }

    /// Has the switch forget a port.
    pub(crate) fn remove(&self, number: u32) -> io::Result<()> {
        self.ask(&Ask::Remove { ports: vec![number] }, None)
    }

    /// Has a port of the host lead into a guest.
    pub(crate) fn publish(
        &self,
        number: u32,
        publish: &Publish,
        socket: &OwnedFd,
    ) -> io::Result<()> {
        let udp = publish.protocol == Protocol::Udp;
        let ask = Ask::Publish { port: number, guest_port: publish.guest_port, udp };
        self.ask(&ask, Some(socket.as_fd()))
    }

    /// Asks for all that is wanted.
    pub(crate) fn ask_for_all(&self) -> io::Result<()> {
        self.ask(&Ask::Ports {}, None)
    }

    /// Has it end.
    pub(crate) fn end(&self) {
        // One that is gone has ended.
        let _ = self.client.ask(&Ask::End {}, None);
    }
}

/// Starts a switch, and connects to it.
fn begin(told: &super::Supervision, path: &PathBuf) -> Result<Client, String> {
    let network = &told.host.network;
    // What a switch that has ended left behind.
    let _ = std::fs::remove_file(path);
    let fail = |error: io::Error| format!("cannot start the switch: {error}");
    let control = control_socket(path).map_err(fail)?;
    let address = network.address;
    let mut options = Options::new(address.address, address.prefix_len, SWITCH_MAC);
    options.policy = match network.among_guests {
        AmongGuests::Isolated => Policy::Isolated,
        AmongGuests::Tenant => Policy::Group,
        AmongGuests::Open => Policy::Open,
    };
    let tun = network.tun.as_ref().map(|name| tun::open(name, &options)).transpose();
    let tun = tun.map_err(|error| format!("network.tun: {error}"))?;
    // It lives on without this process; its end is told of by its connection's.
    start(&told.switch, &control, tun.as_ref(), &options).map_err(fail)?;
    Client::connect(path).map_err(fail)
}

/// Says hello, and hears who is there; nothing waits afterwards.
fn greet(mut client: Client) -> io::Result<(Client, Activity)> {
    client.ask(&Ask::Hello { version: VERSION }, None)?;
    let until = Instant::now() + HELLO_PATIENCE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut socket = [PollFd::new(client.as_fd(), PollFlags::POLLIN)];
        if poll(&mut socket, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO))? == 0 {
            break;
        }
        let Some((told, passed)) = client.receive()? else { break };
        if let (Told::Hello { version, .. }, Some(table)) = (told, passed) {
            if version != VERSION {
                return Err(io::Error::other(format!(
                    "it speaks version {version} of the protocol, and this program {VERSION}; end it"
                )));
            }
            set_nonblocking(&client)?;
            return Ok((client, Activity(Table::map(&table)?)));
        }
    }
    Err(io::Error::other("it does not answer"))
}

fn set_nonblocking(client: &Client) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(client.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

/// The MAC address of guest `number`.
pub(crate) fn mac(number: u32) -> [u8; 6] {
    let [a, b, c, d] = number.to_be_bytes();
    [0x02, 0x44, a, b, c, d]
}

impl Fleet {
    /// The address of guest `number`; `None` if the network is too small.
    pub(crate) fn address(&self, number: u32) -> Option<Ipv4Addr> {
        let network = self.told.host.network.address;
        let gateway = u32::from(network.address);
        let base = gateway & (u32::MAX << (32 - u32::from(network.prefix_len)));
        let address = base.checked_add(number)?.checked_add(1)?;
        // The one that would be the gateway's, and those behind it, move up.
        let address = if address >= gateway { address.checked_add(1)? } else { address };
        let address = Ipv4Addr::from(address);
        network.has_host(address).then_some(address)
    }
}

/// What a guest's configuration says of its port of the switch.
pub(crate) fn switch_of(document: &Document) -> Option<SwitchBackend> {
    let guest = document.guest().ok()?;
    guest.net.into_iter().find_map(|net| match net.backend {
        NetBackend::Switch(switch) => Some(switch),
        _ => None,
    })
}

impl Keeper<'_> {
    /// The port of a guest.
    pub(crate) fn port(&mut self, number: u32, wakes: Vec<u16>) -> Option<Port> {
        let guest = &self.guests[number as usize];
        let address = guest.file.address?;
        let fleet = self.fleet.as_mut()?;
        let group = fleet.tenant(&guest.file.tenant);
        Some(Port { number, address, mac: mac(number), group, wakes, rate: 0 })
    }

    /// Opens what a guest publishes, and has the switch carry it.
    pub(crate) fn publish(
        &mut self,
        number: u32,
        document: &Document,
        switch: &SwitchBackend,
    ) -> Result<(), LaunchError> {
        for (index, publish) in switch.publish.iter().enumerate() {
            let field = format!("net.switch.publish[{index}]");
            let (socket, host) = open_port(publish, document, &field)?;
            let network = self.fleet.as_ref().and_then(|fleet| fleet.network.as_ref());
            let network = network.ok_or_else(|| LaunchError::Host("there is no switch".into()))?;
            network
                .publish(number, publish, &socket)
                .map_err(|error| LaunchError::Host(format!("the switch: {error}")))?;
            let name = &self.guests[number as usize].name;
            self.teller.tell(&Event::Published {
                name,
                host,
                device: 0,
                guest_port: publish.guest_port,
                protocol: publish.protocol.to_string(),
            });
        }
        Ok(())
    }

    /// Hears what the switch says.
    pub(crate) fn hear_switch(&mut self) {
        for _ in 0..MESSAGES_MAX {
            let Some(network) = self.fleet.as_mut().and_then(|fleet| fleet.network.as_mut()) else {
                return;
            };
            match network.client.receive() {
                Ok(Some((told, _))) => self.switch_says(told),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(None) => return self.switch_gone("it has ended"),
                Err(error) => return self.switch_gone(&error.to_string()),
            }
        }
    }

    fn switch_says(&mut self, told: Told) {
        match told {
            Told::Wanted { ports } => {
                for number in ports {
                    match self.guests.get_mut(number as usize).map(|guest| &mut guest.state) {
                        Some(State::Waits) if self.stops == 0 => self.wake(number, Reason::Arrival),
                        // Its monitor is about to end, and has closed its wire already.
                        Some(State::Lives(living)) => living.wanted = true,
                        _ => {}
                    }
                }
            }
            Told::Problem { message } => {
                let message = format!("the switch: {message}");
                self.teller.tell(&Event::Notice { name: "", message });
            }
            Told::Hello { .. }
            | Told::Connected { .. }
            | Told::Gone { .. }
            | Told::Counters { .. } => {}
        }
    }

    /// The switch has gone: another one is started, and guests that run are written down, to come back with
    /// wires that lead somewhere.
    fn switch_gone(&mut self, why: &str) {
        let Some(fleet) = &mut self.fleet else { return };
        if let Some(network) = fleet.network.take() {
            self.watcher.remove(network.descriptor());
        }
        let message = format!("the switch is gone ({why}); another one is started");
        self.teller.tell(&Event::Notice { name: "", message });
        self.connect_switch();
        for guest in &mut self.guests {
            if let State::Lives(living) = &mut guest.state
                && guest.file.address.is_some()
            {
                living.to_return = true;
                let park = Request::Park { cut: true };
                if living.phase == Phase::Running
                    && park.tell(living.monitor.channel.as_fd()).is_ok()
                {
                    living.phase = Phase::Parking;
                }
            }
        }
    }

    /// Connects to a switch, which is told of all guests if it is a new one.
    pub(crate) fn connect_switch(&mut self) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.switch_again_ns = None;
        let opened = Network::open(&fleet.told).and_then(|network| {
            let watched = self.watcher.add(network.descriptor(), Token::Switch);
            watched.map(|()| network).map_err(|error| error.to_string())
        });
        match opened {
            Ok(network) => fleet.network = Some(network),
            Err(why) => {
                fleet.switch_again_ns = Some(clock::boot_ns().saturating_add(AGAIN_NS));
                let message = format!("guests have no network: {why}");
                self.teller.tell(&Event::Notice { name: "", message });
                return;
            }
        }
        self.tell_switch();
    }

    /// Tells the switch of all guests.
    fn tell_switch(&mut self) {
        let is_new = self
            .fleet
            .as_ref()
            .and_then(|fleet| fleet.network.as_ref())
            .is_some_and(|network| network.is_new);
        let mut ports = Vec::new();
        let mut published = Vec::new();
        for number in 0..self.guests.len() as u32 {
            let guest = &self.guests[number as usize];
            if guest.file.address.is_none() || matches!(guest.state, State::Vacant) {
                continue;
            }
            let wakes = guest.file.wakes_on.to_vec();
            if guest.file.publishes && is_new {
                published.push(number);
            }
            ports.extend(self.port(number, wakes));
        }
        let network = self.fleet.as_ref().and_then(|fleet| fleet.network.as_ref());
        let told = network.map(|network| {
            network.set(&ports)?;
            network.ask_for_all()
        });
        if let Some(Err(error)) = told {
            let message = format!("the switch cannot be told of guests: {error}");
            self.teller.tell(&Event::Notice { name: "", message });
        }
        for number in published {
            if let Err(error) = self.publish_again(number) {
                self.notice(number, format!("a port is not published: {error}"));
            }
        }
    }

    fn publish_again(&mut self, number: u32) -> Result<(), LaunchError> {
        let id = self.guests[number as usize].id;
        let record = self.registry.as_ref().and_then(|registry| registry.get(id).ok());
        let Some(record) = record else { return Ok(()) };
        let document = Document::parse(record.configuration.as_bytes(), "registry", "/".into())?;
        match switch_of(&document) {
            Some(switch) => self.publish(number, &document, &switch),
            None => Ok(()),
        }
    }

    /// Whether a guest that was parked comes back at once.
    pub(crate) fn returns(&self, number: u32) -> bool {
        self.stops == 0 && self.guests[number as usize].file.desired == Desired::Running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_are_local_and_differ() {
        assert_eq!(mac(0), [2, 0x44, 0, 0, 0, 0]);
        assert_ne!(mac(1), mac(256));
        assert_ne!(mac(1 << 20), SWITCH_MAC);
    }
}
