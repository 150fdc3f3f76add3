//! A browser goes to another provider and comes back.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cfr_billing::audit_log::{Action, Event};
use cfr_billing::people::SignedIn;
use cfr_billing::store::StoreError;
use cfr_core::secret::Secret;
use http::header::SET_COOKIE;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use super::{Arrival, BASE_PATH, Federation, FederationConfig, Unsigned, random};
use crate::mail::Change;
use crate::oidc::explain;
use crate::people::page::{self, ACCOUNT};
use crate::people::session::{FEDERATED, SECOND_FACTOR};
use crate::people::{Visitor, browser, cookie, require_recent_proof};

/// The cookie of a browser that went to another provider.
const AWAY: &str = "__Host-cfr-away";
/// How long somebody may take there.
const AWAY_SECONDS: i64 = 600;
/// Where people go who say nothing else.
const HOME: &str = "/";
/// Bytes of the path to go back to.
const RETURN_TO_BYTES_MAX: usize = 2_048;
/// The target of an event about somebody whom nobody knows here.
const NOBODY: &str = "nobody";
/// What the cookie's proof is made for.
const AWAY_PURPOSE: &str = "away";

/// A header that makes a browser keep a cookie.
type Kept = (HeaderName, HeaderValue);

/// What a browser does while it is away, as its cookie says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    SignIn,
    Link,
}

#[derive(Debug, Deserialize)]
pub(super) struct Begin {
    #[serde(default)]
    return_to: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Back {
    #[serde(default)]
    code: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    error: String,
}

/// The providers, for whoever shows buttons.
pub(super) async fn list(State(federation): State<Arc<Federation>>) -> Json<Value> {
    let shown = |provider: &FederationConfig| json!({ "id": provider.id, "name": provider.name, "path": format!("{BASE_PATH}/{}", provider.id) });
    Json(json!({ "items": federation.providers.iter().map(shown).collect::<Vec<_>>() }))
}

/// Somebody wants to sign in.
pub(super) async fn begin(
    State(federation): State<Arc<Federation>>,
    Path(provider): Path<String>,
    Query(begin): Query<Begin>,
) -> Response {
    respond(federation.begin_sign_in(&provider, &begin.return_to).await)
}

/// Somebody who is signed in, and proved so of late, wants to sign in so from now on. Only a page of ours may ask for it. The
/// answer is a page that leads on: browsers do not let a form's answer send them to another host.
pub(super) async fn link(
    State(federation): State<Arc<Federation>>,
    Path(provider): Path<String>,
    visitor: Visitor,
) -> Response {
    respond(federation.begin_link(&provider, &visitor).await)
}

/// Somebody comes back.
pub(super) async fn come_back(
    State(federation): State<Arc<Federation>>,
    Path(provider): Path<String>,
    visitor: Visitor,
    Query(back): Query<Back>,
) -> Response {
    let mut response = respond(federation.return_from(&provider, &visitor, &back).await);
    response.headers_mut().append(SET_COOKIE, cookie::forget(AWAY));
    response
}

fn respond(outcome: Result<Response, Unsigned>) -> Response {
    outcome.unwrap_or_else(|why| explain(&why.to_string()))
}

impl Federation {
    async fn begin_sign_in(&self, provider: &str, return_to: &str) -> Result<Response, Unsigned> {
        let (address, away) = self.leave(provider, Wish::SignIn, local(return_to)).await?;
        Ok((away, Redirect::to(&address)).into_response())
    }

    async fn begin_link(&self, provider: &str, visitor: &Visitor) -> Result<Response, Unsigned> {
        browser::check_origin(&visitor.headers).map_err(Unsigned::because)?;
        let signed_in = self.proved(visitor).await?;
        let (address, away) = self.leave(provider, Wish::Link, &signed_in.session.id.to_string()).await?;
        Ok((away, page::lead_on(visitor, &address)).into_response())
    }

    /// Where the browser goes, and what it keeps meanwhile: with the wish, a word that comes back with it.
    async fn leave(&self, provider: &str, wish: Wish, word: &str) -> Result<(String, [Kept; 1]), Unsigned> {
        let provider = self.provider(provider)?;
        let random = random();
        let address = self.departure(provider, random.expose()).await?;
        let away = self.away(provider, &random, wish, word);
        Ok((address, [(SET_COOKIE, cookie::keep(AWAY, &away, AWAY_SECONDS))]))
    }

    /// Who is signed in, themselves, and proved of late who they are.
    async fn proved(&self, visitor: &Visitor) -> Result<SignedIn, Unsigned> {
        let signed_in = self.people.signed_in(&visitor.headers).await.map_err(Unsigned::because)?;
        let signed_in = signed_in.filter(|signed_in| signed_in.session.impersonates.is_none());
        let signed_in = signed_in.ok_or_else(|| Unsigned::because("sign in here first"))?;
        require_recent_proof(&signed_in, self.clock.now()).map_err(Unsigned::because)?;
        Ok(signed_in)
    }

