//! A map from small numbers, many of them neighbours, that takes little more memory than its values.

/// Numbers of a group.
const GROUP: u32 = 64;

/// Values by number, in ascending order.
#[derive(Debug)]
pub(crate) struct Sparse<T> {
    groups: Vec<Option<Box<Group<T>>>>,
    length: usize,
}

/// The values of 64 neighbouring numbers.
#[derive(Debug)]
struct Group<T> {
    /// The numbers that have a value.
    mask: u64,
    /// Theirs, in ascending order.
    values: Vec<T>,
}

impl<T> Default for Sparse<T> {
    fn default() -> Self {
        Self { groups: Vec::new(), length: 0 }
    }
}

impl<T> Sparse<T> {
    /// Values there are.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        let group = self.groups.get(index(number))?.as_ref()?;
        group.has(number).then(|| &group.values[group.rank(number)])
    }

    /// Sets a value; the one before.
    pub(crate) fn insert(&mut self, number: u32, value: T) -> Option<T> {
        let index = index(number);
        if self.groups.len() <= index {
            self.groups.resize_with(index + 1, || None);
        }
        let group = self.groups[index]
            .get_or_insert_with(|| Box::new(Group { mask: 0, values: Vec::new() }));
        let rank = group.rank(number);
        if group.has(number) {
            return Some(std::mem::replace(&mut group.values[rank], value));
        }
        group.mask |= bit(number);
        group.values.insert(rank, value);
        self.length += 1;
        None
    }

    /// Removes a value.
    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let place = self.groups.get_mut(index(number))?;
        let group = place.as_mut().filter(|group| group.has(number))?;
        let value = group.values.remove(group.rank(number));
        group.mask &= !bit(number);
        if group.mask == 0 {
            *place = None;
        }
        self.length -= 1;
        Some(value)
    }

    /// All of them, in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let groups = (0..).step_by(GROUP as usize).zip(&self.groups);
        groups.flat_map(|(first, group)| group.iter().flat_map(move |group| group.iter(first)))
    }
}

impl<T> Group<T> {
    fn has(&self, number: u32) -> bool {
        self.mask & bit(number) != 0
    }

    /// Values before that of `number`.
    fn rank(&self, number: u32) -> usize {
        (self.mask & (bit(number) - 1)).count_ones() as usize
    }

    fn iter(&self, first: u32) -> impl Iterator<Item = (u32, &T)> {
        let mut mask = self.mask;
        self.values.iter().map(move |value| {
            let number = first + mask.trailing_zeros();
            mask &= mask.wrapping_sub(1);
            (number, value)
        })
    }
}

fn index(number: u32) -> usize {
    (number / GROUP) as usize
}

fn bit(number: u32) -> u64 {
    1 << (number % GROUP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_is_a_map(
            changes in prop::collection::vec((0..400_u32, prop::option::of(any::<u16>())), 0..300),
        ) {
            let (mut map, mut expected) = (Sparse::default(), BTreeMap::new());
            for (number, value) in changes {
                let (was, before) = match value {
                    Some(value) => (map.insert(number, value), expected.insert(number, value)),
                    None => (map.remove(number), expected.remove(&number)),
                };
                prop_assert_eq!(was, before);
                prop_assert_eq!(map.len(), expected.len());
                prop_assert_eq!(map.get(number), expected.get(&number));
            }
            let all: Vec<_> = map.iter().map(|(number, &value)| (number, value)).collect();
            prop_assert_eq!(all, expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn groups_that_are_empty_are_given_back() {
        let mut map = Sparse::default();
        map.insert(1000, 1);
        assert_eq!(map.remove(1000), Some(1));
        assert!(map.groups.iter().all(Option::is_none));
        assert_eq!((map.remove(1000), map.remove(5000)), (None, None));
        assert_eq!((map.get(1000), map.get(5000)), (None, None));
    }
}
