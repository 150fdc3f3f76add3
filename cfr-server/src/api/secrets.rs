//! `/secrets`: the keys under which secrets are sealed. No secret and no key is in any answer.

use std::sync::Arc;

use axum::Json as Answer;
use cfr_billing::provider_account::SealedAccount;
use cfr_billing::store::{PageRequest, Store, StoreError};
use cfr_core::broadcast::Notice;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::desk::Desk;
use super::guard::Acting;
use super::input::Json;
use super::lookup;
use super::problem::{Problem, Problems};
use crate::accounts::{opened, place};
use crate::secrets::VaultError;

/// What a rotation of the master key did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MasterKeyRotation {
    /// The id of the master key that wraps every data key now.
    #[schema(value_type = String, example = "1f0c53ad9b2e4477")]
    pub(crate) master_key: Arc<str>,
    /// Data keys that it wraps since.
    pub(crate) rewrapped: u64,
    /// Data keys that it wrapped before.
    pub(crate) already: u64,
}

/// Whose data key is replaced.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateDataKey {
    /// The id or slug of a tenant; the platform when absent.
    pub(crate) tenant: Option<String>,
}

/// What a rotation of a data key did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DataKeyRotation {
    /// The id of the new data key.
    pub(crate) data_key: String,
    /// Secrets of provider accounts that it seals since.
    pub(crate) resealed: u64,
}

/// What can be opened.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SecretsVerified {
    /// Data keys, all of which the master keys of this server open.
    pub(crate) data_keys: u64,
    /// Secrets of provider accounts, all of which open.
    pub(crate) provider_accounts: u64,
}

/// Wrap every data key with the first of the master keys that this server has. It can be interrupted and asked for again.
#[utoipa::path(post, path = "/secrets/rotate-master-key", operation_id = "rotate_master_key", tag = "secrets",
    responses((status = 200, description = "What was done", body = MasterKeyRotation), Problems))]
pub(crate) async fn rotate_master_key(desk: Desk, Acting(act): Acting) -> Result<Answer<MasterKeyRotation>, Problem> {
    let done = desk.vault().rotate_master_key(&act).await.map_err(told)?;
    tell(&desk).await;
    Ok(Answer(MasterKeyRotation { master_key: done.master, rewrapped: done.rewrapped, already: done.already }))
}

/// Make a new data key for a tenant or the platform, and seal the secrets of its provider accounts with it. What else was
/// sealed before opens with the old key.
#[utoipa::path(post, path = "/secrets/rotate-data-key", operation_id = "rotate_data_key", tag = "secrets",
    request_body = RotateDataKey,
    responses((status = 200, description = "What was done", body = DataKeyRotation), Problems))]
pub(crate) async fn rotate_data_key(
    desk: Desk,
    Acting(act): Acting,
    Json(body): Json<RotateDataKey>,
) -> Result<Answer<DataKeyRotation>, Problem> {
    let tenant = match &body.tenant {
        Some(name) => Some(lookup::named("tenant", lookup::tenant(&*desk.store, name).await)?.id),
        None => None,
    };
    let store = desk.within(tenant)?;
    let data_key = desk.vault().rotate_data_key(tenant, &act).await.map_err(told)?.to_string();
    let mut resealed = 0;
    for sealed in accounts(&**store).await?.into_iter().filter(|sealed| sealed.account.tenant == tenant) {
        let Some(secret) = opened(desk.vault(), &sealed).await.map_err(told)? else { continue };
        let row = sealed.account.id.to_string();
        let secret = desk.vault().seal(tenant, place(&row), secret.expose().as_bytes()).await.map_err(told)?;
        let version = sealed.account.version;
        store.update_provider_account(version, &SealedAccount { secret: Some(secret), ..sealed }, &act).await?;
        resealed += 1;
    }
    tell(&desk).await;
    Ok(Answer(DataKeyRotation { data_key, resealed }))
}

/// Open every data key and every secret of a provider account, to know that nothing is lost. Nothing is shown.
#[utoipa::path(post, path = "/secrets/verify", operation_id = "verify_secrets", tag = "secrets",
    responses((status = 200, description = "Everything opens", body = SecretsVerified), Problems))]
pub(crate) async fn verify(desk: Desk) -> Result<Answer<SecretsVerified>, Problem> {
    let store = desk.within(None)?;
    let data_keys = desk.vault().verify().await.map_err(told)?;
    let mut provider_accounts = 0;
    for sealed in accounts(&**store).await? {
        match opened(desk.vault(), &sealed).await {
            Ok(secret) => provider_accounts += u64::from(secret.is_some()),
            Err(VaultError::Shredded) => {} // its tenant was erased
            Err(error) => return Err(told(error)),
        }
    }
    Ok(Answer(SecretsVerified { data_keys, provider_accounts }))
}

async fn accounts(store: &dyn Store) -> Result<Vec<SealedAccount>, StoreError> {
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

async fn tell(desk: &Desk) {
    if let Err(error) = desk.broadcast().publish(Notice::Accounts).await {
        tracing::warn!(%error, "other replicas read the new keys when they need them");
    }
}

/// Who manages keys learns what is wrong with one.
fn told(error: VaultError) -> Problem {
    match error {
        VaultError::Store(error) => error.into(),
        error => Problem::conflict(error),
    }
}

/// Everybody else learns what they can mend; the rest is the operator's to know.
impl From<VaultError> for Problem {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Store(error) => error.into(),
            VaultError::TooLong => Self::invalid_field("secret", error),
            VaultError::NoMasterKey | VaultError::Shredded => Self::conflict(error),
            error => Self::unavailable(error),
        }
    }
}
