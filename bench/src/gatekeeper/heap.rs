//! Memory that the allocator has given out.

/// Bytes that are in use of all that was asked for.
pub(super) fn in_use() -> usize {
    // SAFETY: it takes nothing, and looks at the allocator's own counters under its locks.
    let counters = unsafe { libc::mallinfo2() };
    counters.uordblks + counters.hblkhd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_in_use() {
        let before = in_use();
        let much = std::hint::black_box(vec![1_u8; 64 << 20]);
        let more = in_use() - before;
        assert!(more >= much.len() && more < much.len() + (16 << 20), "{more}");
    }
}
