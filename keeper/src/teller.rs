//! Tells of what happens: whoever runs the keeper, and those who listen.

use crate::clock;
use crate::event::{Event, Reason};
use crate::order::Stream;
use denali_client::{Event as Told, GuestState, What};

/// Tells of what happens.
pub(crate) struct Teller<'a> {
    tell: Box<dyn FnMut(&Event<'_>) + 'a>,
    listeners: Vec<Stream<Told>>,
    /// Of the last event.
    number: u64,
}

impl<'a> Teller<'a> {
    /// Tells `tell` of everything.
    pub(crate) fn new(tell: impl FnMut(&Event<'_>) + 'a) -> Self {
        Self { tell: Box::new(tell), listeners: Vec::new(), number: 0 }
    }

    /// Somebody listens from now on.
    pub(crate) fn add(&mut self, listener: Stream<Told>) {
        self.listeners.push(listener);
    }

    /// Something happened.
    pub(crate) fn tell(&mut self, event: &Event<'_>) {
        (self.tell)(event);
        if !self.listeners.is_empty() {
            let (guest, what) = translate(event);
            self.publish(guest, what);
        }
    }

    /// Something happened that only those are told of who listen.
    pub(crate) fn publish(&mut self, guest: &str, what: What) {
        self.number += 1;
        if self.listeners.is_empty() {
            return;
        }
        let at_ms = clock::real_ns() / 1_000_000;
        let told = Told { number: self.number, at_ms, guest: guest.into(), what };
        self.listeners.retain_mut(|listener| listener(told.clone()));
    }
}

/// An event as those who listen hear it.
fn translate<'a>(event: &Event<'a>) -> (&'a str, What) {
    let state = |state, why: &str| What::State { state, why: why.into() };
    match event {
        Event::Published { name, host, guest_port, protocol, .. } => {
            let message = format!("{host}/{protocol} leads to its port {guest_port}");
            (name, What::Notice { message })
        }
        Event::Started { name, .. } => (name, state(GuestState::Running, "it was started")),
        Event::Parked { name, .. } => (name, state(GuestState::Parked, "it was written down")),
        Event::NotParked { name, why } => {
            (name, What::Notice { message: format!("not parked: {why}") })
        }
        Event::Waking { name, because, .. } => (name, state(GuestState::Waking, because.text())),
        Event::Woken { name, micros } => (name, What::Woken { micros: *micros }),
        Event::Ended { name, how, .. } => (name, state(GuestState::Failed, how)),
        Event::Stopped { name, how } => (name, state(GuestState::Stopped, how)),
        Event::Notice { name, message } => (name, What::Notice { message: message.clone() }),
    }
}

impl Reason {
    /// In a few words.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Start => "it is to start",
            Self::Arrival => "something came for it",
            Self::Timer => "its timer went off",
            Self::Command => "somebody asked for it",
            Self::Stop => "it is to stop",
            Self::Again => "once more",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn those_who_listen_hear_in_order_until_they_have_enough() {
        let mut count = 0;
        let (heard, events) = channel();
        let mut teller = Teller::new(|_| count += 1);
        let mut left = 2;
        teller.add(Box::new(move |event: Told| {
            heard.send(event).unwrap();
            left -= 1;
            left > 0
        }));
        for micros in [3, 4, 5] {
            teller.tell(&Event::Woken { name: "one", micros });
        }
        assert!(teller.listeners.is_empty());
        drop(teller);
        let heard: Vec<Told> = events.iter().collect();
        assert_eq!(count, 3);
        assert_eq!(heard.len(), 2);
        assert_eq!((heard[0].number + 1, &*heard[1].guest), (heard[1].number, "one"));
        assert_eq!(heard[1].what, What::Woken { micros: 4 });
    }
}
