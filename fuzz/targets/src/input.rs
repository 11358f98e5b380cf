//! A fuzzer's bytes, taken as numbers and pieces; where they end come zeroes.

/// What is left of the bytes.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next bytes, as many as there are of `length`.
    pub(crate) fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (now, later) = self.0.split_at(length.min(self.0.len()));
        self.0 = later;
        now
    }

    /// The next bytes, with zeroes where there are none.
    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let bytes = self.bytes(N);
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// The next piece of something larger: the number of its block of 4096 bytes, and how that begins.
    pub(crate) fn piece(&mut self) -> Option<(u64, &'a [u8])> {
        if self.is_empty() {
            return None;
        }
        let (block, length) = (self.byte(), self.u16());
        Some((block.into(), self.bytes(usize::from(length).min(BLOCK))))
    }
}

/// Bytes of a block.
pub(crate) const BLOCK: usize = 4096;

/// Appends a piece as [`Input::piece`] reads it, without the zeroes at its end.
pub(crate) fn put_piece(bytes: &mut Vec<u8>, block: u8, content: &[u8]) {
    let length = content.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    bytes.push(block);
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(&content[..length]);
}
