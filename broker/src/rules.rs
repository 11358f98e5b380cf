//! Which connections and names a guest may ask for: rules, and the one place that decides by them.

use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddrV4};

/// A transport protocol, by its number in IP packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Protocol {
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
}

/// Where a rule leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// All addresses of a range: one of them, and the bits of its prefix, 0 to 32.
    Range(Ipv4Addr, u8),
    /// The public addresses that this name means, in lower case and without a dot at its end.
    Name(String),
    /// The public addresses that any name below this one means.
    Below(String),
    /// The host's loopback, which the guest sees at its gateway's address.
    Host,
}

/// Something that a guest may connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Where to.
    pub target: Target,
    /// Ranges of ports, the first and the last of each.
    pub ports: Vec<(u16, u16)>,
    /// By which protocol.
    pub protocol: Protocol,
}

/// What a guest may connect to, and where it sits in its own network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// What is allowed; everything else is not.
    pub rules: Vec<Rule>,
    /// The guest's own address.
    pub address: Ipv4Addr,
    /// Bits of the prefix of the guest's subnet.
    pub prefix_len: u8,
    /// The gateway's address, behind which the guest sees the host's loopback.
    pub gateway: Ipv4Addr,
}

/// Ranges that no wider range includes: who means them must name a range inside them. First address,
/// and bits of the prefix.
const SPECIAL: [(Ipv4Addr, u8); 5] = [
    // This host and this network (RFC 1122); Linux takes 0.0.0.0 for its loopback.
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    // Loopback.
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local, where clouds keep the machine's credentials.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    // Multicast.
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    // Reserved, and broadcast at its end.
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Ranges that are not public: what a name means there allows nothing.
const PRIVATE: [(Ipv4Addr, u8); 6] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
];

impl Rule {
    fn allows(&self, protocol: Protocol, port: u16) -> bool {
        let inside = |&(first, last): &(u16, u16)| (first..=last).contains(&port);
        self.protocol == protocol && self.ports.iter().any(inside)
    }

    fn covers_name(&self, name: &str) -> bool {
        match &self.target {
            Target::Name(own) => own == name,
            Target::Below(own) => name
                .strip_suffix(own.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            Target::Range(..) | Target::Host => false,
        }
    }

    /// Whether it has a name in it.
    #[must_use]
    pub fn is_by_name(&self) -> bool {
        matches!(self.target, Target::Name(_) | Target::Below(_))
    }
}

impl Policy {
    /// Whether the guest may ask for names at all.
    #[must_use]
    pub fn resolves(&self) -> bool {
        self.rules.iter().any(Rule::is_by_name)
    }

    /// Whether the guest may ask what `name` means: in lower case, without a dot at its end.
    #[must_use]
    pub fn allows_name(&self, name: &str) -> bool {
        self.rules.iter().any(|rule| rule.covers_name(name))
    }

    /// Where a connection that the guest makes to `to` goes, if it is allowed. `names` are those that
    /// were found to mean the address lately.
    #[must_use]
    pub fn destination<'n>(
        &self,
        protocol: Protocol,
        to: SocketAddrV4,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Option<SocketAddrV4> {
        let (address, port) = (*to.ip(), to.port());
        let mut rules = self.rules.iter().filter(|rule| rule.allows(protocol, port));
        if port == 0 {
            return None;
        }
        if address == self.gateway {
            let allowed = rules.any(|rule| rule.target == Target::Host);
            return allowed.then(|| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
        }
        let special = self.special_range(address);
        let by_range = |rule: &&Rule| match rule.target {
            Target::Range(start, prefix_len) => {
                let explicit = special
                    .is_none_or(|(range, bits)| prefix_len >= bits && contains(range, bits, start));
                explicit && contains(start, prefix_len, address)
            }
            _ => false,
        };
        if rules.clone().any(|rule| by_range(&rule)) {
            return Some(to);
        }
        let named: Vec<&Rule> = rules.filter(|rule| rule.is_by_name()).collect();
        let by_name = !named.is_empty()
            && self.is_public(address)
            && names.into_iter().any(|name| named.iter().any(|rule| rule.covers_name(name)));
        by_name.then_some(to)
    }

    /// Whether what a name means can allow connections to `address`.
    #[must_use]
    pub fn is_public(&self, address: Ipv4Addr) -> bool {
        let private = PRIVATE.iter().any(|&(start, bits)| contains(start, bits, address));
        !private && self.special_range(address).is_none()
    }

    /// The range that must be named explicitly, if `address` is in one.
    fn special_range(&self, address: Ipv4Addr) -> Option<(Ipv4Addr, u8)> {
        let own = (self.address, self.prefix_len);
        SPECIAL.into_iter().chain([own]).find(|&(start, bits)| contains(start, bits, address))
    }
}

/// Whether `address` begins with the first `bits` bits of `start`.
fn contains(start: Ipv4Addr, bits: u8, address: Ipv4Addr) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
    (u32::from(start) ^ u32::from(address)) & mask == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(target: Target, ports: (u16, u16)) -> Rule {
        Rule { target, ports: vec![ports], protocol: Protocol::Tcp }
    }

    fn policy(rules: Vec<Rule>) -> Policy {
        let [address, gateway] = [15, 2].map(|last| Ipv4Addr::new(10, 0, 2, last));
        Policy { rules, address, prefix_len: 24, gateway }
    }

