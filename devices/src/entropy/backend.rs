//! What the entropy device needs of the host.

/// Gives random bytes fit for cryptography, and never blocks.
pub trait EntropySource {
    /// Fills all of `bytes`; false if there are no random bytes yet, as when the host has just started.
    fn fill(&mut self, bytes: &mut [u8]) -> bool;
}
