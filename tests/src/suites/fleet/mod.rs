//! A supervisor and the guests of its host: what it is asked for, and what it survives.

mod copies;
mod crashes;
mod damage;
mod limits;
mod names;
mod orders;
mod switched;
mod uplink;

use crate::registry::Suite;

pub fn suite() -> Suite {
    let mut suite = Suite { name: "fleet", cases: orders::cases() };
    suite.cases.extend(names::cases());
    suite.cases.extend(switched::cases());
    suite.cases.extend(crashes::cases());
    suite.cases.extend(damage::cases());
    suite.cases.extend(copies::cases());
    suite.cases.extend(limits::cases());
    suite.cases.extend(uplink::cases());
    suite
}
