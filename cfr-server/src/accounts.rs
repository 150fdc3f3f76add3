//! Accounts at providers that are kept in the store, joined to the upstreams of the configuration while the server runs.
//!
//! Every server reads them when it starts and whenever it hears of a change. One that cannot be used is told of in the log
//! and left out: it stops no other.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cfr_billing::provider_account::{ProviderAccount, ProviderAccountStatus, SealedAccount};
use cfr_billing::store::{PageRequest, ProviderAccountStore, StoreError};
use cfr_core::Upstream;
use cfr_core::secret::Secret;
use cfr_core::time::SystemClock;
use cfr_core::upstream::Upstreams;
use cfr_providers::HttpUpstream;
use cfr_providers::media::{FetchMedia, MediaClient};
use cfr_providers::registry::Probe;
use cfr_providers::transport::guard::AddressGuard;
use cfr_providers::transport::{ReqwestTransport, Transport};

use crate::config::{Config, StoredUpstream, UpstreamKind, known_provider};
use crate::secrets::{Place, Vault, VaultError};

/// How long a look at a provider may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// The last characters of a secret that are shown.
const SHOWN_CHARS: usize = 4;
/// A secret that is shorter is not shown in part.
const HIDDEN_CHARS_MIN: usize = 12;

/// Where the secret of an account is kept: it opens nowhere else.
#[must_use]
pub fn place(row: &str) -> Place<'_> {
    Place { table: "provider_accounts", row, column: "secret" }
}

/// The end of a secret, to recognise it.
#[must_use]
pub fn last4(secret: &Secret) -> Option<Arc<str>> {
    let text = secret.expose();
    let start = text.char_indices().rev().nth(SHOWN_CHARS - 1)?.0;
    (text.chars().count() >= HIDDEN_CHARS_MIN).then(|| text[start..].into())
}

/// Judges accounts, and makes what calls them.
#[derive(Debug)]
pub struct AccountDesk {
    guard: AddressGuard,
    media: Option<Arc<dyn FetchMedia>>,
    /// Made when there is an account: most servers have none.
    transport: OnceLock<Option<Arc<dyn Transport>>>,
}

impl AccountDesk {
    /// By the rules of the configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let media = config.media.clone().map(|rules| Arc::new(MediaClient::new(rules)) as Arc<dyn FetchMedia>);
        let guard = AddressGuard::allowing(config.account_hosts.iter().cloned());
        Self { guard, media, transport: OnceLock::new() }
    }

    /// Whether calls could go to an account.
    ///
    /// # Errors
    /// The field that is wrong, and why.
    pub fn judge(&self, account: &ProviderAccount, secret: Option<&Secret>) -> Result<(), (&'static str, String)> {
        let kind = known_provider(&account.provider).map_err(|what| ("provider", what))?;
        match account.base_url.as_deref() {
            Some(address) => self.guard.check(address).map_err(|error| ("base_url", error.to_string()))?,
            None if kind.needs_address() => return Err(("base_url", "this provider has no usual address".into())),
            None => {}
        }
        if secret.is_some_and(|secret| secret.expose().trim().is_empty() || !is_visible(secret)) {
            return Err(("secret", "the key as the provider gave it, without spaces".into()));
        }
        StoredUpstream::new(account, secret.cloned()).map(drop).map_err(|what| ("provider", what))
    }

    /// Asks the provider whether it knows the account.
    ///
    /// # Errors
    /// What is wrong with the account, before anybody is asked.
    pub async fn probe(&self, account: &ProviderAccount, secret: Option<Secret>) -> Result<Probe, String> {
        let StoredUpstream { upstream, .. } = StoredUpstream::new(account, secret)?;
        let UpstreamKind::Provider(kind) = upstream.kind else { return Ok(Probe::Unknown) };
        let clock = Arc::new(SystemClock::new());
        let probed = kind.probe(&upstream.account, self.transport()?, clock, PROBE_TIMEOUT).await;
        probed.map_err(|error| error.to_string())
    }

    fn upstream(&self, stored: &StoredUpstream) -> Result<Arc<dyn Upstream>, String> {
        let UpstreamKind::Provider(kind) = stored.upstream.kind else { return Err("not a provider".into()) };
        let transport = Arc::clone(self.transport()?);
        let made = kind.upstream(&stored.upstream.account, transport, Arc::new(SystemClock::new()));
        let made = made.map_err(|error| error.to_string())?;
        Ok(Arc::new(self.media.iter().cloned().fold(made, HttpUpstream::with_media)))
    }

    /// One pool of connections for all of them, which reaches nothing inside.
    fn transport(&self) -> Result<&Arc<dyn Transport>, String> {
        let made = || {
            let made = ReqwestTransport::guarded(self.guard.clone());
            made.map(|made| Arc::new(made) as _)
                .inspect_err(|error| tracing::error!(%error, "no account can be called"))
        };
        let transport = self.transport.get_or_init(|| made().ok()).as_ref();
        transport.ok_or_else(|| "the HTTP client cannot be made".to_owned())
    }
}

