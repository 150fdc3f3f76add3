//! What LiteLLM's clients note with things, under the names that they give them.

use cfr_billing::audit_log::Act;
use cfr_billing::outside::{Named, OutsideName, is_name};
use cfr_billing::store::Store;
use cfr_core::id::TenantId;
use serde_json::{Map, Value};

use super::super::body::{invalid, refused};
use super::super::names::{SOURCE, given};
use super::LITELLM;
use crate::error::ApiError;

/// Keeps the notes of a thing under this name, or under the one that it has.
///
/// # Errors
/// 409 when the name stands for something else.
pub(super) async fn keep(
    store: &dyn Store,
    named: Named,
    tenant: Option<TenantId>,
    name: Option<&str>,
    notes: Map<String, Value>,
    act: &Act,
) -> Result<(), ApiError> {
    let known = given(store, named, LITELLM).await.map_err(refused)?;
    if known.is_none() && name.is_none() && notes.is_empty() {
        return Ok(());
    }
    let id = named.to_string();
    let name = name.or(known.as_ref().map(|known| &*known.name)).unwrap_or(&id);
    if !is_name(name) {
        return Err(invalid("id", "1 to 255 bytes"));
    }
    let mut all = known.as_ref().map(|known| known.notes.clone()).unwrap_or_default();
    all.extend(notes);
    all.insert(SOURCE.to_owned(), LITELLM.into());
    let kept = OutsideName { named, name: name.into(), tenant, notes: all };
    store.keep_outside_name(&kept, act).await.map_err(refused)
}

/// How LiteLLM's clients know a thing, and what they noted with it.
///
/// # Errors
/// When the store cannot be read.
pub(super) async fn of(store: &dyn Store, named: Named) -> Result<(String, Map<String, Value>), ApiError> {
    let given = given(store, named, LITELLM).await.map_err(refused)?;
    Ok(match given {
        Some(mut known) => {
            known.notes.remove(SOURCE);
            (known.name.to_string(), known.notes)
        }
        None => (named.to_string(), Map::new()),
    })
}
