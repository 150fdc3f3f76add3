//! Drop-in for what runs today: the paths, fields and answers of other gateways over the same books.
//!
//! ```text
//! seed        a program beside the gateway asks before its call and tells afterwards: /api/check-budget, /api/usage/log
//! pocketbase  the collections of the portal that runs today, to be read: /api/collections
//! litellm     what portals, scripts and Terraform use of LiteLLM's management: /key, /user, /team, /model, /spend
//! ```
//! Nothing here decides over money or access by itself: it is the management API in other words. A field that limits
//! something and cannot be enforced is refused by its name, never ignored.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;

use crate::state::App;

mod amount;
mod body;
pub(crate) mod holds;
mod litellm;
mod manager;
pub(crate) mod names;
mod payer;
mod pocketbase;
mod price;
mod seed;
mod view;

pub(crate) use self::litellm::LITELLM;
pub(crate) use self::view::POCKETBASE;

/// A body of any of these paths.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;

/// Every path that is here for others.
pub(crate) fn router() -> Router<Arc<App>> {
    let limit = DefaultBodyLimit::max(BODY_BYTES_MAX);
    Router::new().merge(seed::router()).merge(pocketbase::router()).merge(litellm::router()).layer(limit)
}
