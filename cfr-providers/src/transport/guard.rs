//! Addresses that somebody else chose: public ones only, so that nobody reaches what is inside by way of us.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::media::is_public;

/// Which addresses may be called.
///
/// A name is resolved by us, every address that it has is checked, and the connection is made to one of these.
#[derive(Debug, Clone, Default)]
pub struct AddressGuard {
    inside: Arc<[String]>,
}

/// Why an address is not called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// Not the address of a server.
    #[error("not an https address without user, query and fragment")]
    Address,
    /// It would be called without encryption.
    #[error("an https address is needed")]
    NotEncrypted,
    /// It is inside.
    #[error("the host has no public address; the operator can allow it")]
    NotPublic,
}

impl AddressGuard {
    /// Public hosts, and these hosts wherever they are and with or without encryption.
    #[must_use]
    pub fn allowing(inside: impl IntoIterator<Item = String>) -> Self {
        Self { inside: inside.into_iter().map(|host| host.to_ascii_lowercase()).collect() }
    }

    /// Whether an address may be called, as far as it says so itself: names are looked up when they are called.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, address: &str) -> Result<(), GuardError> {
        let url = Url::parse(address).map_err(|_| GuardError::Address)?;
        let plain = url.username().is_empty() && url.password().is_none();
        let bare = url.query().is_none() && url.fragment().is_none();
        if plain && bare { self.check_url(&url) } else { Err(GuardError::Address) }
    }

    /// The same at each call, for addresses that may have a query.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_url(&self, url: &Url) -> Result<(), GuardError> {
        let host = url.host_str().ok_or(GuardError::Address)?;
        if self.allows(host) {
            return if matches!(url.scheme(), "http" | "https") { Ok(()) } else { Err(GuardError::Address) };
        }
        if url.scheme() != "https" {
            return Err(GuardError::NotEncrypted);
        }
        let number = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        if number.is_ok_and(|address| !is_public(address)) { Err(GuardError::NotPublic) } else { Ok(()) }
    }

    fn allows(&self, host: &str) -> bool {
        self.inside.iter().any(|inside| inside.eq_ignore_ascii_case(host))
    }
}

impl Resolve for AddressGuard {
    fn resolve(&self, name: Name) -> Resolving {
        let inside = self.allows(name.as_str());
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.is_empty() || !(inside || found.iter().all(|address| is_public(address.ip()))) {
                return Err(GuardError::NotPublic.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_is_not_called_unless_it_is_allowed() {
        let guard = AddressGuard::allowing(["127.0.0.1".to_owned(), "LLM.internal".to_owned()]);
        for fine in
            ["https://api.example.com/v1", "https://1.1.1.1", "http://127.0.0.1:8000/v1", "http://llm.internal/v1"]
        {
            assert_eq!(guard.check(fine), Ok(()), "{fine}");
        }
        for (address, refused) in [
            ("https://127.0.0.2/v1", GuardError::NotPublic),
            ("https://169.254.169.254/latest", GuardError::NotPublic),
            ("https://[::1]/v1", GuardError::NotPublic),
            ("https://[::ffff:10.0.0.1]/v1", GuardError::NotPublic),
            ("https://0x7f000002/", GuardError::NotPublic),
            ("https://2130706434/", GuardError::NotPublic),
            ("http://api.example.com/v1", GuardError::NotEncrypted),
            ("file:///etc/passwd", GuardError::Address),
            ("ftp://127.0.0.1/", GuardError::Address),
            ("https://user@api.example.com/", GuardError::Address),
            ("https://api.example.com/?key=1", GuardError::Address),
            ("api.example.com", GuardError::Address),
        ] {
            assert_eq!(guard.check(address), Err(refused), "{address}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_called() {
        let resolve = |guard: &AddressGuard| guard.resolve("localhost".parse().expect("a name"));
        assert!(resolve(&AddressGuard::default()).await.is_err());
        assert!(resolve(&AddressGuard::allowing(["localhost".to_owned()])).await.is_ok());
    }
}
