//! Guests are made: from a configuration, or as copies of a snapshot.

use super::acts::{Asker, Goal, say};
use super::network::mac;
use super::orders::{Work, tell, wrong};
use super::start::has_sources;
use crate::guest::{File, Guest, State};
use crate::keeper::Keeper;
use crate::order::Stream;
use crate::registry::{Life, Record};
use denali_abi::status::HOST_LACKS;
use denali_client::{Create, Desired, Outcome, Problem, What};
use denali_config::{
    Document, Guest as Configured, MacAddress, NetBackend, Reserve, Subnet, SwitchBackend,
    check_name,
};
use denali_launcher::{Kept, LaunchError, SealedImage, Snapshot, SwapSpace, host_key};
use denali_swap::GuestId;
use denali_switch::protocol::PORTS_MAX;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

/// What messages call what a guest is made of.
const SOURCE: &str = "configuration";

/// Most guests of one request.
const COUNT_MAX: u32 = 1_000_000;

/// A snapshot that guests are copies of, open once for all of them.
pub(crate) struct Template {
    pub(crate) snapshot: Snapshot,
    pub(crate) image: Rc<SealedImage>,
}

/// A request to create guests of which some are left.
pub(crate) struct Creating {
    create: Create,
    made: u32,
    template: Option<Rc<Template>>,
    base: Value,
    asker: Asker,
}

/// A guest that can be made.
struct Plan {
    name: String,
    number: u32,
    document: Document,
    configured: Configured,
    image: Rc<SealedImage>,
    file: File,
}

