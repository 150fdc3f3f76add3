//! Signing in with an account at another provider: Keycloak, Entra, Google and whoever else speaks OpenID Connect.
//!
//! [`FederationConfig`] names the providers, [`Federation`] sends a browser there and takes it back, `exchange` is how they are
//! asked. Somebody is known by the provider's name and theirs there (`iss` and `sub`), never by an address: who has an account
//! here links the other one while they are signed in.
//!
//! Nothing is kept between the two halves of a sign-in. A cookie binds them to one browser, and the nonce and the verifier of PKCE
//! are made of it and of a secret that is in no store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cfr_billing::store::Store;
use cfr_core::secret::Secret;
use cfr_core::time::Clock;
use openidconnect::core::{CoreAuthenticationFlow, CoreClient, CoreProviderMetadata};
use openidconnect::{
    AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointMaybeSet, EndpointNotSet, EndpointSet, IssuerUrl,
    Nonce, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, TokenResponse as _,
};

use crate::auth::Keys;
use crate::oidc::{Derived, Issuer, Outgoing};
use crate::people::People;

mod arrival;
mod config;
mod exchange;
mod flow;

pub use config::{FederationConfig, Unknown};

use self::exchange::Exchange;

/// Where browsers go to sign in elsewhere; the provider's id follows.
pub const BASE_PATH: &str = "/oauth/with";
/// How long it is believed what a provider says of itself.
const METADATA_KNOWN_FOR: Duration = Duration::from_hours(1);
/// What the secret is made for.
const PURPOSE: &str = "cfr: signing in with an account at another provider";

/// Everything that signing in elsewhere needs.
#[derive(Debug)]
pub struct Federation {
    providers: Vec<FederationConfig>,
    issuer: Issuer,
    store: Arc<dyn Store>,
    people: Arc<People>,
    clock: Arc<dyn Clock>,
    derived: Derived,
    exchange: Exchange,
    known: Mutex<HashMap<Arc<str>, (Duration, CoreProviderMetadata)>>,
}

/// Why somebody is not signed in, in words for them.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unsigned(Box<str>);

impl Unsigned {
    fn because(why: impl ToString) -> Self {
        Self(why.to_string().into())
    }

    /// What only the operator can do something about goes into the log.
    fn failed(provider: &str, why: impl std::fmt::Display) -> Self {
        tracing::warn!(provider, %why, "signing in with another provider failed");
        Self::because(
            "the other provider did not answer as it should; try again, and tell your administrator if it stays so",
        )
    }
}

/// A provider as the library for clients wants it.
type Remote =
    CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

/// Who somebody is at a provider, proved.
#[derive(Debug)]
struct Arrival {
    issuer: Arc<str>,
    subject: Arc<str>,
    email: Option<Arc<str>>,
    email_verified: bool,
    name: Option<Arc<str>>,
    second_factor: bool,
}

impl Federation {
    /// Signing in with these providers, which may be on these hosts wherever they are; none where there are none, or keys are
    /// not hashed.
    #[must_use]
    pub fn new(
        providers: Vec<FederationConfig>,
        issuer: Issuer,
        store: Arc<dyn Store>,
        people: Arc<People>,
        keys: &Keys,
        clock: Arc<dyn Clock>,
        inside: &[String],
    ) -> Option<Self> {
        let derived = Derived::new(keys.secret_for(PURPOSE)?);
        let outgoing = Outgoing::new(&issuer, hosts(&providers).chain(inside.iter().cloned()));
        let outgoing = outgoing.inspect_err(|error| tracing::error!(%error, "nobody signs in elsewhere")).ok()?;
        let exchange = Exchange::new(outgoing);
        let known = Mutex::default();
        (!providers.is_empty()).then_some(Self { providers, issuer, store, people, clock, derived, exchange, known })
    }

    fn provider(&self, id: &str) -> Result<&FederationConfig, Unsigned> {
        let found = self.providers.iter().find(|provider| &*provider.id == id);
        found.ok_or_else(|| Unsigned::because("there is no such provider"))
    }

