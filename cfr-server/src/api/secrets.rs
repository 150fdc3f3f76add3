//! `/secrets`: the keys under which secrets are sealed. No secret and no key is in any answer.

use std::sync::Arc;

use axum::Json as Answer;
use cfr_core::broadcast::Notice;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::desk::Desk;
use super::guard::Acting;
use super::input::Json;
use super::lookup;
use super::problem::{Problem, Problems};
use crate::accounts::opened;
use crate::secrets::VaultError;

mod reseal;

use self::reseal::Resealing;

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
    /// Make no new key, and only go on with sealing by the newest one: what a rotation did not come to when it was interrupted.
    #[serde(default)]
    pub(crate) resume: bool,
}

/// What a rotation of a data key did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DataKeyRotation {
    /// The id of the data key that seals now.
    pub(crate) data_key: String,
    /// Secrets of provider accounts that it seals since.
    pub(crate) resealed: u64,
    /// Seeds of second factors that it seals since.
    pub(crate) seeds_resealed: u64,
    /// Keys that sign tokens that it seals since; the platform has some.
    pub(crate) signing_keys_resealed: u64,
}

/// What can be opened.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SecretsVerified {
    /// Data keys, all of which the master keys of this server open.
    pub(crate) data_keys: u64,
    /// Secrets of provider accounts, all of which open.
    pub(crate) provider_accounts: u64,
    /// Seeds of second factors, all of which open.
    pub(crate) seeds: u64,
    /// Published keys that sign tokens, all of which open.
    pub(crate) signing_keys: u64,
}

/// Wrap every data key with the first of the master keys that this server has. It can be interrupted and asked for again.
#[utoipa::path(post, path = "/secrets/rotate-master-key", operation_id = "rotate_master_key", tag = "secrets",
    responses((status = 200, description = "What was done", body = MasterKeyRotation), Problems))]
pub(crate) async fn rotate_master_key(desk: Desk, Acting(act): Acting) -> Result<Answer<MasterKeyRotation>, Problem> {
    let done = desk.vault().rotate_master_key(&act).await.map_err(told)?;
    tell(&desk).await;
    Ok(Answer(MasterKeyRotation { master_key: done.master, rewrapped: done.rewrapped, already: done.already }))
}

/// Make a new data key for a tenant or the platform, and seal with it what older ones sealed: secrets of provider accounts,
/// seeds of second factors, keys that sign tokens. Letters that wait open with the key before until they are sent. It can be
/// interrupted and resumed; servers work on meanwhile.
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
    let newest = match body.resume {
        true => desk.vault().current_data_key(tenant).await.map_err(told)?,
        false => None,
    };
    let data_key = match newest {
        Some(newest) => newest,
        None => desk.vault().rotate_data_key(tenant, &act).await.map_err(told)?,
    };
    tell(&desk).await; // from now on no server seals with the key before
    let work = Resealing { store: &**store, vault: desk.vault(), tenant, data_key, act: &act };
    let done = DataKeyRotation {
        resealed: work.accounts().await.map_err(told)?,
        seeds_resealed: work.seeds().await.map_err(told)?,
        signing_keys_resealed: work.signing_keys().await.map_err(told)?,
        data_key: data_key.to_string(),
    };
    tell(&desk).await;
    Ok(Answer(done))
}

/// Open every data key and everything that they sealed and that stays, to know that nothing is lost. Nothing is shown.
#[utoipa::path(post, path = "/secrets/verify", operation_id = "verify_secrets", tag = "secrets",
    responses((status = 200, description = "Everything opens", body = SecretsVerified), Problems))]
pub(crate) async fn verify(desk: Desk) -> Result<Answer<SecretsVerified>, Problem> {
    let store = desk.within(None)?;
    let data_keys = desk.vault().verify().await.map_err(told)?;
    let mut provider_accounts = 0;
    for sealed in reseal::all_accounts(&**store).await? {
        match opened(desk.vault(), &sealed).await {
            Ok(secret) => provider_accounts += u64::from(secret.is_some()),
            Err(VaultError::Shredded) => {} // its tenant was erased
            Err(error) => return Err(told(error)),
        }
    }
    let seeds = reseal::open_seeds(&**store, desk.vault()).await.map_err(told)?;
    let signing_keys = reseal::open_signing_keys(&**store, desk.vault()).await.map_err(told)?;
    Ok(Answer(SecretsVerified { data_keys, provider_accounts, seeds, signing_keys }))
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
