//! Guests come to the keeper: new ones, and those that its state has.

use crate::clock;
use crate::event::{Event, Reason};
use crate::guest::Guest;
use crate::keeper::Keeper;
use crate::registry::{Life, Record};
use crate::teller::Teller;
use denali_config::{Document, Guest as Configured};
use denali_launcher::{
    Kept, Launch, LaunchError, Resume, SealedImage, Settings, Snapshot, SwapSpace, host_key,
};
use denali_swap::{Commit, GuestId};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a keeper that starts waits for regions that are in use, all in all, and before it looks again.
const REGION_PATIENCE: Duration = Duration::from_secs(1);
const REGION_PAUSE: Duration = Duration::from_millis(5);

impl Keeper<'_> {
    /// Adds a guest, which is started when the keeper runs. One that the state has by the same name goes on
    /// instead.
    ///
    /// # Errors
    /// When the configuration or the image is wrong, or the host lacks something.
    pub fn add(&mut self, document: &Document) -> Result<(), LaunchError> {
        let configured = document.guest()?;
        let known = self.guests.iter().find(|guest| guest.is_called(&configured.name));
        if let Some(known) = known {
            return known_already(known, document, &mut self.teller);
        }
        if self.left.contains(&configured.name) {
            let message = format!(
                "{}: the guest of this name cannot go on; see to what is said of it above, or give this one \
                 another name",
                document.source_name()
            );
            return Err(LaunchError::Host(message));
        }
        if self.registry.is_some() {
            must_be_resumable(document, &configured)?;
        }
        let image = self.images.open(&configured.image, document.origin("image"))?;
        let space = match &configured.swap {
            None => None,
            Some(_) => {
                let key = host_key(document, &configured)?;
                let id = GuestId::random().map_err(|error| {
                    LaunchError::Host(format!("the host has no random bytes: {error}"))
                })?;
                Some(SwapSpace::create(document, &configured, &image, id, key.as_ref())?)
            }
        };
        let kept = self.keep(document, &configured, (image, space), None, None)?;
        let number = self.guests.len() as u32;
        let id = kept.id().unwrap_or(GuestId([0; 16]));
        self.guests.push(Guest::new(&configured.name, id, Some(kept)));
        self.active += 1;
        self.remember(number);
        self.queue.push_back((number, Reason::Start));
        Ok(())
    }

    /// Opens everything a guest needs, and keeps it.
    pub(crate) fn keep(
        &mut self,
        document: &Document,
        configured: &Configured,
        (image, space): (Rc<SealedImage>, Option<SwapSpace>),
        resume: Option<Commit>,
        snapshot: Option<&Snapshot>,
    ) -> Result<Kept, LaunchError> {
        let settings = Settings {
            image: Some(&image),
            space: space.as_ref(),
            resume: match (resume, snapshot) {
                (Some(commit), _) => Some(Resume::Parked(Some(commit))),
                (None, snapshot) => snapshot.map(Resume::Snapshot),
            },
            has_switch: self.fleet.is_some(),
            ..Settings::new(self.settings.built_in, self.settings.broker)
        };
        let prepared = Launch::prepare(document, &settings);
        let launch = match (prepared, &space) {
            (Ok(launch), _) => launch,
            (Err(error), Some(space)) if resume.is_none() => {
                // It was made for this alone; the error tells more than one about what is left behind would.
                let _ = space.remove();
                return Err(error);
            }
            (Err(error), _) => return Err(error),
        };
        for notice in launch.notices() {
            let message = notice.clone();
            self.teller.tell(&Event::Notice { name: &configured.name, message });
        }
        for port in launch.published() {
            self.teller.tell(&Event::Published {
                name: &configured.name,
                host: port.host,
                device: port.device,
                guest_port: port.guest_port,
                protocol: port.protocol.to_string(),
            });
        }
        let kept = Kept::new(launch, (document, configured), (image, space), &mut self.shared)?;
        self.pool.expect(kept.likeness());
        Ok(kept)
    }

    /// Takes up the guests that the state has.
    ///
    /// # Errors
    /// When the state cannot be read. A guest that cannot be taken up is told of and left where it is.
    pub(crate) fn resume_all(&mut self) -> Result<(), LaunchError> {
        let Some(registry) = &self.registry else { return Ok(()) };
        let (records, problems) = registry.read()?;
        for message in problems {
            self.teller.tell(&Event::Notice { name: "", message });
        }
        // Monitors that were killed along with their keeper have their regions for a moment longer.
        let patience = Instant::now() + REGION_PATIENCE;
        for record in records {
            if let Err(error) = self.resume(&record, patience) {
                let message = format!("cannot go on: {error}; it is left as it is");
                self.teller.tell(&Event::Notice { name: &record.name, message });
                self.left.push(record.name);
            }
        }
        Ok(())
    }

    fn resume(&mut self, record: &Record, patience: Instant) -> Result<(), LaunchError> {
        let path = self.registry.as_ref().map(|registry| registry.path().display().to_string());
        let source = format!("{}: guest {}", path.unwrap_or_default(), record.id);
        let document = Document::parse(record.configuration.as_bytes(), &source, PathBuf::new())?;
        let configured = document.guest()?;
        if self.guests.iter().any(|guest| guest.is_called(&configured.name)) {
            return Err(LaunchError::Host(format!("{source}: another guest has its name")));
        }
        let image = self.images.find(&record.image, &configured.name)?;
        let key = host_key(&document, &configured)?;
        while SwapSpace::is_in_use(&configured, record.id) && Instant::now() < patience {
            std::thread::sleep(REGION_PAUSE);
        }
        let space = SwapSpace::open(&document, &configured, record.id, key.as_ref())?;
        let kept = self.keep(&document, &configured, (image, Some(space)), record.commit, None)?;
        let number = self.guests.len() as u32;
        self.guests.push(Guest {
            commit: record.commit,
            ..Guest::new(&configured.name, record.id, Some(kept))
        });
        self.active += 1;
        match record.life {
            Life::Parked { deadline_real_ns, pages, .. } => {
                let guest = &mut self.guests[number as usize];
                guest.deadline_ns = deadline_real_ns.map(clock::boot_of_real);
                guest.pages = pages;
                self.rest(number);
            }
            Life::Running {} | Life::Waiting {} | Life::Stopped {} | Life::Failed {} => {
                self.recover_running(number, None, "when its keeper or the host stopped");
            }
        }
        Ok(())
    }
}

/// What is to be said of a guest that the state has already.
fn known_already(
    known: &Guest,
    document: &Document,
    teller: &mut Teller<'_>,
) -> Result<(), LaunchError> {
    let name = &known.name;
    if known.lives == 0 && known.commit.is_none() {
        let message = format!("{name:?} is another guest's too; give each a name of its own");
        return Err(document.refuse("name", &message).into());
    }
    let portable = document.portable()?;
    if known.kept.as_ref().is_some_and(|kept| portable != kept.configuration()) {
        let message = format!(
            "it goes on as it was configured, which is not as {} says now",
            document.source_name()
        );
        teller.tell(&Event::Notice { name, message });
    }
    Ok(())
}

/// A guest whose region opens under no key that outlives the keeper could not go on.
fn must_be_resumable(document: &Document, configured: &Configured) -> Result<(), LaunchError> {
    let refuse = |field, what| Err(document.refuse(field, what).into());
    match &configured.swap {
        None => refuse("swap", "is missing; with --state, a guest must have where it is parked"),
        Some(swap) if swap.key.is_none() => {
            let what = "is missing; with --state, name the host's key, under which a parked guest can go on";
            refuse("swap.key", what)
        }
        Some(_) => Ok(()),
    }
}
