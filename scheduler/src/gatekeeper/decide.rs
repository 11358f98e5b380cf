//! The decisions: whose turn it is and whether there is room, and who leaves if there is not.

use super::queue::Head;
use super::residents::{Resident, Scope};
use super::room::Space;
use super::{Decision, Gatekeeper, GuestNumber, LastActive, Reason};

/// Tenants at most whose turn it may be in one decision.
const TURNS_MAX: usize = 32;

/// Guests at most that are looked at to choose one that leaves.
const LOOKS_MAX: usize = 64;

/// Guests that are looked at for each that leaves, all in turn, so that no place is older than that takes.
const HAND_LOOKS: usize = 2;

/// How often it is looked again whether one that is active has become idle, in ns.
const GLANCE_NS: u64 = 50_000_000;

/// What is made free beyond the least that is to be free, as a part of it.
const SLACK: u64 = 8;

/// What somebody leaves for.
#[derive(Clone, Copy, Debug)]
enum Motive {
    /// For one who waits.
    For(Head),
    /// Because there is too much of something.
    Excess,
    /// For those who will come.
    Ahead,
}

/// What those that leave may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mercy {
    /// Idle, with their least stay over.
    Idle,
    /// Active, too, if none is idle; with their least stay over.
    Active,
    /// Anybody.
    None,
}

/// A guest that may leave, as it was found when it was looked at.
#[derive(Clone, Copy, Debug)]
struct Look {
    guest: GuestNumber,
    key_ns: u64,
    last_ns: u64,
    times: f64,
}

impl Gatekeeper {
    /// The next thing to be done; `None` if there is nothing until something happens or
    /// [`next_ns`](Self::next_ns) has come. It counts as done from then on. Takes a bounded number of steps.
    pub fn decide(&mut self, now_ns: u64, activity: &impl LastActive) -> Option<Decision> {
        self.advance(now_ns);
        self.residents.ripen(self.now_ns);
        self.serve_queue(activity).or_else(|| self.make_room(activity))
    }

    /// When to ask again if nothing happens, in ns; `None` if only something that happens changes anything.
    #[must_use]
    pub fn next_ns(&self) -> Option<u64> {
        if self.queue.len() == 0 && self.room.excess(0) == Space::There && !self.pace.short {
            return None;
        }
        let (free_ns, _) = self.residents.longest(Scope::All)?;
        // Somebody who may leave and is active may be idle by then, or whoever waits out of patience.
        let glance = self.now_ns.saturating_add(GLANCE_NS);
        let may_leave_ns = if free_ns > self.now_ns { free_ns } else { glance };
        Some(may_leave_ns.max(self.pace.next_ns(self.now_ns).unwrap_or(0)))
    }

    /// Lets in whose turn it is, or has somebody leave for it.
    fn serve_queue(&mut self, activity: &impl LastActive) -> Option<Decision> {
        for _ in 0..self.queue.tenants().min(TURNS_MAX) {
            let head = self.queue.head()?;
            if let Some(why) = self.room.refusal(&head.claim) {
                self.queue.take(&head);
                self.totals.refused += 1;
                return Some(Decision::Refuse { guest: head.guest, why });
            }
            match self.room.own_space(&head.claim) {
                Space::There => return self.serve(&head, activity),
                Space::Expected => {}
                Space::Lacks(why) => {
                    let scope = Scope::Of(head.claim.tenant);
                    if let Some(decision) = self.make_leave(scope, why, Motive::For(head), activity)
                    {
                        return Some(decision);
                    }
                }
            }
            // It is its own tenant's quota that it waits for: others need not wait with it.
            self.queue.pass();
        }
        None
    }

    /// Lets in one whose tenant may have it, or has somebody leave for it.
    fn serve(&mut self, head: &Head, activity: &impl LastActive) -> Option<Decision> {
        match self.room.space(1, head.claim.bytes) {
            Space::There => {
                self.queue.take(head);
                self.enter(head.guest, head.claim);
                self.totals.admitted += 1;
                let waited_ns = self.now_ns.saturating_sub(head.since_ns);
                Some(Decision::Admit { guest: head.guest, waited_ns })
            }
            Space::Expected => None,
            Space::Lacks(why) => self.make_leave(Scope::All, why, Motive::For(*head), activity),
        }
    }

    /// Has somebody leave where limits are exceeded, and in advance while there is a crowd.
    fn make_room(&mut self, activity: &impl LastActive) -> Option<Decision> {
        if let Some(why) = self.excess() {
            return self.make_leave(Scope::All, why, Motive::Excess, activity);
        }
        let why = self.lack_ahead()?;
        self.make_leave(Scope::All, why, Motive::Ahead, activity)
    }

    /// What there is too much of. Memory of the host is freed until there is somewhat more than the least.
    fn excess(&mut self) -> Option<Reason> {
        let slack = if self.pace.short { self.room.limits().minimum_free / SLACK } else { 0 };
        let space = self.room.excess(slack);
        self.pace.short = match space {
            Space::There => false,
            Space::Expected => self.pace.short,
            Space::Lacks(why) => matches!(why, Reason::Memory { .. }),
        };
        match space {
            Space::Lacks(why) => Some(why),
            _ => None,
        }
    }

