//! The process back end.
