//! Who calls, resolved once per key and shared by its requests.

use std::sync::Arc;

use crate::id::TenantId;
use crate::ledger::{CallerIds, Path};
use crate::limit::Limit;
use crate::money::{Currency, Margin};

/// Everything that a request needs to know about whoever makes it.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Their ids, for holds and records.
    pub ids: CallerIds,
    /// The budgets that their requests are charged to.
    pub path: Path,
    /// The currency of these budgets.
    pub currency: Currency,
    /// What is added to the provider's cost.
    pub margin: Margin,
    /// The models that they may use.
    pub models: ModelAccess,
    /// What they may do per minute and at the same time, from the widest scope to the narrowest.
    pub limits: Vec<Limit>,
    /// The cap on answer tokens when a call has none; none for the model's own.
    pub output_tokens_default: Option<u64>,
}

impl Caller {
    /// Somebody of a tenant who is charged to these budgets, may use every model, without limits, at the default margin.
    #[must_use]
    pub fn new(tenant: TenantId, path: impl Into<Path>, currency: Currency) -> Self {
        Self {
            ids: CallerIds { tenant, user: None, key: None, product_version: None },
            path: path.into(),
            currency,
            margin: Margin::DEFAULT,
            models: ModelAccess::all(),
            limits: Vec::new(),
            output_tokens_default: None,
        }
    }
}

/// Lists of model names; a model must be on every one. A name that ends with `*` stands for all that begin so.
#[derive(Debug, Clone, Default)]
pub struct ModelAccess(Vec<Arc<[Arc<str>]>>);

impl ModelAccess {
    /// Every model.
    #[must_use]
    pub const fn all() -> Self {
        Self(Vec::new())
    }

    /// Also only what is on this list. An empty list allows nothing.
    #[must_use]
    pub fn and(mut self, names: impl Into<Arc<[Arc<str>]>>) -> Self {
        self.0.push(names.into());
        self
    }

    /// Whether a model may be used.
    #[must_use]
    pub fn allows(&self, model: &str) -> bool {
        self.0.iter().all(|names| names.iter().any(|name| covers(name, model)))
    }
}

/// Whether a name is meant by a pattern: the name itself, or the beginning of names followed by `*`.
pub(crate) fn covers(pattern: &str, model: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == model, |prefix| model.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Arc<[Arc<str>]> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn a_model_must_be_on_every_list() {
        let access = ModelAccess::all().and(list(&["gpt-*"])).and(list(&["gpt-4o", "claude"]));
        assert!(access.allows("gpt-4o"));
        assert!(!access.allows("claude") && !access.allows("gpt-5"));
    }

    #[test]
    fn no_list_allows_all_and_an_empty_one_nothing() {
        assert!(ModelAccess::all().allows("anything"));
        assert!(!ModelAccess::all().and(list(&[])).allows("anything"));
        assert!(ModelAccess::all().and(list(&["*"])).allows("anything"));
    }
}
