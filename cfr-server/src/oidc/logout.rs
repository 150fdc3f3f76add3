//! Signs somebody out, here and at every client (OpenID Connect RP-Initiated Logout 1.0).

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Redirect, Response};
use cfr_billing::audit_log::Act;
use cfr_billing::oidc::Ending;
use cfr_billing::people::SignedIn;
use cfr_billing::store::StoreError;
use cfr_core::id::{ClientSessionId, SessionId, UserId};
use http::header::SET_COOKIE;
use serde::Deserialize;

use super::claims::ID_TOKEN;
use super::params::{Params, with_params};
use super::{OAuthError, Provider, page};
use crate::people::{Visitor, browser, cookie};

/// What the proof is made for that somebody pressed the button on our own page.
const SIGN_OUT_PURPOSE: &str = "sign out";

/// What an id token says of the session that is to end. It may be over: that is when people sign out.
#[derive(Debug, Deserialize)]
struct Hint {
    sub: UserId,
    aud: String,
    sid: ClientSessionId,
}

/// The browser was sent here with a query.
pub(super) async fn by_query(
    State(provider): State<Arc<Provider>>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Response {
    respond(provider.log_out(&visitor, query.unwrap_or_default().as_bytes()).await)
}

/// The browser was sent here with a form, by a client or by our own page.
pub(super) async fn by_form(State(provider): State<Arc<Provider>>, visitor: Visitor, form: Bytes) -> Response {
    respond(provider.log_out(&visitor, &form).await)
}

fn respond(outcome: Result<Response, OAuthError>) -> Response {
    outcome.unwrap_or_else(|error| page::problem(&error.description))
}

impl Provider {
    async fn log_out(&self, visitor: &Visitor, params: &[u8]) -> Result<Response, OAuthError> {
        let params = Params::parse(params)?;
        let signed_in = self.people.signed_in(&visitor.headers).await.unwrap_or_default();
        let hint = self.hint(&params).await?;
        let done = match (&hint, &signed_in) {
            (Some(hint), _) => self.end_by_hint(visitor, hint).await?,
            (None, Some(signed_in)) if !self.pressed_the_button(visitor, &params, signed_in) => {
                let seal = self.derived.seal(SIGN_OUT_PURPOSE, &[&signed_in.session.id.to_string()]);
                return Ok(page::sign_out(&params.query_with(&[("seal", Some(&seal))])));
            }
            (None, Some(signed_in)) => self.end_browser(visitor, signed_in.user.id, signed_in.session.id).await?,
            (None, None) => None,
        };
        let mut response = self.goodbye(&params, hint.as_ref()).await?;
        if signed_in.is_some_and(|signed_in| done == Some(signed_in.session.id)) {
            response.headers_mut().append(SET_COOKIE, cookie::forget(cookie::SESSION));
        }
        Ok(response)
    }

    async fn hint(&self, params: &Params) -> Result<Option<Hint>, OAuthError> {
        let Some(token) = params.get("id_token_hint") else { return Ok(None) };
        let verified = self.signing.verify::<Hint>(token, ID_TOKEN, self.issuer.as_str(), None).await;
        let hint = verified.map_err(OAuthError::unavailable)?.ok();
        Ok(hint.filter(|hint| params.get("client_id").is_none_or(|client| client == hint.aud)))
    }

    /// A client that has an id token may end what it belongs to: it is the client's own session, and the one of the browser
    /// that it came from.
    async fn end_by_hint(&self, visitor: &Visitor, hint: &Hint) -> Result<Option<SessionId>, OAuthError> {
        match self.store.client_session(hint.sid).await {
            Ok(session) if session.user == hint.sub => self.end_browser(visitor, hint.sub, session.session).await,
            Ok(_) | Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends a browser's session with everything that clients hold by it.
    async fn end_browser(
        &self,
        visitor: &Visitor,
        user: UserId,
        id: SessionId,
    ) -> Result<Option<SessionId>, OAuthError> {
        let act: Act = visitor.act(Some(user), self.now());
        self.store.end_client_sessions(Ending::Session(id), &act).await?;
        let ended = self.store.end_session(user, id, &act).await;
        self.told_to_end().await;
        match ended {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(Some(id)), // it may have ended by itself long ago
            Err(error) => Err(error.into()),
        }
    }

    fn pressed_the_button(&self, visitor: &Visitor, params: &Params, signed_in: &SignedIn) -> bool {
        let id = signed_in.session.id.to_string();
        let sealed = params.get("seal").is_some_and(|seal| self.derived.is_sealed(SIGN_OUT_PURPOSE, &[&id], seal));
        sealed && browser::check_origin(&visitor.headers).is_ok()
    }

    /// Back to the client, to an address that it has; else a page of ours.
    async fn goodbye(&self, params: &Params, hint: Option<&Hint>) -> Result<Response, OAuthError> {
        let client = hint.map(|hint| hint.aud.as_str()).or_else(|| params.get("client_id"));
        let client = self.known_client(client).await?;
        let wanted = params.get("post_logout_redirect_uri");
        let known =
            client.as_ref().and_then(|client| client.post_logout_uris.iter().find(|known| Some(&***known) == wanted));
        let state = params.get("state").map(|state| ("state", state));
        Ok(match known {
            Some(address) => Redirect::to(&with_params(address, state)).into_response(),
            None => page::explanation("You are signed out."),
        })
    }
}
