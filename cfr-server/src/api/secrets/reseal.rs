//! What is sealed and stays: sealed again with the newest data key of its owner, or opened to see that it can be.
//!
//! What the newest key sealed already is left alone, so that the work can be interrupted and begun again.

use cfr_billing::audit_log::Act;
use cfr_billing::identity::{User, UserFilter};
use cfr_billing::people::{Credentials, Totp};
use cfr_billing::provider_account::SealedAccount;
use cfr_billing::store::{PageRequest, Store, StoreError};
use cfr_core::id::{DataKeyId, TenantId, UserId};

use crate::accounts;
use crate::oidc::signing_key_place;
use crate::people::totp_place;
use crate::secrets::{Vault, VaultError};

/// How often a row is written again when somebody else changed it at the same moment.
const TRIES_MAX: usize = 8;

/// Secrets of one owner, and the key that seals them now.
pub(super) struct Resealing<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) vault: &'a Vault,
    /// The owner; none for the platform.
    pub(super) tenant: Option<TenantId>,
    pub(super) data_key: DataKeyId,
    pub(super) act: &'a Act,
}

impl Resealing<'_> {
    /// Secrets of provider accounts, and how many it were.
    pub(super) async fn accounts(&self) -> Result<u64, VaultError> {
        let mut done = 0;
        let all = all_accounts(self.store).await?;
        for sealed in all.into_iter().filter(|sealed| sealed.account.tenant == self.tenant) {
            let Some(text) = sealed.secret.as_deref() else { continue };
            let row = sealed.account.id.to_string();
            let renewed = self.vault.renewed(self.tenant, accounts::place(&row), text, self.data_key).await?;
            let Some(secret) = renewed else { continue };
            let new = SealedAccount { secret: Some(secret), ..sealed };
            self.store.update_provider_account(new.account.version, &new, self.act).await?;
            done += 1;
        }
        Ok(done)
    }

    /// Seeds of second factors of the tenant's people, and how many it were.
    pub(super) async fn seeds(&self) -> Result<u64, VaultError> {
        let Some(tenant) = self.tenant else { return Ok(0) };
        let mut done = 0;
        let (filter, mut request) = (UserFilter::of_tenant(tenant), PageRequest::default());
        loop {
            let page = self.store.users(&filter, request).await?;
            for user in &page.items {
                done += u64::from(self.seed(user.id).await?);
            }
            request.after = page.next;
            if request.after.is_none() {
                return Ok(done);
            }
        }
    }

    /// Whether it was necessary. Who signs in at the same moment changes the same row: then it is looked at again.
    async fn seed(&self, user: UserId) -> Result<bool, VaultError> {
        let mut conflict = StoreError::conflict("the credentials were changed meanwhile");
        for _ in 0..TRIES_MAX {
            let known = self.store.credentials(user).await?;
            let Some(totp) = known.totp.clone() else { return Ok(false) };
            let row = user.to_string();
            let renewed = self.vault.renewed(self.tenant, totp_place(&row), &totp.secret, self.data_key).await?;
            let Some(secret) = renewed else { return Ok(false) };
            let new = Credentials { totp: Some(Totp { secret, ..totp }), ..known };
            match self.store.set_credentials(&new, None, self.act).await {
                Err(error @ StoreError::Conflict { .. }) => conflict = error,
                written => return Ok(written.map(|_| true)?),
            }
        }
        Err(conflict.into())
    }

    /// Published keys that sign tokens, and how many it were.
    pub(super) async fn signing_keys(&self) -> Result<u64, VaultError> {
        if self.tenant.is_some() {
            return Ok(0);
        }
        let mut done = 0;
        for key in self.store.signing_keys().await? {
            let renewed = self.vault.renewed(None, signing_key_place(&key.kid), &key.private, self.data_key).await?;
            let Some(private) = renewed else { continue };
            self.store.reseal_signing_key(key.seq, &private).await?;
            done += 1;
        }
        Ok(done)
    }
}

/// Opens every seed of a second factor, and says how many there are.
pub(super) async fn open_seeds(store: &dyn Store, vault: &Vault) -> Result<u64, VaultError> {
    let (mut seeds, mut request) = (0, PageRequest::default());
    loop {
        let page = store.users(&UserFilter::default(), request).await?;
        for user in &page.items {
            seeds += u64::from(opens_seed(store, vault, user).await?);
        }
        request.after = page.next;
        if request.after.is_none() {
            return Ok(seeds);
        }
    }
}

async fn opens_seed(store: &dyn Store, vault: &Vault, user: &User) -> Result<bool, VaultError> {
    let Some(totp) = store.credentials(user.id).await?.totp else { return Ok(false) };
    match vault.open(Some(user.tenant), totp_place(&user.id.to_string()), &totp.secret).await {
        Err(VaultError::Shredded) => Ok(false), // their tenant was erased
        opened => opened.map(|_| true),
    }
}

/// Opens every published key that signs tokens, and says how many there are.
pub(super) async fn open_signing_keys(store: &dyn Store, vault: &Vault) -> Result<u64, VaultError> {
    let keys = store.signing_keys().await?;
    for key in &keys {
        vault.open(None, signing_key_place(&key.kid), &key.private).await?;
    }
    Ok(keys.len() as u64)
}

/// Every account at a provider.
pub(super) async fn all_accounts(store: &dyn Store) -> Result<Vec<SealedAccount>, StoreError> {
    let (mut all, mut request) = (Vec::new(), PageRequest::default());
    loop {
        let page = store.provider_accounts(None, request).await?;
        all.extend(page.items);
        request.after = page.next;
        if request.after.is_none() {
            return Ok(all);
        }
    }
}