    /// What there is too little of for those who will come: while somebody had to wait lately, room is made for the whole
    /// reserve as soon as less than half of it is left.
    fn lack_ahead(&mut self) -> Option<Reason> {
        let reserve = u64::from(self.pacing.reserve(self.room.limits().max_running));
        if reserve == 0 || !self.pace.has_crowd(self.now_ns) {
            self.pace.ahead = false;
            return None;
        }
        let guests = if self.pace.ahead { reserve } else { reserve.div_ceil(2) };
        match self.room.space(guests, guests.saturating_mul(self.room.mean_charge())) {
            Space::Lacks(why) => {
                self.pace.ahead = true;
                Some(why)
            }
            Space::There | Space::Expected => {
                self.pace.ahead = false;
                None
            }
        }
    }

    /// Tells a guest to leave, if one can and the pace allows.
    fn make_leave(
        &mut self,
        scope: Scope,
        why: Reason,
        motive: Motive,
        activity: &impl LastActive,
    ) -> Option<Decision> {
        let mercy = self.mercy(why, motive);
        if mercy != Mercy::None && !self.pace.may(self.now_ns) {
            return None;
        }
        let Look { guest, last_ns, .. } = self.choose(scope, mercy, activity)?;
        let claim = self.residents.get(guest)?.claim;
        self.residents.tell_to_leave(guest);
        self.room.tells_to_leave(claim);
        let made_for = match motive {
            Motive::For(head) => Some(head.guest),
            Motive::Excess | Motive::Ahead => None,
        };
        self.pace.evicts(self.now_ns, &self.pacing, made_for.is_some());
        self.totals.evicted += 1;
        let idle_ns = self.now_ns.saturating_sub(last_ns);
        Some(Decision::Evict { guest, why, made_for, idle_ns })
    }

    fn mercy(&self, why: Reason, motive: Motive) -> Mercy {
        let has_patience =
            |head: Head| self.now_ns.saturating_sub(head.since_ns) < self.pacing.patience_ns;
        match motive {
            _ if matches!(why, Reason::Memory { .. }) && self.room.is_in_need() => Mercy::None,
            Motive::Ahead => Mercy::Idle,
            Motive::For(head) if has_patience(head) => Mercy::Idle,
            Motive::For(_) | Motive::Excess => Mercy::Active,
        }
    }

    /// The guest that is to leave: the one of those that are idle that is worth the least; else the one whose least stay is
    /// over for the longest.
    fn choose(&mut self, scope: Scope, mercy: Mercy, activity: &impl LastActive) -> Option<Look> {
        for _ in 0..HAND_LOOKS {
            if let Some(guest) = self.residents.hand() {
                self.look(guest, activity)?;
            }
        }
        if let Some(idle) = self.least_worth(scope, activity) {
            self.worth.learn(self.now_ns.saturating_sub(idle.last_ns), idle.times);
            return Some(idle);
        }
        let (free_ns, guest) = self.residents.longest(scope)?;
        match mercy {
            Mercy::Idle => None,
            Mercy::Active if free_ns > self.now_ns => None,
            Mercy::Active | Mercy::None => self.look(guest, activity),
        }
    }

    /// The guest of those that are idle that is worth the least. Places are those of when guests were looked at last; as
    /// activity only moves a guest back, the first that keeps its place is the one, if it is idle. Of as many as are
    /// looked at, if that is not seen by then.
    fn least_worth(&mut self, scope: Scope, activity: &impl LastActive) -> Option<Look> {
        let (mut best, mut place): (Option<Look>, _) = (None, None);
        for _ in 0..LOOKS_MAX {
            let next = self.residents.least_worth(scope, place);
            let Some((key_ns, guest)) =
                next.filter(|next| best.is_none_or(|best| next.0 < best.key_ns))
            else {
                break;
            };
            place = Some((key_ns, guest));
            let look = self.look(guest, activity)?;
            let is_idle = look.last_ns.saturating_add(self.pacing.active_ns) <= self.now_ns;
            if is_idle && best.is_none_or(|best| look.key_ns < best.key_ns) {
                best = Some(look);
            }
        }
        best
    }

    /// Looks at a guest: when it was active last, how often it was wanted, and what follows for its place.
    fn look(&mut self, guest: GuestNumber, activity: &impl LastActive) -> Option<Look> {
        let resident: Resident = *self.residents.get(guest)?;
        let last_ns = activity.last_active_ns(guest).min(self.now_ns);
        let last_ns = last_ns.max(resident.told_ns.min(self.now_ns)).max(resident.since_ns);
        // What it was brought for is not counted twice.
        let settled = resident.since_ns.saturating_add(self.pacing.active_ns);
        if last_ns > resident.seen_ns.max(settled) {
            self.recall.visits.note(guest);
        }
        let times = self.worth.times(&resident, self.recall.visits.count(guest));
        let key_ns = self.worth.key_ns(last_ns, times);
        self.residents.looked_at(guest, last_ns, key_ns);
        Some(Look { guest, key_ns, last_ns, times })
    }
}
