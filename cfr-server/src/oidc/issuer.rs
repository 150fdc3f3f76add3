//! Under which address tokens are given out, and where everything is below it.

use std::fmt;
use std::sync::Arc;

use url::Url;

/// The address of this server as people and clients see it: `https://ai.example.com`, without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer(Arc<str>);

impl Issuer {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text.trim()).map_err(|_| "an address as in https://ai.example.com")?;
        if !is_safe(&url) {
            return Err("https, or http on this machine alone: browsers send sessions by nothing else");
        }
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.path() != "/" {
            return Err("only a scheme, a host and a port, as in https://ai.example.com");
        }
        Ok(Self(url.as_str().trim_end_matches('/').into()))
    }

    /// An address below it; the path begins with a slash.
    #[must_use]
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// Whether it names this machine, which nobody else calls by it.
    #[must_use]
    pub fn is_here(&self) -> bool {
        Url::parse(&self.0).is_ok_and(|url| is_here(&url))
    }

    /// The address itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether what is sent there stays between its ends: TLS, or this machine.
pub(crate) fn is_safe(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_here(url))
}

fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_a_safe_address_without_more() {
        let parsed = |text| Issuer::parse(text).map(|issuer| issuer.to_string());
        assert_eq!(parsed("https://ai.example.com/"), Ok("https://ai.example.com".into()));
        assert_eq!(parsed("http://localhost:4000"), Ok("http://localhost:4000".into()));
        assert_eq!(Issuer::parse("http://[::1]:4000").map(|issuer| issuer.at("/x")), Ok("http://[::1]:4000/x".into()));
        for wrong in [
            "ai.example.com",
            "http://ai.example.com",
            "https://a.example/x",
            "https://a.example?x=1",
            "https://u@a.example",
        ] {
            assert!(Issuer::parse(wrong).is_err(), "{wrong}");
        }
    }
}
