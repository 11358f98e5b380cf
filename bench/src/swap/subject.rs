//! What is measured, and with what.

use crate::backend::Backend;
use crate::options::SwapOptions;
use crate::place::Place;
use crate::programs::Programs;

/// A back end, and what it takes to measure it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) backend: Backend,
    pub(super) options: &'a SwapOptions,
    pub(super) place: &'a Place,
    pub(super) programs: &'a Programs,
}