    /// Where a browser is sent, for a sign-in that this random text stands for.
    async fn departure(&self, provider: &FederationConfig, random: &str) -> Result<String, Unsigned> {
        let remote = self.remote(provider).await?;
        let (state, nonce) = (random.to_owned(), self.nonce(provider, random));
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&self.verifier(provider, random));
        let flow = CoreAuthenticationFlow::AuthorizationCode;
        let asked = remote.authorize_url(flow, || CsrfToken::new(state), || nonce);
        let scopes = ["email", "profile"].map(|scope| Scope::new(scope.into()));
        let (address, ..) = asked.add_scopes(scopes).set_pkce_challenge(challenge).url();
        Ok(address.into())
    }

    /// Who comes back with this code.
    async fn arrival(&self, provider: &FederationConfig, random: &str, code: &str) -> Result<Arrival, Unsigned> {
        let failed = |why: &dyn std::fmt::Display| Unsigned::failed(&provider.id, why);
        let remote = self.remote(provider).await?;
        let asked = remote.exchange_code(AuthorizationCode::new(code.into())).map_err(|error| failed(&error))?;
        let asked = asked.set_pkce_verifier(self.verifier(provider, random));
        let tokens = asked.request_async(&self.exchange).await.map_err(|error| failed(&error))?;
        let id = tokens.id_token().ok_or_else(|| failed(&"there is no id token"))?;
        let nonce = self.nonce(provider, random);
        let claims = id.claims(&remote.id_token_verifier(), &nonce).map_err(|error| failed(&error))?;
        Ok(Arrival::read(claims, provider))
    }

    async fn remote(&self, provider: &FederationConfig) -> Result<Remote, Unsigned> {
        let failed = |why: &dyn std::fmt::Display| Unsigned::failed(&provider.id, why);
        let metadata = self.metadata(provider).await?;
        let back = self.issuer.at(&format!("{BASE_PATH}/{}/callback", provider.id));
        let back = RedirectUrl::new(back).map_err(|error| failed(&error))?;
        let secret = provider.client_secret.as_ref().map(|secret| ClientSecret::new(secret.expose().into()));
        Ok(CoreClient::from_provider_metadata(metadata, ClientId::new(provider.client_id.to_string()), secret)
            .set_redirect_uri(back))
    }

    /// What a provider says of itself, with its keys.
    async fn metadata(&self, provider: &FederationConfig) -> Result<CoreProviderMetadata, Unsigned> {
        let now = self.clock.uptime();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&provider.id).cloned();
        if let Some((_, metadata)) = known.filter(|(read_at, _)| now < *read_at + METADATA_KNOWN_FOR) {
            return Ok(metadata);
        }
        let failed = |why: &dyn std::fmt::Display| Unsigned::failed(&provider.id, why);
        let issuer = IssuerUrl::new(provider.issuer.to_string()).map_err(|error| failed(&error))?;
        let read =
            CoreProviderMetadata::discover_async(issuer, &self.exchange).await.map_err(|error| failed(&error))?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(Arc::clone(&provider.id), (now, read.clone()));
        Ok(read)
    }

    fn nonce(&self, provider: &FederationConfig, random: &str) -> Nonce {
        Nonce::new(self.derived.seal("nonce", &[&provider.id, random]))
    }

    fn verifier(&self, provider: &FederationConfig, random: &str) -> PkceCodeVerifier {
        PkceCodeVerifier::new(self.derived.seal("verifier", &[&provider.id, random]))
    }
}

/// Where the providers are: whoever wrote the configuration knows them, also inside. Where they send us on is another matter.
fn hosts(providers: &[FederationConfig]) -> impl Iterator<Item = String> {
    let issuers = providers.iter().filter_map(|provider| url::Url::parse(&provider.issuer).ok());
    issuers.filter_map(|issuer| issuer.host_str().map(str::to_owned))
}

fn random() -> Secret {
    Secret::new(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

/// Every route of it.
pub fn routes(federation: Arc<Federation>) -> Router {
    Router::new()
        .route(BASE_PATH, get(flow::list))
        .route(&format!("{BASE_PATH}/{{provider}}"), get(flow::begin))
        .route(&format!("{BASE_PATH}/{{provider}}/link"), post(flow::link))
        .route(&format!("{BASE_PATH}/{{provider}}/callback"), get(flow::come_back))
        .with_state(federation)
}
