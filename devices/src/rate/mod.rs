//! Rate limits: token buckets for bytes and operations. Time is given, never read.

mod bucket;
mod limiter;
#[cfg(test)]
mod tests;

pub use bucket::TokenBucket;
pub use limiter::RateLimiter;