    fn goes(policy: &Policy, to: &str, names: &[&str]) -> Option<String> {
        let names = names.iter().copied();
        let to = policy.destination(Protocol::Tcp, to.parse().unwrap(), names);
        to.map(|to| to.to_string())
    }

    #[test]
    fn nothing_is_allowed_without_a_rule() {
        let none = policy(Vec::new());
        assert!(!none.resolves() && !none.allows_name("example.com"));
        for to in ["192.0.2.1:80", "10.0.2.2:80", "127.0.0.1:80"] {
            assert_eq!(goes(&none, to, &["example.com"]), None);
        }
    }

    #[test]
    fn ranges_allow_their_addresses_ports_and_protocol() {
        let some = policy(vec![rule(Target::Range(Ipv4Addr::new(192, 0, 2, 0), 25), (80, 81))]);
        assert_eq!(goes(&some, "192.0.2.127:81", &[]).unwrap(), "192.0.2.127:81");
        for to in ["192.0.2.128:80", "192.0.2.1:79", "192.0.2.1:82", "192.0.2.1:0"] {
            assert_eq!(goes(&some, to, &[]), None, "{to}");
        }
        let to = "192.0.2.1:80".parse().unwrap();
        assert_eq!(some.destination(Protocol::Udp, to, []), None);
    }

    #[test]
    fn special_ranges_are_to_be_named() {
        const ALL: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
        let special = [
            "0.0.0.0:80",
            "127.0.0.1:80",
            "169.254.169.254:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "10.0.2.15:80",
            "10.0.2.3:80",
            "10.0.2.255:80",
            "240.0.0.1:80",
        ];
        let everything = policy(vec![rule(Target::Range(ALL, 0), (1, 65535))]);
        assert!(goes(&everything, "10.0.3.1:80", &[]).is_some());
        for to in special {
            assert_eq!(goes(&everything, to, &["a"]), None, "{to}");
            let address: SocketAddrV4 = to.parse().unwrap();
            let named = policy(vec![rule(Target::Range(*address.ip(), 32), (80, 80))]);
            assert_eq!(goes(&named, to, &[]).as_deref(), Some(to));
        }
        let wider = policy(vec![rule(Target::Range(Ipv4Addr::new(126, 0, 0, 0), 7), (80, 80))]);
        assert_eq!(goes(&wider, "127.0.0.1:80", &[]), None);
    }

    #[test]
    fn the_gateway_is_the_hosts_loopback_for_who_may() {
        let host = policy(vec![rule(Target::Host, (5432, 5432))]);
        assert_eq!(goes(&host, "10.0.2.2:5432", &[]).unwrap(), "127.0.0.1:5432");
        for to in ["10.0.2.2:22", "127.0.0.1:5432", "10.0.2.3:5432"] {
            assert_eq!(goes(&host, to, &[]), None, "{to}");
        }
        let range = policy(vec![rule(Target::Range(Ipv4Addr::new(10, 0, 2, 2), 32), (1, 9999))]);
        assert_eq!(goes(&range, "10.0.2.2:5432", &[]), None, "the gateway is the host's alone");
    }

    #[test]
    fn names_allow_what_they_mean_if_it_is_public() {
        let named = policy(vec![
            rule(Target::Name("example.com".into()), (443, 443)),
            rule(Target::Below("example.org".into()), (80, 80)),
        ]);
        assert!(named.allows_name("example.com") && named.allows_name("a.b.example.org"));
        for name in ["www.example.com", "example.org", "notexample.org", ".example.org", "", "com"]
        {
            assert!(!named.allows_name(name), "{name}");
        }
        assert!(goes(&named, "198.51.100.1:443", &["example.com"]).is_some());
        assert_eq!(goes(&named, "198.51.100.1:80", &["example.com"]), None, "another rule's port");
        assert_eq!(goes(&named, "198.51.100.1:443", &["a.example.org"]), None);
        assert_eq!(goes(&named, "198.51.100.1:443", &[]), None);
        for private in ["127.0.0.1:443", "192.168.1.1:443", "169.254.169.254:443", "10.0.2.3:443"] {
            assert_eq!(goes(&named, private, &["example.com"]), None, "{private}");
        }
    }

    proptest! {
        /// Whatever the rules, what is allowed is what one of them says.
        #[test]
        fn nothing_is_allowed_that_no_rule_says(
            ranges in prop::collection::vec((any::<u32>(), 0_u8..=32, any::<(u16, u16)>()), 0..6),
            to in any::<(u32, u16)>(),
            near in any::<prop::sample::Index>(),
            host in any::<bool>(),
        ) {
            let mut rules: Vec<Rule> = ranges
                .iter()
                .map(|&(start, bits, ports)| rule(Target::Range(start.into(), bits), ports))
                .collect();
            if host {
                rules.push(rule(Target::Host, (1, 1000)));
            }
            let policy = policy(rules);
            // Half of the time an address close to a rule's.
            let address = match ranges.get(near.index(ranges.len() + 1)) {
                Some(range) => range.0 ^ (to.0 & 0xff),
                None => to.0,
            };
            let to = SocketAddrV4::new(address.into(), to.1);
            let said = ranges.iter().any(|&(start, bits, (first, last))| {
                contains(start.into(), bits, address.into()) && (first..=last).contains(&to.port())
            });
            match policy.destination(Protocol::Tcp, to, []) {
                Some(real) if real == to => prop_assert!(said),
                Some(real) => prop_assert!(host && *real.ip() == Ipv4Addr::LOCALHOST),
                None => {}
            }
        }
    }
}
