//! Accounts of the store as upstreams, beside those of the configuration.

use cfr_billing::provider_account::ProviderAccount;
use cfr_core::id::TenantId;
use cfr_core::price::Factor;
use cfr_core::secret::Secret;
use cfr_providers::registry::{Account, Kind};
use cfr_providers::upstream::Manner;

use super::{UpstreamConfig, UpstreamKind};

/// An account of the store, ready to be called.
#[derive(Debug, Clone)]
pub struct StoredUpstream {
    /// The tenant that it serves; none for the platform's, which serve everybody.
    pub owner: Option<TenantId>,
    /// The upstream, named by the account's id.
    pub upstream: UpstreamConfig,
}

impl StoredUpstream {
    /// An account with its secret.
    ///
    /// # Errors
    /// What is wrong with it, in words for who made it.
    pub fn new(account: &ProviderAccount, secret: Option<Secret>) -> Result<Self, String> {
        let kind = known(&account.provider)?;
        let said = Account {
            base_url: account.base_url.as_deref().map(str::to_owned),
            key: secret,
            // Elsewhere it is no part of the address, and no price depends on it.
            region: account.region.as_deref().filter(|_| kind == Kind::Bedrock).map(str::to_owned),
            ..Account::default()
        };
        kind.adapter(&said).map_err(|error| error.to_string())?;
        let upstream = UpstreamConfig {
            name: account.id.to_string(),
            kind: UpstreamKind::Provider(kind),
            account: said,
            provider: kind.price_provider().unwrap_or(kind.name()).to_owned(),
            expose: true,
            manner: Manner::default(),
            price_factor: Factor::ONE,
            prices: Vec::new(),
            deployments: Vec::new(),
            line: None,
        };
        Ok(Self { owner: account.tenant, upstream })
    }
}

/// The provider of this name, if a key is all that it wants.
///
/// # Errors
/// The names that there are.
pub fn known(provider: &str) -> Result<Kind, String> {
    let found = Kind::by_name(provider).filter(|kind| takes_a_key(*kind));
    found.ok_or_else(|| {
        let names: Vec<_> = Kind::all().filter(|kind| takes_a_key(*kind)).map(Kind::name).collect();
        format!("one of {}", names.join(", "))
    })
}

/// Others, as Vertex, are known by more than a key: they are configured in the file.
fn takes_a_key(kind: Kind) -> bool {
    kind != Kind::Vertex
}