impl Keeper<'_> {
    pub(crate) fn begin_creating(&mut self, create: Create, mut stream: Stream<Outcome>) {
        let planned = check(&create).and_then(|()| self.base_of(&create));
        let (template, base) = match planned {
            Ok(planned) => planned,
            Err(problem) => return tell(&mut stream, &create.name, Some(problem)),
        };
        let asker = Rc::new(RefCell::new(stream));
        let creating = Creating { create, made: 0, template, base, asker };
        if let Some(fleet) = &mut self.fleet {
            fleet.work.push_back(Work::Create(Box::new(creating)));
        }
    }

    /// What guests are made of: a snapshot, if they are copies of one, and a configuration.
    fn base_of(&mut self, create: &Create) -> Result<(Option<Rc<Template>>, Value), Problem> {
        let template = create.template.as_deref().map(|path| self.template(path)).transpose();
        let template = template.map_err(|error| problem(&error))?;
        let base = match (&create.configuration, &template) {
            (Some(configuration), _) => configuration.clone(),
            (None, Some(template)) => {
                let document =
                    template.snapshot.configuration().map_err(|error| problem(&error))?;
                let text = document.portable().map_err(|error| problem(&error.into()))?;
                serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?
            }
            (None, None) => return Err(wrong("configuration: is missing; or name a template")),
        };
        match base.is_object() {
            true => Ok((template, base)),
            false => Err(wrong("configuration: is not a JSON object ({ … })")),
        }
    }

    /// A snapshot, which is opened once, until another one is there.
    pub(crate) fn template(&mut self, path: &Path) -> Result<Rc<Template>, LaunchError> {
        let known = self.fleet.as_ref().and_then(|fleet| fleet.templates.get(path));
        if let Some(template) = known.filter(|known| !known.snapshot.is_replaced_at(path)) {
            return Ok(template.clone());
        }
        let snapshot = Snapshot::open(path)?;
        let image = Rc::new(snapshot.image(self.images.store())?);
        let template = Rc::new(Template { snapshot, image });
        if let Some(fleet) = &mut self.fleet {
            // Those that nobody makes guests of now are opened again when somebody does.
            fleet.templates.retain(|_, template| Rc::strong_count(template) > 1);
            fleet.templates.insert(path.to_path_buf(), template.clone());
        }
        Ok(template)
    }

    /// Makes the next guest; what is left.
    pub(crate) fn create_next(&mut self, mut creating: Box<Creating>) -> Option<Box<Creating>> {
        creating.made += 1;
        let Create { name, count, start, .. } = &creating.create;
        let name = if *count == 1 { name.clone() } else { format!("{name}-{}", creating.made) };
        match self.create_one(&creating, &name) {
            Ok(number) if *start => {
                self.wake(number, crate::event::Reason::Start);
                self.wait_to_run(number, &creating.asker);
            }
            Ok(number) => {
                let id = self.guests[number as usize].id;
                self.say_done(id, &name, &creating.asker);
            }
            Err(problem) => {
                let lacks = problem.status == HOST_LACKS;
                say(&creating.asker, &name, Some(problem));
                if lacks {
                    // What the host lacks it lacks for all of them.
                    return None;
                }
            }
        }
        (creating.made < creating.create.count).then_some(creating)
    }

    /// Has somebody wait until a guest runs that is to get a monitor.
    pub(crate) fn wait_to_run(&mut self, number: u32, asker: &Asker) {
        // One that could not be given a monitor has been told of.
        let guest = &self.guests[number as usize];
        match (&guest.state, &guest.file.note) {
            (State::Ended, note) => {
                let message = note.as_deref().unwrap_or("it did not start").to_owned();
                say(asker, &guest.name, Some(Problem { status: HOST_LACKS, message }));
            }
            _ => self.wait(number, Goal::Runs, asker),
        }
    }

    fn create_one(&mut self, creating: &Creating, name: &str) -> Result<u32, Problem> {
        let Creating { create, template, base, .. } = creating;
        self.may_create(name, &create.tenant)?;
        let plan = self.plan(create, template.as_ref(), base.clone(), name)?;
        let number = plan.number;
        let made = self.make(plan, template.as_ref(), create.start);
        made.map_err(|error| problem(&error)).map(|()| number)
    }

    fn may_create(&mut self, name: &str, tenant: &str) -> Result<(), Problem> {
        let stops = self.stops > 0;
        let Some(fleet) = &mut self.fleet else { return Ok(()) };
        if stops {
            let message = "the supervisor stops, and takes nothing new".into();
            return Err(Problem { status: HOST_LACKS, message });
        }
        if fleet.names.contains_key(name) {
            let message = "there is a guest of this name; remove it, or choose another name";
            return Err(wrong(format!("name: {message}")));
        }
        let number = fleet.tenant(tenant) as usize;
        let most = fleet.told.host.tenants.get(tenant).and_then(|quota| quota.guests);
        match most {
            Some(most) if fleet.tenants[number].guests >= most => {
                Err(wrong(format!("tenant: {tenant} may have {most} guests, and has them")))
            }
            _ => Ok(()),
        }
    }

    /// What a guest will be, with its own name and addresses.
    fn plan(
        &mut self,
        create: &Create,
        template: Option<&Rc<Template>>,
        mut value: Value,
        name: &str,
    ) -> Result<Plan, Problem> {
        let full = || Problem {
            status: HOST_LACKS,
            message: "network.address: all addresses are taken; choose a larger network".into(),
        };
        let next = self.guests.len() as u32;
        let Some(fleet) = &mut self.fleet else { return Err(full()) };
        let number = fleet.vacant.last().copied().unwrap_or(next);
        value["name"] = json!(name);
        let address = match switch_of(&mut value) {
            None => None,
            Some(_) if number >= PORTS_MAX => return Err(full()),
            Some(net) => {
                let address = fleet.address(number).ok_or_else(full)?;
                let network = fleet.told.host.network.address;
                let own = Subnet { address, prefix_len: network.prefix_len };
                net["mac"] = json!(MacAddress(mac(number)).to_string());
                net["address"] = json!(own.to_string());
                net["gateway"] = json!(network.address.to_string());
                Some(address)
            }
        };
        if value.get("swap").is_none_or(Value::is_null) {
            value["swap"] = serde_json::to_value(&fleet.told.host.swap).unwrap_or_default();
        } else if value["swap"].get("key").is_none_or(Value::is_null) {
            let key = fleet.told.host.swap.as_ref().and_then(|swap| swap.key.as_ref());
            value["swap"]["key"] = serde_json::to_value(key).unwrap_or_default();
        }
        let document = Document::parse(value.to_string().as_bytes(), SOURCE, "/".into());
        let mut document = document.map_err(|error| problem(&error.into()))?;
        if let Some(template) = template {
            let with = template.snapshot.with_memory(&document);
            document = with.map_err(|error| problem(&error.into()))?;
        }
        let configured = document.guest().map_err(|error| problem(&error.into()))?;
        check_fleet(&document, &configured)?;
        let image = match template {
            Some(template) => template.image.clone(),
            None => self
                .images
                .open(&configured.image, document.origin("image"))
                .map_err(|error| problem(&error))?,
        };
        let switch = switch_backend(&configured);
        let file = File {
            tenant: self.shared_text(&create.tenant),
            image: self.shared_text(&label(&value, create.template.as_deref())),
            template: create.template.as_deref().map(Rc::from),
            desired: match (create.start, create.on_demand) {
                (true, _) => Desired::Running,
                (false, true) => Desired::Parked,
                (false, false) => Desired::Stopped,
            },
            address,
            memory: configured.memory_size,
            wakes_on: switch.map(|switch| switch.wakes.clone()).unwrap_or_default().into(),
            publishes: switch.is_some_and(|switch| !switch.publish.is_empty()),
            has_sources: has_sources(&value),
            since_ms: super::now_ms(),
            ..File::default()
        };
        Ok(Plan { name: name.into(), number, document, configured, image, file })
    }

    /// A text that many guests have in common, once.
    fn shared_text(&mut self, text: &str) -> Rc<str> {
        let last = self.guests.last().map(|guest| &guest.file);
        let known = last.into_iter().flat_map(|file| [&file.tenant, &file.image]);
        let found = known.into_iter().find(|known| ***known == *text).cloned();
        found.unwrap_or_else(|| text.into())
    }

    /// Makes a guest: its region, its port, its record.
    fn make(
        &mut self,
        plan: Plan,
        template: Option<&Rc<Template>>,
        start: bool,
    ) -> Result<(), LaunchError> {
        let Plan { name, number, document, configured, image, file } = plan;
        let id = GuestId::random()
            .map_err(|error| LaunchError::Host(format!("the host has no random bytes: {error}")))?;
        let host = self.fleet.as_ref().map(|fleet| &fleet.told.host);
        let reserve = start || host.is_none_or(|host| host.reserve == Reserve::Create);
        let space = match reserve {
            true => {
                let key = host_key(&document, &configured)?;
                Some(SwapSpace::create(&document, &configured, &image, id, key.as_ref())?)
            }
            false => None,
        };
        let kept: Option<Kept> = match start {
            true => {
                let parts = (image.clone(), space);
                let from = template.map(|template| &template.snapshot);
                Some(self.keep(&document, &configured, parts, None, from)?)
            }
            false => None,
        };
        let record = Record {
            id,
            name: name.clone(),
            number,
            tenant: file.tenant.to_string(),
            template: file.template.as_ref().map(|path| path.display().to_string()),
            image: image.hash()?.to_string(),
            configuration: document.portable()?,
            commit: None,
            life: match file.desired {
                Desired::Running => Life::Running {},
                Desired::Parked => Life::Waiting {},
                Desired::Stopped => Life::Stopped {},
            },
            desired: file.desired,
            note: None,
        };
        let mut guest = Guest::new(&name, id, kept);
        guest.state = match file.desired {
            Desired::Stopped => State::Stopped,
            Desired::Running | Desired::Parked => State::Waits,
        };
        guest.file = file;
        self.enrol(number, guest);
        if let Some(switch) = switch_backend(&configured) {
            let added = self.add_port(number, &document, switch);
            if let Err(error) = added {
                self.withdraw(number);
                return Err(error);
            }
        }
        if let Some(registry) = &self.registry {
            registry.put(record);
        }
        self.teller.publish(&name, What::Created {});
        Ok(())
    }

    /// A guest has its number and its name from now on.
    pub(crate) fn enrol(&mut self, number: u32, guest: Guest) {
        let place = number as usize;
        let vacant = self.guests.len()..place;
        while self.guests.len() <= place {
            self.guests.push(Guest::vacant());
        }
        if let Some(fleet) = &mut self.fleet {
            fleet.vacant.extend(vacant.map(|number| number as u32));
            fleet.vacant.retain(|vacant| *vacant != number);
            fleet.names.insert(guest.name.clone(), number);
            let tenant = fleet.tenant(&guest.file.tenant);
            fleet.tenants[tenant as usize].guests += 1;
        }
        self.guests[place] = guest;
    }

    /// Takes back a guest that could not be made whole.
    fn withdraw(&mut self, number: u32) {
        if let Some(kept) = &self.guests[number as usize].kept {
            // The error that led here tells more than one about what is left behind would.
            let _ = kept.remove_region();
        }
        let guest = std::mem::replace(&mut self.guests[number as usize], Guest::vacant());
        let Some(fleet) = &mut self.fleet else { return };
        fleet.names.remove(&guest.name);
        let tenant = fleet.tenant(&guest.file.tenant);
        fleet.tenants[tenant as usize].guests -= 1;
        fleet.vacant.push(number);
        if let Some(network) = &fleet.network {
            let _ = network.remove(number);
        }
    }

    fn add_port(
        &mut self,
        number: u32,
        document: &Document,
        switch: &SwitchBackend,
    ) -> Result<(), LaunchError> {
        let port = self.port(number, switch.wakes.clone());
        let network = self.fleet.as_ref().and_then(|fleet| fleet.network.as_ref());
        match (port, network) {
            (Some(port), Some(network)) => network
                .set(&[port])
                .map_err(|error| LaunchError::Host(format!("the switch: {error}")))?,
            // It is told of all guests when it is there.
            _ => return Ok(()),
        }
        self.publish(number, document, switch)
    }
}

