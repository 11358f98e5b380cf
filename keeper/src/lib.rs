//! Looks after guests that may be parked: starts them, holds what wakes them, and wakes them.

mod wheel;
