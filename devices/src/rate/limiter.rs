//! A limit of bytes and operations together.

use super::TokenBucket;
use crate::state::LimiterState;

/// Limits what passes by bytes, by operations, by both or by neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimiter {
    bandwidth: Option<TokenBucket>,
    ops: Option<TokenBucket>,
    ready_at: Option<u64>,
}

impl RateLimiter {
    /// A limit of bytes by `bandwidth` and of operations by `ops`; `None` is no limit.
    #[must_use]
    pub fn new(bandwidth: Option<TokenBucket>, ops: Option<TokenBucket>) -> Self {
        Self { bandwidth, ops, ready_at: None }
    }

    /// Whether it limits anything.
    #[must_use]
    pub fn limits(&self) -> bool {
        self.bandwidth.is_some() || self.ops.is_some()
    }

    /// Lets an operation of so many bytes through, or has it wait until [`RateLimiter::ready_at`]; nothing
    /// is taken then. `now_ns` is monotonic time.
    pub fn consume(&mut self, bytes: u64, now_ns: u64) -> bool {
        let passes = self.passes(bytes, now_ns);
        if passes {
            self.charge(bytes);
        }
        passes
    }

    /// Whether an operation of so many bytes would be let through; if not, it waits as with
    /// [`RateLimiter::consume`]. For operations whose size is known only when they are done: those ask
    /// for 0 bytes, and are then [charged](RateLimiter::charge).
    pub fn passes(&mut self, bytes: u64, now_ns: u64) -> bool {
        let mut ready_at = now_ns;
        for (bucket, tokens) in self.buckets(bytes) {
            bucket.refill(now_ns);
            ready_at = ready_at.max(bucket.ready_at(tokens));
        }
        self.ready_at = (ready_at > now_ns).then_some(ready_at);
        self.ready_at.is_none()
    }

    /// Counts an operation of so many bytes that has been let through.
    pub fn charge(&mut self, bytes: u64) {
        for (bucket, tokens) in self.buckets(bytes) {
            bucket.take(tokens);
        }
    }

    /// Takes back what was counted for an operation of so many bytes that did not come about.
    pub fn refund(&mut self, bytes: u64) {
        for (bucket, tokens) in self.buckets(bytes) {
            bucket.give_back(tokens);
        }
    }

    /// When what was last asked for is let through, in nanoseconds of monotonic time; `None` if it was.
    #[must_use]
    pub fn ready_at(&self) -> Option<u64> {
        self.ready_at
    }

    /// Nothing waits any more, for instance after a reset.
    pub fn forget(&mut self) {
        self.ready_at = None;
    }

    /// What was let through so far.
    pub(crate) fn save(&self) -> LimiterState {
        let save = |bucket: &Option<TokenBucket>| bucket.as_ref().map(TokenBucket::save);
        LimiterState { bandwidth: save(&self.bandwidth), ops: save(&self.ops) }
    }

    /// Counts what was let through where the state was saved. How much may pass is still what it was made
    /// with; a limit that is not in the state begins anew.
    pub(crate) fn restore(&mut self, state: &LimiterState) {
        for (bucket, state) in [(&mut self.bandwidth, state.bandwidth), (&mut self.ops, state.ops)]
        {
            if let (Some(bucket), Some(state)) = (bucket, state) {
                bucket.restore(state);
            }
        }
    }

    fn buckets(&mut self, bytes: u64) -> impl Iterator<Item = (&mut TokenBucket, u64)> {
        let bandwidth = self.bandwidth.as_mut().map(|bucket| (bucket, bytes));
        bandwidth.into_iter().chain(self.ops.as_mut().map(|bucket| (bucket, 1)))
    }
}