    async fn return_from(&self, provider: &str, visitor: &Visitor, back: &Back) -> Result<Response, Unsigned> {
        let provider = self.provider(provider)?;
        let stale = || Unsigned::because("this took too long, or began in another browser; begin again");
        let away = cookie::read(&visitor.headers, AWAY).ok_or_else(stale)?;
        let (random, wish, word) = self.read_away(provider, away).ok_or_else(stale)?;
        if !bool::from(random.as_bytes().ct_eq(back.state.as_bytes())) {
            return Err(stale());
        }
        if !back.error.is_empty() || back.code.is_empty() {
            return Err(Unsigned::because("the other provider did not sign you in"));
        }
        let arrival = self.arrival(provider, random, &back.code).await?;
        if wish == Wish::Link {
            return self.link(visitor, provider, &arrival, &word).await;
        }
        let user = match self.user_of(visitor, provider, &arrival).await {
            Ok(user) => user,
            Err(why) => return Err(self.noted(visitor, provider, why).await),
        };
        let methods: &[&str] = if arrival.second_factor { &[FEDERATED, SECOND_FACTOR] } else { &[FEDERATED] };
        let opened = self.people.open_session_of(visitor, user, methods).await.map_err(Unsigned::because)?;
        let mut response = Redirect::to(&word).into_response();
        response.headers_mut().append(SET_COOKIE, opened.cookie(self.clock.now()));
        Ok(response)
    }

    async fn link(
        &self,
        visitor: &Visitor,
        provider: &FederationConfig,
        arrival: &Arrival,
        session: &str,
    ) -> Result<Response, Unsigned> {
        let signed_in = self.proved(visitor).await?;
        if signed_in.session.id.to_string() != session {
            return Err(Unsigned::because("this began with another session; begin again"));
        }
        if *signed_in.tenant.slug != *provider.tenant {
            return Err(Unsigned::because("this provider is for another organisation than yours"));
        }
        let act = visitor.act(Some(signed_in.user.id), self.clock.now());
        match self.store.link_identity(signed_in.user.id, &arrival.identity(), &act).await {
            Ok(()) => {
                self.people.tell_of(&signed_in.user, Change::IdentityLinked).await;
                Ok(Redirect::to(ACCOUNT).into_response())
            }
            Err(StoreError::Conflict { .. }) => {
                Err(Unsigned::because("your account at the other provider belongs to somebody here already"))
            }
            Err(error) => Err(Unsigned::failed(&provider.id, error)),
        }
    }

    /// Writes down that somebody was turned away whom another provider vouched for.
    async fn noted(&self, visitor: &Visitor, provider: &FederationConfig, why: Unsigned) -> Unsigned {
        let changes = json!({ "reason": "not_admitted", "provider": &*provider.id }).to_string().into();
        let event = Event { action: Action::SessionRefused, tenant: None, target: NOBODY.into(), changes };
        match self.people.note_refused(visitor, &event).await {
            Ok(()) => why,
            Err(error) => Unsigned::failed(&provider.id, error),
        }
    }

    /// What the browser keeps while it is away.
    fn away(&self, provider: &FederationConfig, random: &Secret, wish: Wish, return_to: &str) -> Secret {
        let back = URL_SAFE_NO_PAD.encode(return_to);
        let seal = self.derived.seal(AWAY_PURPOSE, &[&provider.id, random.expose(), wish.word(), &back]);
        Secret::new(format!("{}.{}.{back}.{seal}", random.expose(), wish.word()))
    }

    fn read_away<'a>(&self, provider: &FederationConfig, text: &'a str) -> Option<(&'a str, Wish, String)> {
        let mut parts = text.split('.');
        let (random, wish, back, seal) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if !self.derived.is_sealed(AWAY_PURPOSE, &[&provider.id, random, wish, back], seal) {
            return None;
        }
        let wish = [Wish::SignIn, Wish::Link].into_iter().find(|known| known.word() == wish)?;
        Some((random, wish, String::from_utf8(URL_SAFE_NO_PAD.decode(back).ok()?).ok()?))
    }
}

impl Wish {
    const fn word(self) -> &'static str {
        match self {
            Self::SignIn => "sign-in",
            Self::Link => "link",
        }
    }
}

/// A path on this host, or the start: nobody is led to another site.
fn local(path: &str) -> &str {
    let odd = |letter: char| letter == '\\' || letter.is_control() || letter.is_whitespace();
    let fine = path.starts_with('/') && !path.starts_with("//") && !path.contains(odd);
    if fine && path.len() <= RETURN_TO_BYTES_MAX { path } else { HOME }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_to_another_site() {
        assert_eq!(local("/oauth/authorize?x=1"), "/oauth/authorize?x=1");
        for elsewhere in ["", "https://evil.example", "//evil.example", "/\\evil.example", "/a b", "/\u{9}/x"] {
            assert_eq!(local(elsewhere), HOME, "{elsewhere}");
        }
    }
}