/// Whether a request to create guests can be carried out at all.
fn check(create: &Create) -> Result<(), Problem> {
    let Create { name, count, tenant, template, .. } = create;
    if !(1..=COUNT_MAX).contains(count) {
        return Err(wrong(format!("count: {count} is out of range; write 1 to {COUNT_MAX}")));
    }
    let longest = if *count == 1 { name.clone() } else { format!("{name}-{count}") };
    check_name(&longest).map_err(|why| wrong(format!("name: {why}")))?;
    check_name(tenant).map_err(|why| wrong(format!("tenant: {why}")))?;
    match template {
        Some(path) if !path.is_absolute() => {
            Err(wrong(format!("template: {} is not an absolute path", path.display())))
        }
        _ => Ok(()),
    }
}

/// Whether a supervisor can look after such a guest.
fn check_fleet(document: &Document, configured: &Configured) -> Result<(), Problem> {
    let refuse = |field, why| Err(problem(&document.refuse(field, why).into()));
    if configured.control.is_some() {
        return refuse("control", "is the supervisor's to choose; leave it out");
    }
    match &configured.swap {
        None => refuse("swap", "is missing; say where the guest is parked"),
        Some(swap) if swap.key.is_none() => refuse(
            "swap.key",
            "is missing; name the host's key, under which a parked guest can go on",
        ),
        Some(_) => Ok(()),
    }
}

/// The network device in a configuration that is connected to the switch.
fn switch_of(value: &mut Value) -> Option<&mut Value> {
    let nets = value.get_mut("net")?.as_array_mut()?;
    nets.iter_mut().find(|net| net.is_object() && net["backend"].get("switch").is_some())
}

fn switch_backend(configured: &Configured) -> Option<&SwitchBackend> {
    configured.net.iter().find_map(|net| match &net.backend {
        NetBackend::Switch(switch) => Some(switch),
        _ => None,
    })
}

/// What people call what a guest is made of.
pub(crate) fn label(value: &Value, template: Option<&Path>) -> String {
    match template {
        Some(path) => path.display().to_string(),
        None => value["image"].as_str().unwrap_or_default().to_owned(),
    }
}

/// A launcher's error as those who ask hear it.
pub(crate) fn problem(error: &LaunchError) -> Problem {
    Problem { status: error.status(), message: error.to_string() }
}
