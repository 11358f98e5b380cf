//! A fleet of guests under `denali supervisor`, on a host of its own: folders, a socket, a TUN interface.

use super::driver::Target;
use super::guests::Fleet;
use crate::options::FleetOptions;
use crate::place::{Folder, Place};
use crate::proc;
use crate::programs::Programs;
use crate::running::{Running, end_the_rest};
use crate::undo::until;
use anyhow::{Context, Result, bail};
use denali_client::{Act, Action, Client, Create, GuestState, GuestView, Outcome};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Name of the guests, before their numbers.
const NAME: &str = "fleet";

/// Name of the guest that others are copies of.
const FIRST: &str = "first";

/// The network that guests are in, and the interface of the host that leads to it.
const NETWORK: &str = "10.96.0.1/12";
const INTERFACE: &str = "denalibench";

/// The port that guests serve.
const PORT: u16 = 80;

/// How long the supervisor may take until it can be asked, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
const END_PATIENCE: Duration = Duration::from_secs(180);

/// Monitors that wait for guests.
const POOL: u32 = 32;

/// Guests, and who looks after them.
pub(super) struct Supervised {
    supervisor: Running,
    client: Client,
    create: Create,
    shows: String,
    homes: Homes,
}

/// Where what belongs to the host is.
struct Homes {
    state: Folder,
    stripe: Folder,
    run: Folder,
    _place: Place,
}

/// Why there can be none on this machine, if so.
pub(super) fn problem() -> Option<String> {
    // SAFETY: reads this process's user id, nothing else.
    if unsafe { libc::geteuid() } != 0 {
        return Some("not root".into());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("no /dev/net/tun".into());
    }
    if Path::new("/sys/class/net").join(INTERFACE).exists() {
        return Some(format!(
            "there is a network interface {INTERFACE} already; remove it: ip link del {INTERFACE}"
        ));
    }
    None
}

impl Supervised {
    /// A host for so many guests, of which so many may be in memory; none of them is there yet.
    pub(super) fn start(
        options: &FleetOptions,
        guests: u32,
        awake: u32,
        programs: &Programs,
    ) -> Result<Self> {
        let homes = Homes::new()?;
        let path = homes.run.path().join("host.json");
        fs::write(&path, homes.configuration(awake, &options.park_after).to_string())
            .context("cannot write a configuration")?;
        let mut command = Command::new(&programs.denali);
        command.args(["supervisor", "--config"]).arg(&path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(programs.error_stream()?);
        let supervisor = Running::start(|| command.spawn().context("cannot start a supervisor"))?;
        let client = connect(&homes.socket(), supervisor.pid(), programs)?;
        let create = Create {
            name: NAME.into(),
            count: guests,
            configuration: configuration(options)?,
            template: options.template.as_deref().map(absolute).transpose()?,
            tenant: "default".into(),
            // Those that are more than may be in memory start when somebody comes to them.
            start: guests <= awake,
            on_demand: guests > awake,
        };
        let mut fleet = Self { supervisor, client, create, shows: options.shows.clone(), homes };
        if options.template.is_none() && !options.from_image {
            fleet.make_template(programs)?;
        }
        Ok(fleet)
    }

    /// Has guests be copies of a first one, which has answered.
    fn make_template(&mut self, programs: &Programs) -> Result<()> {
        let (count, start, on_demand) = (1, true, false);
        let first = Create { name: FIRST.into(), count, start, on_demand, ..self.create.clone() };
        self.make(&first)?;
        let guest = self.client.inspect(FIRST).context("cannot find the first guest")?.guest;
        let target = self.target(&guest)?;
        until(PATIENCE, || asks(&target).is_ok());
        asks(&target).context("the first guest does not answer")?;
        let snapshot = self.homes.state.path().join("template.snapshot");
        let mut command = Command::new(&programs.denali);
        command.args(["snapshot", FIRST]).arg(&snapshot).arg("--socket").arg(self.homes.socket());
        let output = command.stdin(Stdio::null()).output().context("cannot make a snapshot")?;
        if !output.status.success() {
            bail!("cannot make a snapshot: {}", String::from_utf8_lossy(&output.stderr));
        }
        self.act(Action::Remove, FIRST)?;
        self.create.template = Some(snapshot);
        self.create.configuration = None;
        Ok(())
    }

    fn make(&self, create: &Create) -> Result<()> {
        for outcome in self.client.create(create).context("cannot create guests")? {
            let Outcome { name, error } = outcome.context("cannot create guests")?;
            if let Some(problem) = error {
                bail!("guest {name} cannot be created: {}", problem.message);
            }
        }
        Ok(())
    }

    fn act(&self, action: Action, guests: &str) -> Result<()> {
        let act = Act { action, guests: vec![guests.into()] };
        self.client.act(&act).context("cannot ask for guests")?.for_each(drop);
        Ok(())
    }

    fn target(&self, guest: &GuestView) -> Result<Target> {
        let name = &guest.name;
        let address = guest.address.with_context(|| format!("guest {name} has no address"))?;
        let shows = shows(&self.shows, name, &address.to_string());
        Ok(Target { address: SocketAddrV4::new(address, PORT), shows })
    }

    fn guests(&self) -> Result<Vec<GuestView>> {
        let all = self.client.list::<&str>(&[]).context("cannot list guests")?;
        all.collect::<Result<_, _>>().context("cannot list guests")
    }
}

impl Fleet for Supervised {
    fn start_all(&mut self) -> Result<Vec<Target>> {
        self.make(&self.create)?;
        self.guests()?.iter().map(|guest| self.target(guest)).collect()
    }

