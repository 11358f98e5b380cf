//! Guests that are parked and go on in another process: by a command, and by a keeper.

mod adopted;
pub mod again;
mod failing;
mod images;
pub(super) mod keeping;
mod lasting;
mod orphans;

use crate::registry::Suite;

pub fn suite() -> Suite {
    let mut suite = Suite { name: "park", cases: again::cases() };
    suite.cases.extend(adopted::cases());
    suite.cases.extend(images::cases());
    suite.cases.extend(keeping::cases());
    suite.cases.extend(lasting::cases());
    suite.cases.extend(orphans::cases());
    suite.cases.extend(failing::cases());
    suite
}
