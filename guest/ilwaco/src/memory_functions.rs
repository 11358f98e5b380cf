//! The memory functions that compiled code calls: `memcpy`, `memmove`, `memset`, `memcmp`, `bcmp`.
//!
//! Short blocks, by far the most frequent, are moved with overlapping loads and stores; long ones
//! with the string instructions, which processors run at full width. Written in assembly, because
//! the compiler turns such loops in Rust into calls to these very functions.

use core::arch::naked_asm;

/// Copies `n` bytes between blocks that do not overlap; returns the destination.
#[cfg_attr(guest_image, unsafe(no_mangle))]
#[unsafe(naked)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 32",
        "jbe {short}",
        "cmp rdx, 256",
        "ja 3f",
        // 33 to 256 bytes: the last 32 first loaded, then 32 at a time from the start.
        "movups xmm2, [rsi + rdx - 32]",
        "movups xmm3, [rsi + rdx - 16]",
        "lea r8, [rdi + rdx - 32]",
        "2:",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + 16]",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "add rsi, 32",
        "add rdi, 32",
        "cmp rdi, r8",
        "jb 2b",
        "movups [r8], xmm2",
        "movups [r8 + 16], xmm3",
        "ret",
        "3:",
        "mov rcx, rdx",
        "rep movsb",
        "ret",
        short = sym copy_short,
    )
}

/// Copies at most 32 bytes, all loaded before any is stored: right for blocks that overlap too.
/// RDI, RSI, RDX as for `memcpy`, RAX already holds the result.
#[unsafe(naked)]
unsafe extern "C" fn copy_short() {
    naked_asm!(
        "cmp edx, 16",
        "jae 5f",
        "cmp edx, 8",
        "jae 4f",
        "cmp edx, 4",
        "jae 3f",
        "test edx, edx",
        "jz 2f",
        // 1 to 3 bytes: first, middle, last.
        "movzx ecx, byte ptr [rsi]",
        "movzx r9d, byte ptr [rsi + rdx - 1]",
        "mov r8, rdx",
        "shr r8, 1",
        "movzx r10d, byte ptr [rsi + r8]",
        "mov [rdi], cl",
        "mov [rdi + r8], r10b",
        "mov [rdi + rdx - 1], r9b",
        "2:",
        "ret",
        "3:",
        "mov ecx, [rsi]",
        "mov r8d, [rsi + rdx - 4]",
        "mov [rdi], ecx",
        "mov [rdi + rdx - 4], r8d",
        "ret",
        "4:",
        "mov rcx, [rsi]",
        "mov r8, [rsi + rdx - 8]",
        "mov [rdi], rcx",
        "mov [rdi + rdx - 8], r8",
        "ret",
        "5:",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + rdx - 16]",
        "movups [rdi], xmm0",
        "movups [rdi + rdx - 16], xmm1",
        "ret",
    )
}

/// Copies `n` bytes between blocks that may overlap; returns the destination.
#[cfg_attr(guest_image, unsafe(no_mangle))]
#[unsafe(naked)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 32",
        "jbe {short}",
        // Forwards is right unless the destination starts inside the source.
        "mov rcx, rdi",
        "sub rcx, rsi",
        "cmp rcx, rdx",
        "jb 2f",
        "mov rcx, rdx",
        "rep movsb",
        "ret",
        // Backwards, 16 bytes at a time; the first 16 are loaded before anything is stored.
        "2:",
        "movups xmm1, [rsi]",
        "3:",
        "movups xmm0, [rsi + rdx - 16]",
        "movups [rdi + rdx - 16], xmm0",
        "sub rdx, 16",
        "cmp rdx, 16",
        "ja 3b",
        "movups [rdi], xmm1",
        "ret",
        short = sym copy_short,
    )
}

/// Fills `n` bytes; returns the destination.
#[cfg_attr(guest_image, unsafe(no_mangle))]
#[unsafe(naked)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, n: usize) -> *mut u8 {
    naked_asm!(
        "mov r8, rdi",
        "movzx eax, sil",
        "cmp rdx, 16",
        "jae 3f",
        "2:",
        "test rdx, rdx",
        "jz 4f",
        "mov [rdi + rdx - 1], al",
        "dec rdx",
        "jmp 2b",
        "3:",
        "mov rcx, rdx",
        "rep stosb",
        "4:",
        "mov rax, r8",
        "ret",
    )
}

