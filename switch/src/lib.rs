//! The switch: the network of all guests of a host, in a process of its own, so that packets flow while the
//! supervisor starts anew.

pub mod protocol;
