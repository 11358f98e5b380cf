//! The host's random bytes.

use denali_devices::entropy::EntropySource;

/// The kernel's generator, once it is seeded.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostEntropy;

impl EntropySource for HostEntropy {
    fn fill(&mut self, bytes: &mut [u8]) -> bool {
        let mut done = 0;
        while done < bytes.len() {
            let rest = &mut bytes[done..];
            // SAFETY: the rest is writable for its length.
            let got = unsafe {
                libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), libc::GRND_NONBLOCK)
            };
            match usize::try_from(got) {
                Ok(got) if got > 0 => done += got,
                _ => return false,
            }
        }
        true
    }
}
