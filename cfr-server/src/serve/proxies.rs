//! Whose word counts for where a request comes from.
//!
//! A proxy adds the address that it sees to the end of `x-forwarded-for`; what stood there before, the client may have
//! written. So the list is read from its end, as long as the hops are proxies that the operator trusts.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::Peer;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Proxies behind each other that are looked through: more are a loop, or a client's invention.
const HOPS_MAX: usize = 16;

/// The networks of proxies that are trusted.
#[derive(Debug, Clone, Default)]
pub struct Proxies(Arc<[IpNet]>);

impl Proxies {
    /// These networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks.into())
    }

    /// Who really sent a request: the first hop from here that is not a trusted proxy.
    #[must_use]
    pub fn look_through(&self, peer: Peer, headers: &HeaderMap) -> Peer {
        let lines = headers.get_all(X_FORWARDED_FOR).iter().filter_map(|line| line.to_str().ok());
        let hops: Vec<&str> = lines.flat_map(|line| line.split(',')).collect();
        let mut seen = peer.0.to_canonical();
        for hop in hops.iter().rev().take(HOPS_MAX) {
            if !self.trust(seen) {
                break;
            }
            let Some(next) = address(hop) else { break };
            seen = next;
        }
        Peer(seen)
    }

    fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// An address as proxies write it: bare, or with a port.
fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let bare = bare.parse::<IpAddr>().or_else(|_| hop.parse().map(|with_port: std::net::SocketAddr| with_port.ip()));
    bare.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(trusted: &[&str], peer: &str, forwarded: &[&'static str], expected: &str) {
        let networks = trusted.iter().map(|network| network.parse().expect("a network")).collect();
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_static(line));
        }
        let peer = Peer(peer.parse().expect("an address"));
        let seen = Proxies::new(networks).look_through(peer, &headers);
        assert_eq!(seen.0.to_string(), expected, "{peer:?} {forwarded:?}");
    }

    #[test]
    fn nobody_is_believed_who_is_not_trusted() {
        check(&[], "192.0.2.1", &["203.0.113.9"], "192.0.2.1");
        check(&["10.0.0.0/8"], "192.0.2.1", &["203.0.113.9"], "192.0.2.1");
    }

    #[test]
    fn a_trusted_proxy_says_who_stands_behind_it_and_nobody_else_does() {
        check(&["10.0.0.0/8"], "10.1.2.3", &["203.0.113.9"], "203.0.113.9");
        check(&["10.0.0.0/8"], "10.1.2.3", &["127.0.0.1, 203.0.113.9"], "203.0.113.9");
        check(&["10.0.0.0/8"], "10.1.2.3", &["1.1.1.1", "203.0.113.9, 10.9.9.9"], "203.0.113.9");
        check(&["10.0.0.0/8"], "10.1.2.3", &["10.0.0.5, 10.0.0.6"], "10.0.0.5");
        check(&["10.0.0.0/8"], "::ffff:10.1.2.3", &["203.0.113.9:4711"], "203.0.113.9");
        check(&["fd00::/8"], "fd00::1", &["[2001:db8::7]:443"], "2001:db8::7");
        check(&["fd00::/8"], "fd00::1", &["[2001:db8::7]"], "2001:db8::7");
    }

    #[test]
    fn what_is_no_address_ends_the_search_at_the_last_proxy() {
        check(&["10.0.0.0/8"], "10.1.2.3", &["203.0.113.9, unknown"], "10.1.2.3");
        check(&["10.0.0.0/8"], "10.1.2.3", &[""], "10.1.2.3");
        check(&["10.0.0.0/8"], "10.1.2.3", &[], "10.1.2.3");
    }
}
