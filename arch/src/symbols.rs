//! Names for addresses: looks symbols up in an image, for crash reports.

use crate::image::{slice, u16_at, u32_at, u64_at};
use std::fmt::Write;

const SECTION_HEADER_SIZE: u64 = 64;
const SECTION_SYMTAB: u32 = 2;
const SYMBOL_SIZE: usize = 24;
const TYPE_FILE: u8 = 4;
const TYPE_SECTION: u8 = 3;
const INDEX_UNDEFINED: u16 = 0;
const INDEX_RESERVED: u16 = 0xff00;

/// Most symbols that are looked at; a table that is longer is cut.
const SYMBOLS_MAX: usize = 1 << 20;

/// Most bytes of a mangled name, and of what is made of it.
const NAME_MAX: usize = 1024;
const SHOWN_MAX: usize = 240;

/// How far behind a symbol without a size (an assembly label) an address still counts as its.
const LABEL_REACH: u64 = 64 * 1024;

/// The symbol table of an image, borrowed from its bytes; empty where there is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Symbols<'a> {
    symbols: &'a [u8],
    names: &'a [u8],
}

/// A symbol's name, and how far into it an address lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name, demangled, printable, at most 240 bytes.
    pub name: String,
    /// Bytes from the start of the symbol.
    pub offset: u64,
}

impl<'a> Symbols<'a> {
    /// Finds the symbol table of an ELF64 file; a file without one, or one that is malformed, has no
    /// symbols.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self::find(bytes).unwrap_or_default()
    }

    fn find(bytes: &'a [u8]) -> Option<Self> {
        let sections = u64_at(bytes, 40)?;
        let size = u64::from(u16_at(bytes, 58)?);
        let count = u64::from(u16_at(bytes, 60)?);
        if size < SECTION_HEADER_SIZE || !bytes.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let section = |index: u64| {
            let at = sections.checked_add(index.checked_mul(size)?)?;
            slice(bytes, at, SECTION_HEADER_SIZE)
        };
        let content = |section: &[u8]| slice(bytes, u64_at(section, 24)?, u64_at(section, 32)?);
        let table = (0..count)
            .map_while(section)
            .find(|section| u32_at(section, 4) == Some(SECTION_SYMTAB))?;
        let names = section(u64::from(u32_at(table, 40)?))?;
        Some(Self { symbols: content(table)?, names: content(names)? })
    }

    /// The symbol that `address` belongs to: the one that spans it, or else the nearest label before it.
    #[must_use]
    pub fn lookup(&self, address: u64) -> Option<Place> {
        let candidates = self.symbols.chunks_exact(SYMBOL_SIZE).take(SYMBOLS_MAX);
        let best = candidates
            .filter_map(Symbol::read)
            .filter(|symbol| symbol.covers(address))
            .max_by_key(|symbol| (symbol.size > 0, symbol.value))?;
        Some(Place { name: self.name(best.name)?, offset: address - best.value })
    }

    fn name(&self, at: u32) -> Option<String> {
        let rest = self.names.get(at as usize..)?;
        let end = rest.iter().take(NAME_MAX).position(|&byte| byte == 0)?;
        let mangled = std::str::from_utf8(&rest[..end]).ok()?;
        let mut shown = Shown(String::new());
        // An error says that the name was cut, which is as good.
        let _ = write!(shown, "{:#}", rustc_demangle::demangle(mangled));
        (!shown.0.is_empty()).then_some(shown.0)
    }
}

/// The fields of a symbol that a lookup needs.
struct Symbol {
    name: u32,
    value: u64,
    size: u64,
}

impl Symbol {
    /// Reads a symbol that stands for a place in memory.
    fn read(bytes: &[u8]) -> Option<Self> {
        let kind = bytes.get(4)? & 0xf;
        let section = u16_at(bytes, 6)?;
        let placed = section != INDEX_UNDEFINED && section < INDEX_RESERVED;
        if kind == TYPE_FILE || kind == TYPE_SECTION || !placed {
            return None;
        }
        Some(Self { name: u32_at(bytes, 0)?, value: u64_at(bytes, 8)?, size: u64_at(bytes, 16)? })
    }

    fn covers(&self, address: u64) -> bool {
        let reach = if self.size == 0 { LABEL_REACH } else { self.size };
        address.checked_sub(self.value).is_some_and(|offset| offset < reach)
    }
}

