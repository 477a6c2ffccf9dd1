//! What a DNS answer may bring into the fleet: which addresses are refused, and what stays in use when an answer fails.

mod last_good;

mod resolv;

pub use last_good::{Heard, LastGood};
pub use resolv::{Resolv, in_hosts};

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most nodes one name brings in; a wrong or hostile zone must not fill the fleet.
pub const MEMBERS_MAX: usize = 256;

/// Where clouds serve a machine's own credentials. Whoever can make us send a request there, and read the answer, owns the
/// machine's role. 169.254.0.0/16 and fe80::/10 hold most of these services (AWS, Google, Azure, Oracle, DigitalOcean,
/// OpenStack) and are refused whole; these are the ones outside of them.
const METADATA: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), // Alibaba
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),     // Oracle Cloud Classic
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),   // Azure's wire server
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), // AWS
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)), // AWS, credentials of EKS pods
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)), // Google
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)), // Oracle
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)), // Scaleway
];

/// What a name server said about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// A and AAAA records together, in no order.
    pub addrs: Vec<IpAddr>,
    /// One of the two families got no answer, not even a "there are none".
    pub missing: Option<Missing>,
}

/// Half an answer: what could not be learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Whose records.
    pub family: Family,
    /// For people.
    pub why: String,
}

/// A kind of address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "A",
            Family::V6 => "AAAA",
        })
    }
}

impl Family {
    fn of(addr: &IpAddr) -> Family {
        match addr {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

/// An address that no name may bring in, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    /// An IPv4 address inside an IPv6 one is written as IPv4.
    pub addr: IpAddr,
    /// Such as `a cloud's metadata service`.
    pub why: &'static str,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.addr, self.why)
    }
}

/// The address to connect to when a name resolves to `addr`: the same one, IPv4 instead of IPv4-mapped IPv6. Loopback and
/// private addresses are fine, since that is where nodes live. Addresses that the operator wrote as such need no leave.
///
/// # Errors
/// Nobody runs a node there, or it is where clouds hand out credentials.
pub fn usable(addr: IpAddr) -> Result<IpAddr, Refused> {
    let addr = addr.to_canonical();
    match objection(addr).or_else(|| objection(translated(addr)?)) {
        Some(why) => Err(Refused { addr, why }),
        None => Ok(addr),
    }
}

fn objection(addr: IpAddr) -> Option<&'static str> {
    let (zero, link_local, broadcast) = match addr {
        // All of 0.0.0.0/8 means "this host", not only its first address.
        IpAddr::V4(v4) => (
            v4.octets()[0] == 0,
            v4.is_link_local(),
            v4 == Ipv4Addr::BROADCAST,
        ),
        IpAddr::V6(v6) => (v6.is_unspecified(), v6.is_unicast_link_local(), false),
    };
    let reasons = [
        (METADATA.contains(&addr), "a cloud's metadata service"),
        (zero, "unspecified"),
        (
            link_local,
            "link-local, where clouds keep their metadata services",
        ),
        (addr.is_multicast(), "multicast"),
        (broadcast, "broadcast"),
    ];
    reasons
        .into_iter()
        .find_map(|(applies, why)| applies.then_some(why))
}

/// The IPv4 address that a translator on the way would make of this one: NAT64 (64:ff9b::/96 and its local sibling
/// 64:ff9b:1::/48) and 6to4 (2002::/16) lead to the same forbidden places by a detour.
fn translated(addr: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = addr else { return None };
    let (high, low) = match v6.segments() {
        [0x64, 0xff9b, 0 | 1, _, _, _, high, low] => (high, low),
        [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)).into())
}

/// What of an answer may serve.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// Sorted, each once, at most [`MEMBERS_MAX`].
    pub addrs: Vec<IpAddr>,
    /// Sorted, each once.
    pub refused: Vec<Refused>,
    /// How many usable addresses were beyond [`MEMBERS_MAX`].
    pub left_out: usize,
}

