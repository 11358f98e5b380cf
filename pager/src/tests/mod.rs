//! Tests with real userfaultfds, real memory, and threads that touch it.

mod completing;
mod failing;
mod growing;
mod paging;
mod sandbox;
mod serving;
pub(crate) mod support;