/// Collects printable characters up to a limit.
struct Shown(String);

impl Write for Shown {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for character in text.chars() {
            let character = if character.is_control() { '?' } else { character };
            if self.0.len() + character.len_utf8() > SHOWN_MAX {
                return Err(std::fmt::Error);
            }
            self.0.push(character);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file with a symbol table of `(value, size, name)` and nothing else.
    fn file(symbols: &[(u64, u64, &str)]) -> Vec<u8> {
        let mut names = vec![0];
        let mut table = vec![0; SYMBOL_SIZE];
        for (value, size, name) in symbols {
            table.extend((names.len() as u32).to_le_bytes());
            table.extend([2, 0, 1, 0]);
            table.extend(value.to_le_bytes());
            table.extend(size.to_le_bytes());
            names.extend(name.as_bytes());
            names.push(0);
        }
        let (table_at, names_at) = (64, 64 + table.len());
        let sections_at = names_at + names.len();
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[40..48].copy_from_slice(&(sections_at as u64).to_le_bytes());
        bytes[58..62].copy_from_slice(&[64, 0, 2, 0]);
        bytes.extend(&table);
        bytes.extend(&names);
        for (kind, at, length, link) in
            [(SECTION_SYMTAB, table_at, table.len(), 1_u32), (3, names_at, names.len(), 0)]
        {
            let mut section = [0; 64];
            section[4..8].copy_from_slice(&kind.to_le_bytes());
            section[24..32].copy_from_slice(&(at as u64).to_le_bytes());
            section[32..40].copy_from_slice(&(length as u64).to_le_bytes());
            section[40..44].copy_from_slice(&link.to_le_bytes());
            bytes.extend(section);
        }
        bytes
    }

    fn lookup(bytes: &[u8], address: u64) -> Option<(String, u64)> {
        Symbols::new(bytes).lookup(address).map(|place| (place.name, place.offset))
    }

    #[test]
    fn a_symbol_spans_its_size() {
        let bytes = file(&[(0x1000, 0x10, "one"), (0x1010, 0x10, "two")]);
        assert_eq!(lookup(&bytes, 0x100f), Some(("one".into(), 0xf)));
        assert_eq!(lookup(&bytes, 0x1010), Some(("two".into(), 0)));
        assert_eq!(lookup(&bytes, 0x1020), None);
        assert_eq!(lookup(&bytes, 0xfff), None);
    }

    #[test]
    fn labels_reach_until_something_with_a_size() {
        let bytes = file(&[(0x1000, 0, "label"), (0x1100, 0x10, "sized")]);
        assert_eq!(lookup(&bytes, 0x1050), Some(("label".into(), 0x50)));
        assert_eq!(lookup(&bytes, 0x1108), Some(("sized".into(), 8)));
        assert_eq!(lookup(&bytes, 0x1000 + LABEL_REACH), None);
    }

    #[test]
    fn names_are_demangled_cut_and_printable() {
        let long = "x".repeat(1000);
        let bytes = file(&[
            (1, 1, "_ZN5probe4main17h0123456789abcdefE"),
            (2, 1, "evil\x1b[2J"),
            (3, 1, &long),
        ]);
        assert_eq!(lookup(&bytes, 1), Some(("probe::main".into(), 0)));
        assert_eq!(lookup(&bytes, 2), Some(("evil?[2J".into(), 0)));
        assert_eq!(lookup(&bytes, 3).map(|(name, _)| name.len()), Some(SHOWN_MAX));
    }

    #[test]
    fn a_file_without_symbols_has_none() {
        for bytes in [&b""[..], b"\x7fELF", &[0; 200]] {
            assert_eq!(lookup(bytes, 0), None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn damage_never_panics(
            at in 0_usize..400, value: u8, cut in 0_usize..400, address in 0_u64..0x3000,
        ) {
            let mut bytes = file(&[(0x1000, 0x10, "one"), (0x2000, u64::MAX, "two")]);
            let index = at % bytes.len();
            bytes[index] = value;
            bytes.truncate(bytes.len().saturating_sub(cut % 64));
            if let Some((name, offset)) = lookup(&bytes, address) {
                prop_assert!(name.len() <= SHOWN_MAX && offset <= address);
            }
        }
    }
}
