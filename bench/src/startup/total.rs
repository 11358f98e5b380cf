//! What an idle guest costs in all, the kernel's memory included: the slope over many guests.

use crate::backend::Backend;
use crate::cgroup::{Charged, MemoryGroup};
use crate::figures::Figures;
use crate::guest::{Idlers, Way};
use crate::programs::Programs;
use crate::settled::settled_kib;
use crate::summary::slope;
use anyhow::Result;

/// Measures with a quarter, a half, and all of `guests`.
pub(super) fn measure(
    (backend, way): (Backend, Way),
    guests: u32,
    programs: &Programs,
    figures: &mut Figures,
) -> Result<()> {
    // Declared first, so that it is removed last, when all guests are gone.
    let group = match MemoryGroup::enter() {
        Ok(group) => Some(group),
        Err(error) => {
            figures.skip("memory by control group", &format!("{error:#}"));
            None
        }
    };
    let title = format!("{}, {}", backend.title(), way.title());
    let mut idlers = Idlers::new(backend, way, programs)?;
    let (mut used, mut charged) = (Vec::new(), Vec::new());
    for count in [guests.div_ceil(4), guests.div_ceil(2), guests] {
        idlers.grow(count as usize)?;
        let settled = settled_kib()?;
        eprintln!("{title}: {count} idle guests: {settled:.0} KiB in use");
        used.push((f64::from(count), settled));
        if let Some(group) = &group {
            charged.push((f64::from(count), group.charged()?));
        }
    }
    drop(idlers);
    let of_group = |part: fn(&Charged) -> f64| {
        let points: Vec<_> = charged.iter().map(|(count, it)| (*count, part(it))).collect();
        slope(&points)
    };
    let (whole, charged) = (slope(&used), of_group(|it| it.total));
    if let Some((whole, charged)) = whole.zip(charged)
        && (whole - charged).abs() > 0.1 * charged
    {
        eprintln!(
            "{title}: {whole:.0} KiB a guest by the machine's memory, {charged:.0} by the control group: \
             was the machine busy with something else?"
        );
    }
    let (infix, suffix) = (way.idle_infix(), backend.suffix());
    figures.set(format!("total_per_guest{infix}_kib{suffix}"), whole);
    figures.set(format!("cgroup_per_guest{infix}_kib{suffix}"), charged);
    figures.set(format!("cgroup_kernel_per_guest{infix}_kib{suffix}"), of_group(|it| it.kernel));
    Ok(())
}
