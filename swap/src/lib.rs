//! The swap store: pages of a guest that left memory, in a striped, encrypted region.