fn is_visible(secret: &Secret) -> bool {
    secret.expose().bytes().all(|byte| byte.is_ascii_graphic())
}

/// The accounts that a running server calls.
#[derive(Debug)]
pub(crate) struct RunningAccounts {
    pub(crate) store: Arc<dyn ProviderAccountStore>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) desk: Arc<AccountDesk>,
    /// Those of the configuration, which stay.
    pub(crate) configured: Upstreams,
    pub(crate) known: Mutex<Arc<[StoredUpstream]>>,
}

impl RunningAccounts {
    /// Those that were read last.
    pub(crate) fn known(&self) -> Arc<[StoredUpstream]> {
        Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads them anew: who answers from now on. An account whose secret cannot be opened at this moment, as while somebody
    /// writes the file with the master key, goes on as it was.
    ///
    /// # Errors
    /// When the store cannot be read. Then everything stays as it was.
    pub(crate) async fn read(&self) -> Result<Upstreams, StoreError> {
        self.vault.forget();
        let former = self.known();
        let (mut known, mut upstreams) = (Vec::new(), self.configured.clone());
        for sealed in self.active().await? {
            let id = sealed.account.id;
            let stored = self.stored(&sealed, &former).await;
            match stored.and_then(|stored| Ok((self.desk.upstream(&stored)?, stored))) {
                Ok((upstream, stored)) => {
                    upstreams.insert(stored.upstream.name.as_str().into(), upstream);
                    known.push(stored);
                }
                Err(reason) => tracing::error!(account = %id, reason, "an account at a provider cannot be used"),
            }
        }
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known.into();
        Ok(upstreams)
    }

    async fn active(&self) -> Result<Vec<SealedAccount>, StoreError> {
        let (mut all, mut request) = (Vec::new(), PageRequest::default());
        loop {
            let page = self.store.provider_accounts(None, request).await?;
            all.extend(page.items.into_iter().filter(|one| one.account.status == ProviderAccountStatus::Active));
            request.after = page.next;
            if request.after.is_none() {
                return Ok(all);
            }
        }
    }

    async fn stored(&self, sealed: &SealedAccount, former: &[StoredUpstream]) -> Result<StoredUpstream, String> {
        let error = match opened(&self.vault, sealed).await {
            Ok(secret) => return StoredUpstream::new(&sealed.account, secret),
            Err(error) => error,
        };
        let name = sealed.account.id.to_string();
        match former.iter().find(|one| one.upstream.name == name).filter(|_| error.may_pass()) {
            Some(one) => {
                tracing::error!(account = name, %error, "an account at a provider goes on as it was");
                Ok(one.clone())
            }
            None => Err(error.to_string()),
        }
    }
}

/// The secret of an account; none where the provider wants none.
///
/// # Errors
/// When it cannot be opened.
pub async fn opened(vault: &Vault, sealed: &SealedAccount) -> Result<Option<Secret>, VaultError> {
    let Some(text) = &sealed.secret else { return Ok(None) };
    let row = sealed.account.id.to_string();
    let plain = vault.open(sealed.account.tenant, place(&row), text).await?;
    Ok(Some(Secret::new(String::from_utf8_lossy(&plain))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_long_secret_is_shown() {
        let shown = |text: &str| last4(&Secret::new(text));
        assert_eq!(shown("sk-0123456789abcdef").as_deref(), Some("cdef"));
        assert_eq!(shown("short"), None);
        assert_eq!(shown("äöüäöüäöüäöüß").as_deref(), Some("äöüß"));
    }
}
