//! What is shown of a sample: which guests, in which order, from where on.

use super::sample::{Guest, Sample};
use denali_client::{GuestState, fits};
use std::cmp::Ordering;

/// What guests can be sorted by; a column each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Name,
    State,
    Rate,
    Packets,
    Wakes,
    Memory,
    Stored,
    Since,
    Idle,
}

impl Column {
    /// All of them, as they stand beside each other.
    pub(super) const ALL: [Self; 9] = [
        Self::Name,
        Self::State,
        Self::Rate,
        Self::Packets,
        Self::Wakes,
        Self::Memory,
        Self::Stored,
        Self::Since,
        Self::Idle,
    ];

    /// The one so many columns further on, around.
    pub(super) fn after(self, steps: usize) -> Self {
        let here = Self::ALL.iter().position(|&column| column == self).unwrap_or(0);
        Self::ALL[(here + steps) % Self::ALL.len()]
    }

    /// The order of two guests in which the first one is the more interesting one.
    fn order(self, one: &Guest, other: &Guest) -> Ordering {
        let (a, b) = (&one.view, &other.view);
        match self {
            // Guests are sorted by name already, and what is equal stays as it is.
            Self::Name => Ordering::Equal,
            Self::State => rank(a.state).cmp(&rank(b.state)),
            Self::Rate => other.rate.unwrap_or(-1.0).total_cmp(&one.rate.unwrap_or(-1.0)),
            Self::Packets => b.packets.cmp(&a.packets),
            Self::Wakes => b.wakes.cmp(&a.wakes),
            Self::Memory => b.memory_bytes.cmp(&a.memory_bytes),
            Self::Stored => b.stored_bytes.cmp(&a.stored_bytes),
            Self::Since => b.since_ms.cmp(&a.since_ms),
            Self::Idle => b.active_ms.cmp(&a.active_ms),
        }
    }
}

/// States by how much they are worth to be seen among many others.
pub(super) fn rank(state: GuestState) -> usize {
    match state {
        GuestState::Failed => 0,
        GuestState::Queued => 1,
        GuestState::Waking => 2,
        GuestState::Parking => 3,
        GuestState::Running => 4,
        GuestState::Parked => 5,
        GuestState::Stopped => 6,
    }
}

/// A sample, and what is shown of it.
#[derive(Debug)]
pub(super) struct Model {
    sample: Sample,
    /// Places in the sample of guests that are shown, by name.
    shown: Vec<usize>,
    /// The same in the order of the table.
    order: Vec<usize>,
    sort: Column,
    reversed: bool,
    filter: String,
    /// A filter that is being typed.
    pub(super) typing: Option<String>,
    /// Whether new samples are waited with.
    pub(super) paused: bool,
    /// The first line of the table that is seen.
    pub(super) first: usize,
    /// Why there is no newer sample.
    pub(super) trouble: Option<String>,
}

impl Model {
    /// All of a sample, the guests with the most packets first.
    pub(super) fn new(sample: Sample) -> Self {
        let mut model = Self {
            sample,
            shown: Vec::new(),
            order: Vec::new(),
            sort: Column::Rate,
            reversed: false,
            filter: String::new(),
            typing: None,
            paused: false,
            first: 0,
            trouble: None,
        };
        model.arrange();
        model
    }

    /// Shows a newer sample.
    pub(super) fn update(&mut self, sample: Sample) {
        self.sample = sample;
        self.trouble = None;
        self.arrange();
    }

    pub(super) fn sample(&self) -> &Sample {
        &self.sample
    }

    pub(super) fn sort(&self) -> Column {
        self.sort
    }

    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    /// Sorts by another column.
    pub(super) fn sort_by(&mut self, column: Column) {
        self.sort = column;
        self.first = 0;
        self.arrange();
    }

    /// Turns the order round.
    pub(super) fn reverse(&mut self) {
        self.reversed = !self.reversed;
        self.first = 0;
        self.arrange();
    }

    /// Shows guests only whose names fit a pattern, or contain a text.
    pub(super) fn set_filter(&mut self, filter: String) {
        self.filter = filter;
        self.first = 0;
        self.arrange();
    }

