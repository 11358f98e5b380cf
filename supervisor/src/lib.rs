//! The supervisor: looks after all guests of a host, and takes what people ask of them.
