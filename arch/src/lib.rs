//! x86-64 facts: the guest's address space, its image, and the processor tables behind the scenes.

pub mod space;