    fn wakes(&mut self) -> Result<u64> {
        Ok(self.client.host().context("cannot ask for the host")?.wakes)
    }

    fn awake(&mut self) -> Result<u64> {
        let counts = self.client.host().context("cannot ask for the host")?.guests;
        let inside = [GuestState::Running, GuestState::Waking, GuestState::Parking];
        Ok(inside.iter().filter_map(|state| counts.get(state)).sum())
    }

    fn processes_kib(&mut self) -> Result<f64> {
        // Processes come and go meanwhile: of those that are gone there is nothing to count.
        let family = proc::family(self.supervisor.pid())?;
        Ok(family.into_iter().filter_map(|pid| proc::pss_kib(pid).ok()).sum())
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // Guests that are gone need not be parked, which for thousands takes a while.
        // Where they cannot be removed, they are parked when the supervisor ends.
        let _ = self.act(Action::Remove, "*");
        if let Err(error) = self.supervisor.end(END_PATIENCE) {
            eprintln!("bench: the supervisor: {error:#}");
        }
        // Monitors outlive a supervisor that has not ended as it should.
        end_the_rest();
    }
}

impl Homes {
    fn new() -> Result<Self> {
        let place = Place::new()?;
        Ok(Self {
            state: place.on_disk("fleet-state")?,
            stripe: place.on_disk("fleet-stripe")?,
            run: place.temporary("fleet")?,
            _place: place,
        })
    }

    fn socket(&self) -> PathBuf {
        self.run.path().join("supervisor.sock")
    }

    /// The host's configuration.
    fn configuration(&self, awake: u32, park_after: &str) -> Value {
        json!({
            "state": self.state.path(),
            "run": self.run.path(),
            "pool": POOL,
            "max_running": awake,
            "network": { "address": NETWORK, "tun": INTERFACE },
            // Regions of ten thousand guests are larger than most disks, and what is in them is not. Guests that idle stay
            // in memory until others need it, if nothing else is said.
            "swap": {
                "stripes": [self.stripe.path()],
                "reserve": false,
                "after": "0s",
                "park_after": park_after,
            },
            // Most of very many guests are never parked, and there is not space for all at once.
            "reserve": "start",
        })
    }
}

/// Waits until the supervisor can be asked.
fn connect(socket: &Path, pid: i32, programs: &Programs) -> Result<Client> {
    let mut client = None;
    let ended = || !Path::new(&format!("/proc/{pid}/fd/0")).exists();
    until(PATIENCE, || {
        client = Client::connect(socket).ok();
        client.is_some() || ended()
    });
    client.with_context(|| format!("the supervisor cannot be asked: {}", programs.last_message()))
}

/// The configuration of each guest; with a template none need be given.
fn configuration(options: &FleetOptions) -> Result<Option<Value>> {
    match &options.configuration {
        Some(path) => {
            let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            let value = serde_json::from_slice(&text);
            value.map(Some).with_context(|| format!("{} is not valid JSON", path.display()))
        }
        None if options.template.is_some() => Ok(None),
        None => Ok(Some(
            json!({ "image": "web", "memory": "8MiB", "net": [{ "backend": { "switch": {} } }] }),
        )),
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("cannot find {}", path.display()))
}

/// Asks a guest for its page, once.
fn asks(target: &Target) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&target.address.into(), Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    if !page.contains(&target.shows) {
        bail!("the page is another's");
    }
    Ok(())
}

/// What a guest's page shows.
fn shows(pattern: &str, name: &str, address: &str) -> String {
    pattern.replace("{name}", name).replace("{address}", address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use denali_config::HostConfig;

    #[test]
    fn the_hosts_configuration_is_one() {
        let homes = Homes::new().unwrap();
        let text = homes.configuration(123, "10s").to_string();
        let host = HostConfig::parse(text.as_bytes(), "host.json", Path::new("/")).unwrap();
        assert_eq!((host.max_running, host.pool), (123, u64::from(POOL)));
        assert_eq!(host.network.tun.as_deref(), Some(INTERFACE));
        assert_eq!(host.network.address.to_string(), NETWORK);
    }

    #[test]
    fn pages_show_names_and_addresses() {
        assert_eq!(shows(">{address}<", "a-1", "10.96.0.2"), ">10.96.0.2<");
        assert_eq!(shows("{name}", "a-1", "10.96.0.2"), "a-1");
    }
}