/// Sorts an answer out. Servers shuffle their records; sorting before the cut keeps the same members from round to round.
pub fn members(answer: impl IntoIterator<Item = IpAddr>) -> Members {
    let (mut addrs, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for addr in answer {
        match usable(addr) {
            Ok(addr) => addrs.insert(addr),
            Err(reason) => refused.insert(reason),
        };
    }
    Members {
        left_out: addrs.len().saturating_sub(MEMBERS_MAX),
        addrs: addrs.into_iter().take(MEMBERS_MAX).collect(),
        refused: refused.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_addresses_of_nodes_are_usable_and_those_of_clouds_are_not() {
        let cases = [
            // Where nodes live.
            ("10.1.2.3", "10.1.2.3"),
            ("192.168.1.20", "192.168.1.20"),
            ("100.64.0.7", "100.64.0.7"),
            ("203.0.113.9", "203.0.113.9"),
            ("127.0.0.1", "127.0.0.1"),
            ("127.8.8.8", "127.8.8.8"),
            ("::1", "::1"),
            ("fd12:3456::1", "fd12:3456::1"),
            ("2001:db8::7", "2001:db8::7"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("64:ff9b::10.1.2.3", "64:ff9b::a01:203"),
            ("2002:a01:203::1", "2002:a01:203::1"),
            // Nobody.
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("::", "unspecified"),
            ("::ffff:0.0.0.0", "unspecified"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.250", "multicast"),
            ("ff02::1", "multicast"),
            ("255.255.255.255", "broadcast"),
            // Credentials.
            ("169.254.1.1", "link-local"),
            ("169.254.169.254", "link-local"),
            ("169.254.170.2", "link-local"),
            ("fe80::1", "link-local"),
            ("febf::1", "link-local"),
            ("fe80::a9fe:a9fe", "link-local"),
            ("::ffff:169.254.169.254", "link-local"),
            ("64:ff9b::169.254.169.254", "link-local"),
            ("64:ff9b:1::169.254.169.254", "link-local"),
            ("2002:a9fe:a9fe::1", "link-local"),
            ("100.100.100.200", "metadata"),
            ("::ffff:100.100.100.200", "metadata"),
            ("192.0.0.192", "metadata"),
            ("168.63.129.16", "metadata"),
            ("fd00:ec2::254", "metadata"),
            ("fd00:ec2::23", "metadata"),
            ("fd20:ce::254", "metadata"),
            ("fd00:c1::a9fe:a9fe", "metadata"),
            ("fd00:42::42", "metadata"),
        ];
        for (addr, expected) in cases {
            match usable(ip(addr)) {
                Ok(addr) => assert_eq!(addr.to_string(), expected),
                Err(refused) => assert!(refused.why.contains(expected), "{addr}: {refused}"),
            }
        }
    }

    #[test]
    fn a_refusal_says_what_and_why() {
        let refused = usable(ip("::ffff:100.100.100.200")).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "100.100.100.200 (a cloud's metadata service)"
        );
    }

    #[test]
    fn beyond_the_limit_the_same_members_stay_whatever_the_order() {
        let many: Vec<IpAddr> = (0..500)
            .map(|n| Ipv4Addr::from_bits(0x0a00_0000 + n).into())
            .collect();
        let forward = members(many.iter().copied());
        assert_eq!(forward.addrs, many[..MEMBERS_MAX]);
        assert_eq!(forward.left_out, 500 - MEMBERS_MAX);
        assert_eq!(members(many.into_iter().rev()), forward);
    }

    /// Few enough addresses that an answer repeats some and holds some of every sort.
    fn any_addr() -> impl Strategy<Value = IpAddr> {
        let forbidden = (0..METADATA.len()).prop_map(|at| METADATA[at]);
        let mapped = any::<u32>().prop_map(|n| Ipv4Addr::from_bits(n).to_ipv6_mapped().into());
        let near = (0_u32..300).prop_map(|n| Ipv4Addr::from_bits(0x0a00_0000 + n).into());
        prop_oneof![any::<IpAddr>(), forbidden, mapped, near]
    }

    proptest! {
        #[test]
        fn members_are_sorted_single_capped_and_every_one_usable(
            answer in prop::collection::vec(any_addr(), 0..600)
        ) {
            let found = members(answer.iter().copied());
            prop_assert!(found.addrs.is_sorted_by(|a, b| a < b));
            prop_assert!(found.addrs.len() <= MEMBERS_MAX);
            for addr in &found.addrs {
                prop_assert_eq!(usable(*addr), Ok(*addr), "folding twice changes nothing");
            }
            for addr in answer {
                match usable(addr) {
                    Ok(addr) => prop_assert!(found.addrs.contains(&addr) || 0 < found.left_out),
                    Err(refused) => prop_assert!(found.refused.contains(&refused)),
                }
            }
        }

        #[test]
        fn an_ipv4_address_fares_the_same_in_every_disguise(bits in any::<u32>()) {
            let v4 = Ipv4Addr::from_bits(bits);
            let plain = usable(v4.into());
            prop_assert_eq!(usable(v4.to_ipv6_mapped().into()), plain);
            let [high, low] = [(bits >> 16) as u16, bits as u16];
            for disguise in [
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            ] {
                prop_assert_eq!(usable(disguise.into()).is_ok(), plain.is_ok());
            }
        }
    }
}
