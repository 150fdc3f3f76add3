//! The names that other programs have for things here: an id of ours, a name that people use, or one that was imported.

use std::sync::Arc;

use cfr_billing::identity::{Tenant, User};
use cfr_billing::outside::{Named, NamedKind, OutsideName, is_name};
use cfr_billing::plan::Product;
use cfr_billing::store::{CatalogStore, Store, StoreError, View};

use super::body::{not_found, refused};
use crate::error::ApiError;

/// What a tool notes with a name of its own, so that it is found among others.
pub(crate) const SOURCE: &str = "source";

/// The tenant with this id, slug or imported name.
///
/// # Errors
/// 404 when there is none in reach.
pub(super) async fn tenant(store: &dyn Store, view: &View, name: &str) -> Result<Tenant, ApiError> {
    if let Ok(id) = name.parse() {
        return view.tenant(id).await.map_err(refused);
    }
    if let Some(Named::Tenant(id)) = named(store, NamedKind::Tenant, name).await? {
        return view.tenant(id).await.map_err(refused);
    }
    view.tenant_by_slug(name).await.map_err(refused)?.ok_or_else(|| not_found("tenant"))
}

/// The user with this id, address or imported name.
///
/// # Errors
/// 404 when there is none in reach.
pub(super) async fn user(store: &dyn Store, view: &View, name: &str) -> Result<User, ApiError> {
    if let Ok(id) = name.parse() {
        return view.user(id).await.map_err(refused);
    }
    if let Some(Named::User(id)) = named(store, NamedKind::User, name).await? {
        return view.user(id).await.map_err(refused);
    }
    view.user_by_email(name).await.map_err(refused)?.ok_or_else(|| not_found("user"))
}

/// The product with this id, code or imported name.
///
/// # Errors
/// 404 when there is none.
pub(super) async fn product(store: &dyn Store, view: &View, name: &str) -> Result<Product, ApiError> {
    if let Ok(id) = name.parse() {
        return view.product(id).await.map_err(refused);
    }
    if let Some(Named::Product(id)) = named(store, NamedKind::Product, name).await? {
        return view.product(id).await.map_err(refused);
    }
    view.product_by_code(name).await.map_err(refused)?.ok_or_else(|| not_found("product"))
}

async fn named(store: &dyn Store, kind: NamedKind, name: &str) -> Result<Option<Named>, ApiError> {
    if !is_name(name) {
        return Ok(None);
    }
    Ok(store.outside_name(kind, name).await.map_err(refused)?.map(|known| known.named))
}

/// The name that a tool gave a thing, if it gave one.
///
/// # Errors
/// When the store cannot be read.
pub(super) async fn given(store: &dyn Store, named: Named, source: &str) -> Result<Option<OutsideName>, StoreError> {
    let names = store.outside_names_of(named).await?;
    Ok(names.into_iter().find(|name| name.notes.get(SOURCE).and_then(|word| word.as_str()) == Some(source)))
}

/// How a tool knows a thing: by the name that it gave, else by our id.
///
/// # Errors
/// When the store cannot be read.
pub(super) async fn shown(store: &dyn Store, named: Named, source: &str) -> Result<Arc<str>, StoreError> {
    Ok(given(store, named, source).await?.map_or_else(|| named.to_string().into(), |name| name.name))
}

/// Characters of a slug that is made out of a name.
const SLUG_CHARS_MAX: usize = 50;

/// A short name out of a name for people; none when it has no letter and no digit.
pub(crate) fn slug(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    let letters = lower.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' });
    let letters: String = letters.take(SLUG_CHARS_MAX).collect();
    let slug = letters.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    Some(slug).filter(|slug| !slug.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_for_people_become_short_names() {
        assert_eq!(slug("  Research & Development ").as_deref(), Some("research-development"));
        assert_eq!(slug("Ärzte").as_deref(), Some("rzte"));
        assert_eq!(slug("---"), None);
    }
}
