//! Which addresses are in the public network. Everything else could be the operator's own: their services, their router,
//! the place where their cloud hands out credentials.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 that is not public, by network and length (RFC 6890 and its updates).
const RESERVED_V4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),        // this network
    (Ipv4Addr::new(10, 0, 0, 0), 8),       // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),    // shared by carriers
    (Ipv4Addr::new(127, 0, 0, 0), 8),      // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),   // link-local, and credentials of most clouds
    (Ipv4Addr::new(172, 16, 0, 0), 12),    // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),     // protocols
    (Ipv4Addr::new(192, 0, 2, 0), 24),     // examples
    (Ipv4Addr::new(192, 88, 99, 0), 24),   // 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),   // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),    // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24),  // examples
    (Ipv4Addr::new(203, 0, 113, 0), 24),   // examples
    (Ipv4Addr::new(224, 0, 0, 0), 3),      // multicast, reserved, broadcast
    (Ipv4Addr::new(168, 63, 129, 16), 32), // Azure's services for its machines
];

/// The part of IPv6 that is given out to the public.
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// What of it is not public, or leads through a tunnel to an IPv4 address that nobody checked.
const RESERVED_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocols, Teredo
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // examples
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // examples
];

/// Whether an address is in the public network. IPv4 in the clothes of IPv6 is not: mapped, NAT64, 6to4, Teredo.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !RESERVED_V4.iter().any(|(network, length)| within_v4(address, *network, *length)),
        IpAddr::V6(address) => {
            let within = |(network, length): (Ipv6Addr, u32)| within_v6(address, network, length);
            within(GLOBAL_V6) && !RESERVED_V6.into_iter().any(within)
        }
    }
}

fn within_v4(address: Ipv4Addr, network: Ipv4Addr, length: u32) -> bool {
    (u32::from(address) ^ u32::from(network)).leading_zeros() >= length
}

fn within_v6(address: Ipv6Addr, network: Ipv6Addr, length: u32) -> bool {
    (u128::from(address) ^ u128::from(network)).leading_zeros() >= length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(addresses: &[&str], public: bool) {
        for address in addresses {
            assert_eq!(is_public(address.parse().expect("an address")), public, "{address}");
        }
    }

    #[test]
    fn the_public_network_is_public() {
        check(&["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.1"], true);
        check(&["192.167.255.255", "198.17.255.255", "198.20.0.0", "223.255.255.255", "168.63.129.15"], true);
        check(&["2606:4700:4700::1111", "2a00:1450:4001::1", "2001:4860:4860::8888", "3ffe::1"], true);
    }

    #[test]
    fn the_operators_own_network_is_not() {
        check(&["0.0.0.0", "10.0.0.1", "127.0.0.1", "127.255.255.255", "172.16.0.1", "172.31.255.255"], false);
        check(&["192.168.1.1", "100.64.0.1", "100.127.255.255", "198.19.255.255"], false);
        check(&["::1", "::", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1"], false);
    }

    #[test]
    fn places_where_clouds_hand_out_credentials_are_not() {
        check(&["169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "168.63.129.16"], false);
    }

    #[test]
    fn addresses_for_many_and_for_nobody_are_not() {
        check(&["224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "ff02::1"], false);
        check(&["192.0.2.1", "198.51.100.1", "203.0.113.9", "2001:db8::1", "3fff::1"], false);
    }

    #[test]
    fn an_older_address_inside_a_newer_one_is_not() {
        check(&["::ffff:8.8.8.8", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b:1::1"], false);
        check(&["2002:7f00:1::", "2001:0:4136:e378::1"], false);
    }
}
