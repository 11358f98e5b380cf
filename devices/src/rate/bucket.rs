//! A token bucket that never loses a fraction of a token.

use crate::state::BucketState;

/// Longest refill time that is kept exactly: about a day and a half, in nanoseconds.
const REFILL_MAX_NS: u64 = 1 << 47;

/// Tokens that come back at a constant rate, up to a limit, and some that come once.
///
/// It begins full. The one-time burst is used up before anything else. What is larger than the whole bucket
/// is let through once the bucket is full, and leaves a debt that everything after it waits off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    size: u64,
    burst: u64,
    refill_ns: u64,
    /// Tokens times `refill_ns`, so that `elapsed × size` is what comes back; negative = debt.
    level: i128,
    /// When `level` was right; 0 = not used yet.
    updated_ns: u64,
}

impl TokenBucket {
    /// A full bucket of `size` tokens, which is filled from empty in `refill_ns`, and `one_time_burst`
    /// tokens beside. A size or time of 0 counts as 1; times are cut to 39 hours.
    #[must_use]
    pub fn new(size: u64, one_time_burst: u64, refill_ns: u64) -> Self {
        let (size, refill_ns) = (size.max(1), refill_ns.clamp(1, REFILL_MAX_NS));
        let level = i128::from(size) * i128::from(refill_ns);
        Self { size, burst: one_time_burst, refill_ns, level, updated_ns: 0 }
    }

    /// Brings the level up to `now_ns`. A clock that runs backwards adds nothing.
    pub(super) fn refill(&mut self, now_ns: u64) {
        let elapsed = now_ns.saturating_sub(self.updated_ns);
        self.updated_ns = self.updated_ns.max(now_ns);
        let gained = i128::from(elapsed).saturating_mul(i128::from(self.size));
        self.level = self.level.saturating_add(gained).min(self.scaled(self.size));
    }

    /// When `tokens` can be taken; at once if that is not after the last [`TokenBucket::refill`].
    pub(super) fn ready_at(&self, tokens: u64) -> u64 {
        self.has_at(self.needed(tokens))
    }

    /// When so many tokens are in the bucket, if nothing is taken.
    fn has_at(&self, tokens: u64) -> u64 {
        let missing = self.scaled(tokens).saturating_sub(self.level);
        if missing <= 0 {
            return self.updated_ns;
        }
        let wait = u64::try_from((missing - 1) / i128::from(self.size) + 1).unwrap_or(u64::MAX);
        self.updated_ns.saturating_add(wait)
    }

    /// What is left. A nanosecond's worth of tokens may be lost by it, and none is gained.
    pub(super) fn save(&self) -> BucketState {
        let full = self.level >= self.scaled(self.size);
        let full_at_ns = if full { 0 } else { self.has_at(self.size) };
        BucketState { full_at_ns, burst: self.burst }
    }

    /// Leaves what the state says is left, and no more than there is room for.
    pub(super) fn restore(&mut self, state: BucketState) {
        let missing = i128::from(state.full_at_ns).saturating_mul(i128::from(self.size));
        self.level = self.scaled(self.size).saturating_sub(missing);
        self.burst = self.burst.min(state.burst);
        // At time 0 the bucket lacked what comes back until it is full.
        self.updated_ns = 0;
    }

    /// Takes `tokens`, whether they are there or not.
    pub(super) fn take(&mut self, tokens: u64) {
        let from_burst = tokens.min(self.burst);
        self.burst -= from_burst;
        self.level = self.level.saturating_sub(self.scaled(tokens - from_burst));
    }

    /// Gives back `tokens` that were taken and not used.
    pub(super) fn give_back(&mut self, tokens: u64) {
        self.level = self.level.saturating_add(self.scaled(tokens)).min(self.scaled(self.size));
    }

    /// The level that lets `tokens` through.
    fn needed(&self, tokens: u64) -> u64 {
        tokens.saturating_sub(self.burst).min(self.size)
    }

    fn scaled(&self, tokens: u64) -> i128 {
        i128::from(tokens) * i128::from(self.refill_ns)
    }
}
