//! For fuzzing: a saved vCPU as a back end takes it, without a machine.

use crate::VcpuState;
use crate::state::{LEGACY, Layout, mxcsr_mask};

/// Bytes of an area that has room for all that processors save.
const AREA: usize = 16 << 10;

/// Checks a state as a back end does that has all this processor has, and puts it where the processor would load
/// it from. True: it would be loaded.
///
/// # Panics
/// When a state that passes does not fit, or comes back as another one.
#[must_use]
pub fn loads(state: &VcpuState) -> bool {
    let layout = Layout::of_host();
    if state.check(layout.components(), mxcsr_mask()).is_err() {
        return false;
    }
    let mut area = vec![0; AREA];
    let fits = layout.put_together(&state.extended, u64::MAX, &mut area);
    assert!(fits.is_some(), "what passes the checks fits");
    let again = layout.take_apart(&area, state.components | LEGACY);
    let parts = |state: &VcpuState| state.extended.parts().to_vec();
    assert_eq!(parts(&VcpuState { extended: again, ..state.clone() }), parts(state));
    true
}