/// Compares `n` bytes as unsigned numbers: negative, zero or positive.
#[cfg_attr(guest_image, unsafe(no_mangle))]
#[unsafe(naked)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, n: usize) -> i32 {
    naked_asm!(
        "cmp rdx, 8",
        "jb 3f",
        "2:",
        "mov rax, [rdi]",
        "mov rcx, [rsi]",
        "cmp rax, rcx",
        "jne 5f",
        "add rdi, 8",
        "add rsi, 8",
        "sub rdx, 8",
        "cmp rdx, 8",
        "jae 2b",
        "3:",
        "test rdx, rdx",
        "jz 6f",
        "4:",
        "movzx eax, byte ptr [rdi]",
        "movzx ecx, byte ptr [rsi]",
        "sub eax, ecx",
        "jnz 7f",
        "inc rdi",
        "inc rsi",
        "dec rdx",
        "jnz 4b",
        "ret",
        // The first byte that differs decides: compare as big-endian numbers.
        "5:",
        "bswap rax",
        "bswap rcx",
        "cmp rax, rcx",
        "sbb eax, eax",
        "or eax, 1",
        "ret",
        "6:",
        "xor eax, eax",
        "7:",
        "ret",
    )
}

/// Compares `n` bytes: zero if they are the same.
#[cfg_attr(guest_image, unsafe(no_mangle))]
#[unsafe(naked)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, n: usize) -> i32 {
    naked_asm!("jmp {memcmp}", memcmp = sym memcmp)
}

#[cfg(test)]
mod tests {
    use super::{bcmp, memcmp, memcpy, memmove, memset};
    use proptest::prelude::*;

    /// Lengths around every boundary between the ways of moving bytes.
    fn lengths() -> impl Iterator<Item = usize> {
        (0..70).chain([127, 128, 129, 255, 256, 257, 300, 511, 1000])
    }

    fn pattern() -> Vec<u8> {
        (0..2500_usize).map(|index| (index * 7 + index / 251) as u8).collect()
    }

    #[test]
    fn blocks_are_copied_and_nothing_else_is_written() {
        let source = pattern();
        for length in lengths() {
            for shift in 0..5 {
                let mut target = vec![0xee; length + 64];
                let to = target[16 + shift..].as_mut_ptr();
                // SAFETY: both blocks are inside their vectors.
                let returned = unsafe { memcpy(to, source[shift..].as_ptr(), length) };
                assert_eq!(returned, to);
                let end = 16 + shift + length;
                assert_eq!(target[16 + shift..end], source[shift..shift + length]);
                assert!(target[..16 + shift].iter().chain(&target[end..]).all(|&b| b == 0xee));
            }
        }
    }

    #[test]
    fn overlapping_blocks_are_moved() {
        for length in lengths() {
            for distance in [-300_isize, -40, -16, -15, -1, 0, 1, 3, 15, 16, 17, 33, 64, 300] {
                let mut expected = pattern();
                let mut bytes = expected.clone();
                let from = 700_usize;
                let to = from.checked_add_signed(distance).unwrap();
                expected.copy_within(from..from + length, to);
                let start = bytes.as_mut_ptr();
                // SAFETY: both blocks are inside the vector.
                unsafe { memmove(start.add(to), start.add(from), length) };
                assert!(bytes == expected, "{length} bytes by {distance}");
            }
        }
    }

    #[test]
    fn blocks_are_filled() {
        for length in lengths() {
            let mut bytes = vec![1; length + 2];
            // SAFETY: the block is inside the vector.
            unsafe { memset(bytes[1..].as_mut_ptr(), 0x1ab, length) };
            assert!(bytes[1..=length].iter().all(|&byte| byte == 0xab));
            assert_eq!((bytes[0], bytes[length + 1]), (1, 1));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn blocks_are_compared_as_numbers(
            mut one in proptest::collection::vec(any::<u8>(), 0..40),
            place in any::<usize>(),
            change in any::<u8>(),
        ) {
            let other = one.clone();
            if !one.is_empty() {
                let place = place % one.len();
                one[place] = one[place].wrapping_add(change);
            }
            // SAFETY: both blocks are as long as said.
            let (sign, same) = unsafe {
                (
                    memcmp(one.as_ptr(), other.as_ptr(), one.len()),
                    bcmp(one.as_ptr(), other.as_ptr(), one.len()),
                )
            };
            prop_assert_eq!(sign.cmp(&0), one.cmp(&other));
            prop_assert_eq!(same == 0, one == other);
        }
    }
}
