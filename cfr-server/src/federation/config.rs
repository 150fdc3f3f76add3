//! Which providers people may sign in with.

use std::sync::Arc;

use cfr_core::secret::Secret;
use serde::Deserialize;

use super::BASE_PATH;
use crate::people::Door;

/// A provider that people of one tenant may sign in with.
#[derive(Debug, Clone)]
pub struct FederationConfig {
    /// A short name, which stands in addresses.
    pub id: Arc<str>,
    /// For people.
    pub name: Arc<str>,
    /// Its address: `https://login.example.com/realms/acme`.
    pub issuer: Arc<str>,
    /// What we are called there.
    pub client_id: Arc<str>,
    /// What we prove ourselves with; none for a public client.
    pub client_secret: Option<Secret>,
    /// The slug of the tenant whose people it knows.
    pub tenant: Arc<str>,
    /// The domains whose addresses may come as new people, in lower case; empty for all of them.
    pub domains: Vec<Arc<str>>,
    /// Whether its word is enough for an address, where it does not say that it proved it (Entra never does).
    pub trusts_addresses: bool,
    /// What becomes of people who are not known here.
    pub unknown: Unknown,
}

/// What becomes of people who are not known here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Unknown {
    /// They are turned away.
    #[default]
    Refuse,
    /// They wait until an administrator activates them.
    Pending,
    /// They become users, on the product that the tenant gives to who signs up.
    Create,
}

impl FederationConfig {
    /// How the page to sign in leads there.
    #[must_use]
    pub fn door(&self) -> Door {
        Door { name: Arc::clone(&self.name), path: format!("{BASE_PATH}/{}", self.id).into() }
    }

    /// Whether somebody with this address may come as a new user.
    #[must_use]
    pub fn takes(&self, email: &str) -> bool {
        let domain = email.rsplit_once('@').map(|(_, domain)| domain.to_lowercase());
        self.domains.is_empty() || domain.is_some_and(|domain| self.domains.iter().any(|known| **known == *domain))
    }
}
