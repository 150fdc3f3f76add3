//! Who asks: a key that may manage, and how far it reaches.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use cfr_billing::audit_log::{Act, Actor, ActorKind};
use cfr_billing::store::View;
use cfr_core::id::TenantId;

use crate::auth::access::{Access, Permission};
use crate::error::ApiError;
use crate::serve::Peer;
use crate::state::App;

/// Who asks, what they may do, and the catalog as they may see it.
#[derive(Debug)]
pub(super) struct Manager {
    /// What they may do.
    pub(super) access: Access,
    /// What their changes are told with.
    pub(super) act: Act,
    /// What they may see.
    pub(super) view: View,
}

impl FromRequestParts<Arc<App>> for Manager {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let address = parts.extensions.get::<Peer>().map(|peer| peer.0);
        let principal = app.keys.authenticate(&parts.headers, address).await?;
        let nobodys = || forbidden("nobodys_key", "this key belongs to nobody".into());
        let access = Access::of_key(&principal.context.key).ok_or_else(nobodys)?;
        let view = View::new(Arc::clone(&app.books.store) as _, access.reach);
        let by = Actor {
            id: (!principal.is_operator()).then(|| principal.context.key.id.to_string().into()),
            address,
            request: parts.extensions.get().copied(),
            ..Actor::of_kind(if principal.is_operator() { ActorKind::Operator } else { ActorKind::Key })
        };
        Ok(Self { access, act: Act { by: Arc::new(by), at: app.clock.now() }, view })
    }
}

impl Manager {
    /// Passes when this was granted.
    ///
    /// # Errors
    /// 403 that names what is missing.
    pub(super) fn may(&self, permission: Permission) -> Result<(), ApiError> {
        if self.access.may(permission) {
            return Ok(());
        }
        let message = format!("this key has not the scope `{permission}`: use an admin key, or a service key with it");
        Err(forbidden("missing_scope", message))
    }

    /// The tenant that everything in reach belongs to; none for the whole platform.
    pub(super) fn tenant(&self) -> Option<TenantId> {
        self.access.reach.tenant()
    }
}

fn forbidden(code: &'static str, message: String) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "permission_error", code, message)
}
