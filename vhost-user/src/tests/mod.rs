//! Front ends against scripted back ends, and a driver that uses them.

mod back_end;
mod driver;
mod hostile;
mod reconnect;
mod start;
mod storage_daemon;
mod track;
mod work;
