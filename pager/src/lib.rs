//! The pager: brings pages of a guest back when it touches them, and takes those it does not.
