//! The XSAVE area of this processor in its standard format: what is where, and how it is taken apart and
//! put together.

use super::components::{self, Component};
use super::extended::{ExtendedState, LEGACY_BYTES, Part};
use std::arch::x86_64::__cpuid_count;
use std::ops::Range;
use std::sync::OnceLock;

/// Where the header lies: the set of components that are not as after a reset, then reserved words.
const HEADER: Range<usize> = 512..576;

/// Places of the state components on one processor. They differ: AMD's leaves no gap where Intel's has
/// bounds registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    places: Vec<(Component, usize)>,
}

impl Layout {
    /// This processor's, as CPUID tells it: asked once, as hosts that are virtual machines themselves take long to
    /// answer.
    #[must_use]
    pub(crate) fn of_host() -> &'static Self {
        static LAYOUT: OnceLock<Layout> = OnceLock::new();
        LAYOUT.get_or_init(Self::ask)
    }

    fn ask() -> Self {
        const XSAVE_LEAF: u32 = 0xd;
        if __cpuid_count(0, 0).eax < XSAVE_LEAF {
            return Self { places: Vec::new() };
        }
        Self::new(|number| {
            let found = __cpuid_count(XSAVE_LEAF, number);
            (found.eax as usize, found.ebx as usize)
        })
    }

    /// The layout of a processor that has components at `size_and_offset` of their numbers.
    fn new(size_and_offset: impl Fn(u32) -> (usize, usize)) -> Self {
        let place = |component: &Component| {
            let (size, offset) = size_and_offset(component.number);
            (size == component.bytes && offset >= HEADER.end).then_some((*component, offset))
        };
        Self { places: components::LATER.iter().filter_map(place).collect() }
    }

    /// The components there are places for (bits of XCR0), x87 and SSE among them.
    #[must_use]
    pub(crate) fn components(&self) -> u64 {
        self.places.iter().fold(components::LEGACY, |set, (component, _)| set | component.bit())
    }

    /// What `area` holds of `wanted` components. Places past its end hold nothing.
    #[must_use]
    pub(crate) fn take_apart(&self, area: &[u8], wanted: u64) -> ExtendedState {
        let in_use = bytes(area, HEADER.start, 8).map_or(0, word) & wanted;
        let part = |&(component, offset): &(Component, usize)| {
            let held = in_use & component.bit() != 0;
            let bytes = bytes(area, offset, component.bytes).filter(|_| held)?;
            Some(Part { component: component.number, bytes: bytes.to_vec() })
        };
        let legacy = bytes(area, 0, LEGACY_BYTES).map(<[u8]>::to_vec).unwrap_or_default();
        ExtendedState::new(legacy, self.places.iter().filter_map(part).collect())
    }

    /// Puts `state` into `area`, over what is there of x87, SSE and `replaced` components; `None` when
    /// it does not fit.
    pub(crate) fn put_together(
        &self,
        state: &ExtendedState,
        replaced: u64,
        area: &mut [u8],
    ) -> Option<()> {
        area.get_mut(..LEGACY_BYTES)?.copy_from_slice(state.legacy());
        let header = area.get_mut(HEADER)?;
        let kept = word(header) & !replaced;
        let mut in_use = kept | components::LEGACY;
        for part in state.parts() {
            let (component, offset) =
                *self.places.iter().find(|(component, _)| component.number == part.component)?;
            let place = area.get_mut(offset..offset.checked_add(component.bytes)?)?;
            place.copy_from_slice(part.bytes.get(..component.bytes)?);
            in_use |= component.bit();
        }
        area.get_mut(HEADER)?.first_chunk_mut().map(|field| *field = in_use.to_le_bytes())
    }
}

fn bytes(area: &[u8], offset: usize, length: usize) -> Option<&[u8]> {
    area.get(offset..offset.checked_add(length)?)
}

fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AVX: u64 = 1 << 2;
    const AVX_512: u64 = 0b111 << 5;
    const KEYS: u64 = 1 << 9;

    fn intel() -> Layout {
        Layout::new(|number| match number {
            2 => (256, 576),
            5 => (64, 1088),
            6 => (512, 1152),
            7 => (1024, 1664),
            9 => (8, 2688),
            _ => (0, 0),
        })
    }

    fn amd() -> Layout {
        Layout::new(|number| match number {
            2 => (256, 576),
            5 => (64, 832),
            6 => (512, 896),
            7 => (1024, 1408),
            9 => (8, 2432),
            _ => (0, 0),
        })
    }

    #[test]
    fn this_processors_layout_holds_what_its_kernel_enables() {
        assert_eq!(Layout::of_host().components() & 0b11, 0b11);
        if is_x86_feature_detected!("avx512f") {
            assert_eq!(Layout::of_host().components() & 0xe7, 0xe7);
        }
    }

    #[test]
    fn state_moves_between_layouts() {
        let mut area = vec![0; 2696];
        for (index, byte) in area.iter_mut().enumerate().filter(|(at, _)| !HEADER.contains(at)) {
            *byte = index as u8 ^ (index >> 8) as u8;
        }
        area[HEADER.start..][..8].copy_from_slice(&0x2e7_u64.to_le_bytes());
        let state = intel().take_apart(&area, u64::MAX);
        assert_eq!(state.components(), 0x2e7);
        let mut other = vec![0; 2440];
        amd().put_together(&state, u64::MAX, &mut other).unwrap();
        assert_eq!(other[832..896], area[1088..1152]);
        assert_eq!(other[1408..2432], area[1664..2688]);
        assert_eq!(amd().take_apart(&other, u64::MAX), state);
    }

    #[test]
    fn components_that_are_clean_take_no_space_and_stay_clean() {
        let mut area = vec![0xff; 2696];
        area[HEADER].fill(0);
        area[HEADER.start] = 0b111;
        let state = intel().take_apart(&area, u64::MAX);
        assert_eq!(state.components(), 0b111);
        assert_eq!(intel().take_apart(&area, 0b11).components(), 0b11, "nor is what is not wanted");
        let mut used = vec![0; 2696];
        used[HEADER.start..][..2].copy_from_slice(&[0xe7, 0x02]);
        intel().put_together(&state, AVX | AVX_512, &mut used).unwrap();
        let in_use = word(&used[HEADER]);
        assert_eq!(in_use, 0b111 | KEYS, "what is not replaced stays in use");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut area = vec![0; 2696];
        area[HEADER.start] = 0xe7;
        let state = intel().take_apart(&area, u64::MAX);
        assert!(intel().put_together(&state, u64::MAX, &mut vec![0; 2687]).is_none());
        let small = Layout::new(|number| if number == 2 { (256, 576) } else { (0, 0) });
        assert_eq!(small.components(), 0b111);
        assert!(small.put_together(&state, u64::MAX, &mut area).is_none());
    }

    proptest! {
        #[test]
        fn any_area_of_any_length_is_taken_apart(
            area in prop::collection::vec(any::<u8>(), 0..3000),
            wanted in any::<u64>(),
        ) {
            let state = intel().take_apart(&area, wanted);
            prop_assert!(state.components() & !(wanted | 0b11) == 0);
        }
    }
}
