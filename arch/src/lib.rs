//! x86-64 facts: the guest's address space, its image, and the processor tables behind the scenes.

pub mod image;
pub mod space;
pub mod symbols;
pub mod tables;
