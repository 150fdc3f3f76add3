//! Every provider that can be configured, at an address that nothing is sent to.

use std::sync::{Arc, LazyLock};

use cfr_providers::adapter::Adapter;
use cfr_providers::registry::{Account, Kind};

/// A provider's wire format under its name.
pub type Provider = (Kind, Arc<dyn Adapter>);

/// Nobody listens here.
const NOWHERE: &str = "http://127.0.0.1:9/v1";

static PROVIDERS: LazyLock<Vec<Provider>> = LazyLock::new(|| Kind::all().map(|kind| (kind, adapter(kind))).collect());

/// All of them, in the registry's order.
#[must_use]
pub fn all() -> &'static [Provider] {
    &PROVIDERS
}

fn adapter(kind: Kind) -> Arc<dyn Adapter> {
    let account = Account {
        base_url: kind.needs_address().then(|| NOWHERE.to_owned()),
        region: Some("eu-central-1".to_owned()),
        project: Some("project-1".to_owned()),
        ..Account::default()
    };
    kind.adapter(&account).unwrap_or_else(|cause| panic!("{}: {cause}", kind.name()))
}