    /// How many guests are shown.
    pub(super) fn len(&self) -> usize {
        self.shown.len()
    }

    /// The guests that are shown, by name.
    pub(super) fn by_name(&self) -> impl Iterator<Item = &Guest> {
        self.shown.iter().filter_map(|&place| self.sample.guests.get(place))
    }

    /// The guests in the lines of the table from the first one that is seen on.
    pub(super) fn lines(&self) -> impl Iterator<Item = &Guest> {
        let order = self.order.get(self.first..).unwrap_or_default();
        order.iter().filter_map(|&place| self.sample.guests.get(place))
    }

    /// Moves by so many lines, downwards if that is positive.
    pub(super) fn scroll(&mut self, lines: isize) {
        self.first = self.first.saturating_add_signed(lines).min(self.len().saturating_sub(1));
    }

    fn arrange(&mut self) {
        let pattern = match self.filter.contains(['*', '?']) {
            true => self.filter.clone(),
            false => format!("*{}*", self.filter),
        };
        let guests = &self.sample.guests;
        self.shown.clear();
        self.shown.extend(
            (0..guests.len()).filter(|&place| {
                self.filter.is_empty() || fits(&pattern, &guests[place].view.name)
            }),
        );
        self.order.clone_from(&self.shown);
        self.order.sort_by(|&one, &other| self.sort.order(&guests[one], &guests[other]));
        if self.reversed {
            self.order.reverse();
        }
        self.first = self.first.min(self.shown.len().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::tests::{sample, view};
    use super::*;

    fn model() -> Model {
        let states = [GuestState::Parked, GuestState::Failed, GuestState::Running];
        let guests = (0..30).map(|number| {
            view(&format!("web-{number}"), states[number % 3], 100 * (30 - number as u64))
        });
        Model::new(sample(guests.collect()))
    }

    fn names(model: &Model) -> Vec<&str> {
        model.lines().map(|guest| guest.view.name.as_str()).take(3).collect()
    }

    #[test]
    fn guests_are_sorted_by_what_is_asked_for() {
        let mut model = model();
        assert_eq!(names(&model), ["web-29", "web-28", "web-27"], "the hottest first");
        model.sort_by(Column::Packets);
        assert_eq!(names(&model), ["web-0", "web-1", "web-2"]);
        model.reverse();
        assert_eq!(names(&model), ["web-29", "web-28", "web-27"]);
        model.reverse();
        model.sort_by(Column::State);
        assert_eq!(names(&model), ["web-1", "web-4", "web-7"], "failed ones first");
        model.sort_by(Column::Name);
        assert_eq!(names(&model), ["web-0", "web-1", "web-2"]);
        let all: Vec<Column> = (0..9).map(|steps| Column::Name.after(steps)).collect();
        assert_eq!(all, Column::ALL);
        assert_eq!(Column::Name.after(Column::ALL.len() - 1), Column::Idle);
    }

    #[test]
    fn a_filter_is_a_text_or_a_pattern() {
        let mut model = model();
        model.set_filter("-2".into());
        assert_eq!(model.len(), 11);
        model.set_filter("web-?".into());
        assert_eq!((model.len(), model.by_name().count()), (10, 10));
        model.set_filter("nothing".into());
        assert_eq!((model.len(), model.lines().count()), (0, 0));
        model.scroll(5);
        assert_eq!(model.first, 0);
        model.set_filter(String::new());
        assert_eq!(model.len(), 30);
    }

    #[test]
    fn nobody_leaves_the_table_by_moving() {
        let mut model = model();
        model.scroll(-1);
        assert_eq!(model.first, 0);
        model.scroll(isize::MAX);
        assert_eq!((model.first, model.lines().count()), (29, 1));
        model.update(sample(vec![view("only", GuestState::Running, 0)]));
        assert_eq!((model.first, model.lines().count()), (0, 1));
        model.update(sample(Vec::new()));
        assert_eq!((model.first, model.lines().count()), (0, 0));
    }
}
