//! The name servers that the host itself asks.

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Where hosts say whom they ask.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Name servers that are used, as by the C library.
const SERVERS_MAX: usize = 3;

/// Most bytes that are read.
const SIZE_MAX: u64 = 64 << 10;

/// The name servers that the file at `path` lists, at most three, as the host's own programs use it.
///
/// # Errors
/// When the file cannot be read.
pub fn listed(path: &Path) -> io::Result<Vec<SocketAddr>> {
    let mut text = Vec::new();
    File::open(path)?.take(SIZE_MAX).read_to_end(&mut text)?;
    Ok(parse(&String::from_utf8_lossy(&text)))
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let named = words.next() == Some("nameserver");
        // A zone (fe80::1%eth0) is left out: such a server is not used.
        words.next().filter(|_| named)?.parse::<IpAddr>().ok()
    };
    let addresses = text.lines().filter_map(address).take(SERVERS_MAX);
    addresses.map(|address| SocketAddr::new(address, 53)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_among_other_lines() {
        let text = "# nameserver 192.0.2.9\nsearch example.com\nnameserver 127.0.0.53\n\
                    nameserver\nnameserver fe80::1%eth0\n  nameserver\t::1 \nnameserver 192.0.2.1\n\
                    nameserver 192.0.2.2\noptions edns0\n";
        let expected = ["127.0.0.53:53", "[::1]:53", "192.0.2.1:53"];
        assert_eq!(parse(text), expected.map(|text| text.parse().unwrap()));
        assert_eq!(parse("garbage\u{0}"), []);
    }

    #[test]
    fn a_missing_file_is_an_error() {
        assert!(listed(Path::new("/nonexistent/resolv.conf")).is_err());
    }
}
