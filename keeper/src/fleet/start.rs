//! The keeper of a fleet begins: with the guests of its registry, and monitors that are still there.

use super::create::label;
use super::gate::gatekeeper;
use super::{Fleet, Supervision, Totals};
use crate::clock;
use crate::event::{Event, Reason};
use crate::guest::{File, Guest, State};
use crate::keeper::{Keeper, host};
use crate::order::Orders;
use crate::registry::{Life, Record};
use crate::settings::Settings;
use crate::watcher::Token;
use denali_client::Desired;
use denali_config::{Document, KeyConfig, SwapConfig};
use denali_launcher::{Kept, LaunchError, SwapSpace, WakeError, host_key};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;

/// How long a guest that idles is left in memory where nothing is said, before it is parked.
const PARK_AFTER: &str = "10s";

/// Names of the host's key and of the folder of regions, in the folder of the keeper's state.
const KEY: &str = "host.key";
pub(super) const SWAP: &str = "swap";

impl<'a> Keeper<'a> {
    /// A keeper of a fleet, for its supervisor: with all guests of its state, of which those that have
    /// monitors go on as if nothing had happened. It ends when it is asked to stop, and not before.
    ///
    /// As [`Keeper::new`], it takes signals, and children.
    ///
    /// # Errors
    /// When the host lacks something, or the state cannot be used.
    pub fn of_fleet(
        settings: Settings<'a>,
        mut told: Supervision,
        orders: Orders,
        tell: impl FnMut(&Event<'_>) + 'a,
    ) -> Result<Self, LaunchError> {
        let mut keeper = Self::without_guests(settings, tell)?;
        if let Some(state) = keeper.settings.state {
            told.host.swap = Some(usual_swap(told.host.swap.take(), state)?);
        }
        keeper
            .watcher
            .add(orders.descriptor(), Token::Orders)
            .map_err(host("wait for requests"))?;
        keeper.fleet = Some(Box::new(Fleet::new(told, orders)));
        let (running, interrupted) = keeper.take_up()?;
        keeper.adopt_all();
        keeper.connect_switch();
        for number in running {
            if keeper.guests[number as usize].waits() {
                keeper.recover(number);
            }
        }
        for number in interrupted {
            keeper.wake(number, Reason::Again);
        }
        for number in 0..keeper.guests.len() as u32 {
            if keeper.guests[number as usize].waits() && keeper.open_sources(number) {
                keeper.watch(number);
            }
        }
        Ok(keeper)
    }

    /// Takes up the guests of the registry: those that ran, and those that are to run again.
    fn take_up(&mut self) -> Result<(Vec<u32>, Vec<u32>), LaunchError> {
        let Some(registry) = &self.registry else { return Ok((Vec::new(), Vec::new())) };
        let (records, problems) = registry.read()?;
        // What a record is of that cannot be read may still be wanted.
        if problems.is_empty() {
            self.collect(&records);
        }
        for message in problems {
            self.teller.tell(&Event::Notice { name: "", message });
        }
        let (mut running, mut interrupted) = (Vec::new(), Vec::new());
        for record in records {
            let number = record.number;
            let taken = self.guests.get(number as usize);
            if taken.is_some_and(|guest| !matches!(guest.state, State::Vacant)) {
                let message = format!("another guest has its number {number}; it is left as it is");
                self.teller.tell(&Event::Notice { name: &record.name, message });
                continue;
            }
            match record.life {
                Life::Running {} => running.push(number),
                Life::Parked { interrupted: true, .. } => interrupted.push(number),
                _ => {}
            }
            let guest = self.guest_of(&record);
            self.enrol(number, guest);
            if let Some(at) = self.guests[number as usize].wakes_at() {
                self.wheel.set(number, at);
            }
        }
        Ok((running, interrupted))
    }

    /// A guest as its record has it. Nothing of it is open.
    fn guest_of(&mut self, record: &Record) -> Guest {
        let mut guest = Guest::new(&record.name, record.id, None);
        guest.commit = record.commit;
        guest.state = match record.life {
            Life::Running {} | Life::Waiting {} => State::Waits,
            Life::Stopped {} => State::Stopped,
            Life::Failed {} => State::Ended,
            Life::Parked { deadline_real_ns, pages, .. } => {
                guest.deadline_ns = deadline_real_ns.map(clock::boot_of_real);
                guest.pages = pages;
                State::Waits
            }
        };
        let value: Value = serde_json::from_str(&record.configuration).unwrap_or_default();
        let net = value["net"].as_array().into_iter().flatten();
        let switch = net.map(|net| &net["backend"]["switch"]).find(|switch| switch.is_object());
        let last = self.guests.last().map(|guest| guest.file.clone()).unwrap_or_default();
        let template = record.template.as_deref().map(Path::new);
        let image = label(&value, template);
        let same = |one: &Rc<str>, text: &str| match **one == *text {
            true => one.clone(),
            false => text.into(),
        };
        guest.file = File {
            tenant: same(&last.tenant, &record.tenant),
            image: same(&last.image, &image),
            template: match (&last.template, template) {
                (Some(one), Some(path)) if **one == *path => Some(one.clone()),
                (_, path) => path.map(Rc::from),
            },
            desired: record.desired,
            address: switch.and(self.fleet.as_ref()).and_then(|fleet| fleet.address(record.number)),
            memory: memory_of(&value),
            wakes_on: switch.map(ports_of).unwrap_or_default(),
            publishes: switch.is_some_and(|switch| switch.get("publish").is_some()),
            has_sources: has_sources(&value),
            note: record.note.as_deref().map(Into::into),
            since_ms: super::now_ms(),
            ..File::default()
        };
        guest
    }

    /// A guest that ran when its keeper or the host stopped, and has no monitor: it goes on from where it was
    /// parked meanwhile, or else from the start.
    fn recover(&mut self, number: u32) {
        if let Err(error) = self.warm(number)
            && self.guests[number as usize].commit.is_some()
        {
            return self.fail(number, &error.to_string());
        }
        if self.take_successor(number) {
            self.remember(number);
            return self.rest(number);
        }
        let why = "its monitor ended when its keeper or the host stopped";
        let runs = self.guests[number as usize].file.desired != Desired::Stopped;
        let restarts = self.fleet.as_ref().is_some_and(|fleet| fleet.told.host.restart);
        match runs && restarts {
            true => {
                self.begin_anew(number);
                self.guests[number as usize].file.restarts += 1;
                self.wake(number, Reason::Start);
            }
            false => self.fail(number, why),
        }
    }

    /// Opens what a guest needs of which nothing is open.
    ///
    /// # Errors
    /// When something of it is missing.
    pub(crate) fn warm(&mut self, number: u32) -> Result<(), WakeError> {
        let guest = &self.guests[number as usize];
        if guest.kept.is_some() || self.fleet.is_none() {
            return Ok(());
        }
        let (id, commit) = (guest.id, guest.commit);
        let Some(registry) = &self.registry else { return Ok(()) };
        let record = registry.get(id).map_err(|why| {
            LaunchError::Host(format!("{}: guest {id}: {why}", registry.path().display()))
        })?;
        let kept = self.open_again(&record, commit.is_none())?;
        self.guests[number as usize].kept = Some(Box::new(kept));
        Ok(())
    }

    /// Opens what a guest without a monitor needs if something can come for it there; whether that was to be done.
    pub(crate) fn open_sources(&mut self, number: u32) -> bool {
        let guest = &self.guests[number as usize];
        let (id, commit) = (guest.id, guest.commit);
        if !guest.file.has_sources || guest.kept.is_some() {
            return false;
        }
        let Some(registry) = &self.registry else { return false };
        // What is opened does not depend on what it did since that was written.
        let record = registry.get(id).map(|record| Record { commit, ..record });
        let opened = record.map_err(|why| LaunchError::Host(why).into());
        match opened.and_then(|record| self.open_again(&record, commit.is_none())) {
            Ok(kept) => self.guests[number as usize].kept = Some(Box::new(kept)),
            Err(WakeError { error, .. }) => {
                self.notice(number, format!("cannot be woken by what comes for it: {error}"));
            }
        }
        true
    }

    fn open_again(&mut self, record: &Record, from_start: bool) -> Result<Kept, WakeError> {
        let text = record.configuration.as_bytes();
        let document = Document::parse(text, "the registry", "/".into()).map_err(launch)?;
        let configured = document.guest().map_err(launch)?;
        let template = match &record.template {
            Some(path) if from_start => Some(self.template(Path::new(path))?),
            _ => None,
        };
        if let (Some(template), Some(path)) = (&template, &record.template)
            && *template.image.hash()?.to_string() != *record.image
        {
            let why =
                "is of another guest than the one that this is a copy of; bring that one back";
            return Err(LaunchError::Image(format!("snapshot {path}: {why}")).into());
        }
        let image = match &template {
            Some(template) => template.image.clone(),
            None => self.images.find(&record.image, &record.name)?,
        };
        let key = host_key(&document, &configured)?;
        let opened = match SwapSpace::exists(&configured, record.id) || !from_start {
            true => Some(SwapSpace::open(&document, &configured, record.id, key.as_ref())),
            // It was not reserved when the guest was created.
            false => None,
        };
        let space = match opened {
            Some(Ok(space)) => space,
            Some(Err(error)) if !from_start || SwapSpace::is_in_use(&configured, record.id) => {
                return Err(error.into());
            }
            // What was reserved, and never written to, says nothing; whatever it says is of no use.
            Some(Err(_)) | None => {
                SwapSpace::remove_of(&configured, record.id)
                    .map_err(|error| LaunchError::Host(error.to_string()))?;
                SwapSpace::create(&document, &configured, &image, record.id, key.as_ref())?
            }
        };
        let from = template.as_ref().map(|template| &template.snapshot);
        let commit = record.commit.filter(|_| !from_start);
        Ok(self.keep(&document, &configured, (image, Some(space)), commit, from)?)
    }
}

fn launch(error: denali_config::ConfigError) -> LaunchError {
    error.into()
}

impl Fleet {
    fn new(told: Supervision, orders: Orders) -> Self {
        let gate = gatekeeper(&told.host);
        Self {
            told,
            orders,
            names: HashMap::new(),
            vacant: Vec::new(),
            tenants: Vec::new(),
            tenant_numbers: HashMap::new(),
            templates: HashMap::new(),
            work: VecDeque::new(),
            unsaid: VecDeque::new(),
            waiters: HashMap::new(),
            gate,
            wanted: HashMap::new(),
            decided: String::new(),
            sampled_ns: 0,
            memory: (0, 0),
            network: None,
            warm: VecDeque::new(),
            totals: Totals::default(),
            wake_us: VecDeque::new(),
            since_ms: super::now_ms(),
            drain_ns: None,
            stopping: VecDeque::new(),
            switch_again_ns: None,
        }
    }
}

fn memory_of(value: &Value) -> u64 {
    let size: denali_config::MemorySize =
        serde_json::from_value(value["memory"].clone()).unwrap_or_default();
    size.0
}

/// Whether something can come for a guest of this configuration beside what the switch tells of.
pub(super) fn has_sources(configuration: &Value) -> bool {
    let all = |field: &str| configuration[field].as_array().into_iter().flatten();
    all("net").any(|net| net["backend"].get("switch").is_none())
        || all("console").any(|console| console["backend"].get("socket").is_some())
}

fn ports_of(switch: &Value) -> Box<[u16]> {
    let ports = switch["wakes"].as_array().into_iter().flatten();
    ports.filter_map(|port| port.as_u64().and_then(|port| u16::try_from(port).ok())).collect()
}

/// Where guests are parked whose configuration does not say: what the host says, and where it says nothing,
/// a folder beside the registry, under a key beside it.
fn usual_swap(swap: Option<SwapConfig>, state: &Path) -> Result<SwapConfig, LaunchError> {
    let fail = |what: &str, error: std::io::Error| LaunchError::Host(format!("{what}: {error}"));
    let mut swap = match swap {
        Some(swap) => swap,
        None => {
            let folder = state.join(SWAP);
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.map_err(|error| fail(&format!("cannot make {}", folder.display()), error))?;
            let usual = json!({ "stripes": [folder], "park_after": PARK_AFTER });
            serde_json::from_value(usual)
                .map_err(|error| LaunchError::Host(format!("swap: {error}")))?
        }
    };
    if swap.key.is_none() {
        let path = state.join(KEY);
        make_key(&path).map_err(|error| fail(&format!("cannot make {}", path.display()), error))?;
        swap.key = Some(KeyConfig::File(path.display().to_string()));
    }
    Ok(swap)
}

/// Makes a host's key, if there is none.
fn make_key(path: &Path) -> std::io::Result<()> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = match opened {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        other => other?,
    };
    let mut key = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
    file.write_all(&key)?;
    file.sync_all()
}
