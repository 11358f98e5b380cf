//! What consoles are connected to: the terminal, files, or a socket; and the host's random bytes.
//!
//! The launcher opens files and sockets; the monitor makes back ends of the descriptors before its sandbox is
//! up ([`Duplex::terminal`] opens its two descriptors anew then). Afterwards they make these system calls and
//! no others, none of which waits:
//!
//! | system call | by | why |
//! |---|---|---|
//! | `read`, `write` | [`Duplex`] | input and output |
//! | `recvfrom`, `sendto` (`MSG_DONTWAIT`, `MSG_NOSIGNAL`, `MSG_PEEK`) | both, for sockets | input and output |
//! | `accept4`, `close` | [`SocketConsole`] | who connects, and who is gone |
//! | `poll`, with a timeout of 0 | both | whether there is room, and whether the other end is there |
//! | `epoll_ctl` | both | what wakes the monitor |
//! | `getrandom` (`GRND_NONBLOCK`) | [`HostEntropy`] | random bytes |
//!
//! Input comes as the terminal gives it, line by line with echo as long as nobody has set it otherwise.

mod duplex;
mod entropy;
mod interest;
mod socket;
mod stream;
#[cfg(test)]
mod tests;

pub use duplex::Duplex;
pub use entropy::HostEntropy;
pub use socket::SocketConsole;
pub use stream::Encoder;
