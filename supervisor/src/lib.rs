//! The supervisor's interface.
