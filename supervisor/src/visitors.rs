//! Who connects, by what the kernel says, and what they may do.

use crate::limits::CONNECTIONS_OF_USER;
use crate::settings::Settings;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    /// All.
    All,
    /// Look.
    Look,
}

/// Who is there.
pub(crate) struct Visitors {
    /// The user that the supervisor runs as.
    owner: u32,
    admins: Vec<u32>,
    readers: Vec<u32>,
    /// Most connections of all users.
    places: usize,
    /// Connections by user.
    open: Mutex<HashMap<u32, usize>>,
}

/// Why somebody cannot come in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The user may not ask for anything.
    Stranger,
    /// There is no place.
    Full,
}

/// Somebody's place, until it is dropped.
pub(crate) struct Visit {
    user: u32,
    pub(crate) power: Power,
    visitors: Arc<Visitors>,
}

impl Visitors {
    pub(crate) fn new(owner: u32, settings: &Settings) -> Self {
        Self {
            owner,
            admins: settings.admins.clone(),
            readers: settings.readers.clone(),
            places: settings.connections,
            open: Mutex::default(),
        }
    }

    /// A place for a connection of this user. The owner and root may take all; each other user some.
    pub(crate) fn admit(self: &Arc<Self>, user: u32) -> Result<Visit, Refusal> {
        let power = self.power(user).ok_or(Refusal::Stranger)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: usize = open.values().sum();
        let own = open.get(&user).copied().unwrap_or_default();
        let most = if self.is_owner(user) { self.places } else { CONNECTIONS_OF_USER };
        if taken >= self.places || own >= most {
            return Err(Refusal::Full);
        }
        open.insert(user, own + 1);
        Ok(Visit { user, power, visitors: self.clone() })
    }

    fn power(&self, user: u32) -> Option<Power> {
        if self.is_owner(user) || self.admins.contains(&user) {
            Some(Power::All)
        } else if self.readers.contains(&user) {
            Some(Power::Look)
        } else {
            None
        }
    }

    fn is_owner(&self, user: u32) -> bool {
        user == 0 || user == self.owner
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut open = self.visitors.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.user) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                open.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visitors(connections: usize) -> Arc<Visitors> {
        let settings =
            Settings { admins: vec![7], readers: vec![8], connections, ..Settings::default() };
        Arc::new(Visitors::new(1000, &settings))
    }

    #[test]
    fn users_may_do_what_is_written() {
        let visitors = visitors(10);
        for user in [0, 1000, 7] {
            assert_eq!(visitors.admit(user).ok().unwrap().power, Power::All);
        }
        assert_eq!(visitors.admit(8).ok().unwrap().power, Power::Look);
        for user in [9, 999, u32::MAX] {
            assert_eq!(visitors.admit(user).err(), Some(Refusal::Stranger));
        }
    }

    #[test]
    fn places_are_taken_and_left() {
        let visitors = visitors(100);
        let many: Vec<_> = std::iter::from_fn(|| visitors.admit(8).ok()).collect();
        assert_eq!(many.len(), CONNECTIONS_OF_USER, "a user has no more");
        let more: Vec<_> = std::iter::from_fn(|| visitors.admit(1000).ok()).collect();
        assert_eq!(more.len(), 100 - CONNECTIONS_OF_USER, "all others are the owner's");
        assert_eq!(visitors.admit(7).err(), Some(Refusal::Full));
        drop(many);
        assert!(visitors.admit(7).is_ok());
        drop(more);
        assert!(visitors.open.lock().unwrap().is_empty());
    }
}
