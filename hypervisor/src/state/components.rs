//! The state components a guest may have beside its general registers (Intel SDM volume 1, section
//! 13.1).

/// x87 and SSE, which every guest has.
pub(crate) const LEGACY: u64 = 0b11;

/// x87, SSE, AVX and the three parts of AVX-512: what a guest may rely on where its processor has them.
pub(crate) const GUEST: u64 = 0b1110_0111;

/// The rights of protection keys, which a guest with no such keys can set all the same.
pub(crate) const PROTECTION_KEYS: u64 = 1 << 9;

/// A state component with a place of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Component {
    /// Its bit in XCR0.
    pub number: u32,
    /// What it belongs to.
    pub name: &'static str,
    /// Its size.
    pub bytes: usize,
}

impl Component {
    /// Its bit alone.
    #[must_use]
    pub(crate) fn bit(&self) -> u64 {
        1 << self.number
    }
}

/// All but x87 and SSE, in the order of their numbers.
pub(crate) const LATER: [Component; 5] = [
    Component { number: 2, name: "AVX", bytes: 256 },
    Component { number: 5, name: "AVX-512", bytes: 64 },
    Component { number: 6, name: "AVX-512", bytes: 512 },
    Component { number: 7, name: "AVX-512", bytes: 1024 },
    Component { number: 9, name: "protection keys", bytes: 8 },
];

/// What the component with this number belongs to.
#[must_use]
pub(crate) fn name(number: u32) -> &'static str {
    let found = LATER.iter().find(|component| component.number == number);
    found.map_or("an unknown kind of registers", |component| component.name)
}
