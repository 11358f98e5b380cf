//! The atomic types of [`pending`](crate::pending): the standard library's here, loom's in `tests/loom.rs`.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
