//! Places for secrets: memory that the host never swaps out and leaves out of core dumps, and no child of this
//! process inherits, wiped at the end.

use crate::memory::Mapping;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, compiler_fence};

/// A value in locked memory, wiped when it is dropped. It takes at least a page.
pub(crate) struct Locked<T> {
    /// Keeps the value; the pointer is into it.
    memory: Mapping,
    value: NonNull<T>,
}

// SAFETY: the value belongs to this alone, as in a `Box`.
unsafe impl<T: Send> Send for Locked<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Locked<T> {}

impl<T> Locked<T> {
    /// Moves a value into locked memory. What it was moved from is the caller's: a secret is best written
    /// when it is in its place.
    ///
    /// # Errors
    /// When the host has no memory, or lets none be locked.
    pub(crate) fn new(value: T) -> io::Result<Self> {
        const { assert!(align_of::<T>() <= crate::region::PAGE, "mappings are aligned to pages") };
        let memory = Mapping::new(size_of::<T>())?;
        lock(&memory)?;
        let place = memory.start().cast::<T>();
        // SAFETY: the mapping is writable, large enough, and aligned as any page is.
        unsafe { place.write(value) };
        Ok(Self { memory, value: place })
    }
}

fn lock(memory: &Mapping) -> io::Result<()> {
    let (start, length) = (memory.start().as_ptr().cast(), memory.len());
    // SAFETY: the range is a mapping of ours; neither call changes what it contains.
    let done = unsafe {
        libc::mlock(start, length) == 0 && libc::madvise(start, length, libc::MADV_DONTDUMP) == 0
    };
    if done {
        // A process that is forked shall not have it either. Kernels before 4.14 do not know that.
        // SAFETY: as above.
        unsafe { libc::madvise(start, length, libc::MADV_WIPEONFORK) };
        return Ok(());
    }
    let error = io::Error::last_os_error();
    let text = format!("cannot lock memory for a key; raise the limit (ulimit -l): {error}");
    Err(io::Error::new(error.kind(), text))
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the value is initialised, and borrowed with `self`.
        unsafe { self.value.as_ref() }
    }
}

impl<T> DerefMut for Locked<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the value is initialised, and borrowed exclusively with `self`.
        unsafe { self.value.as_mut() }
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        // SAFETY: the value is initialised and not used after this.
        unsafe { self.value.drop_in_place() };
        wipe(self.memory.bytes_mut());
    }
}

/// Overwrites a secret with zeroes, in a way that is not optimized away.
pub fn wipe(secret: &mut [u8]) {
    for byte in secret {
        // SAFETY: a reference is valid for a write.
        unsafe { std::ptr::write_volatile(byte, 0) };
    }
    compiler_fence(Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::read_to_string;

    /// What the kernel says of the mapping that has this address: its flags.
    fn flags(address: usize) -> String {
        let maps = read_to_string("/proc/self/smaps").unwrap();
        let start = |line: &str| usize::from_str_radix(line.split('-').next()?, 16).ok();
        let lines = maps.lines().skip_while(|line| start(line) != Some(address));
        lines.into_iter().find(|line| line.starts_with("VmFlags")).unwrap().to_owned()
    }

    #[test]
    fn a_secret_is_locked_and_in_no_core_dump_and_no_child() {
        // Apart from neighbours, with which the kernel would show it as one.
        let secret = Locked::new([7_u8; 32]).unwrap();
        let flags = flags(secret.memory.start().as_ptr() as usize);
        assert!([" lo", " dd", " wf"].iter().all(|flag| flags.contains(flag)), "{flags}");
        assert_eq!(*secret, [7; 32]);
    }

    #[test]
    fn what_is_wiped_is_zero() {
        let mut secret = [9; 100];
        wipe(&mut secret);
        assert_eq!(secret, [0; 100]);
    }
}
