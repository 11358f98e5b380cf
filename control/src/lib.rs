//! The control protocol between a monitor and whoever looks after it.
