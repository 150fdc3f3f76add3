//! Asks who somebody is, and sends the client a code for it (OpenID Connect Core 1.0 §3.1.2).

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cfr_billing::oidc::{Client, ClientSession, Code};
use cfr_billing::people::SignedIn;
use cfr_core::id::ClientSessionId;
use cfr_core::time::Timestamp;

use super::claims::SCOPES;
use super::params::{Params, with_params};
use super::{AUTHORIZE, OAuthError, Provider, page};
use crate::people::{Refusal, Visitor, browser};

/// Where people sign in.
const SIGN_IN: &str = "/auth/sign-in";
/// How long a code works.
const CODE_LASTS: Duration = Duration::from_mins(1);
/// Our own parameter: the moment after which somebody has to have proved who they are, with a proof that we wrote it. It stands
/// for `prompt=login` and `max_age` once the sign-in page was shown, which would be shown for ever else.
const SINCE: &str = "cfr_since";
/// How long somebody may take to sign in.
const SINCE_LASTS: Duration = Duration::from_hours(1);
/// Letters of an answer to the challenge of PKCE: base64url of SHA-256.
const CHALLENGE_LETTERS: usize = 43;
/// Bytes of what clients want to find again.
const ECHO_BYTES_MAX: usize = 1_024;
/// What the proof is made for that a consent was given on our own page.
const CONSENT_PURPOSE: &str = "consent";

/// A request whose client and address are known: whatever else is wrong with it, the client is told.
struct Ask {
    client: Client,
    redirect_uri: Arc<str>,
    params: Params,
}

/// What the browser does next.
enum Step {
    /// Somebody has to prove (again) who they are.
    SignIn(String),
    /// Somebody has to allow it.
    Consent { shown: Box<SignedIn> },
    /// Nothing goes to the client: the page says why.
    Explain(&'static str),
    /// The client gets a code.
    Code(String),
}

/// The browser was sent here with a query.
pub(super) async fn by_query(
    State(provider): State<Arc<Provider>>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Response {
    provider.authorize(&visitor, query.unwrap_or_default().as_bytes(), false).await
}

/// The browser was sent here with a form.
pub(super) async fn by_form(State(provider): State<Arc<Provider>>, visitor: Visitor, form: Bytes) -> Response {
    provider.authorize(&visitor, &form, false).await
}

/// Somebody pressed a button on our page of consent.
pub(super) async fn consent(State(provider): State<Arc<Provider>>, visitor: Visitor, form: Bytes) -> Response {
    match provider.consented(&visitor, &form).await {
        Ok(response) => response,
        Err(error) => page::problem(&error.description),
    }
}

impl Provider {
    async fn authorize(&self, visitor: &Visitor, params: &[u8], consented: bool) -> Response {
        match self.ask(params).await {
            Ok(ask) => self.answer(visitor, &ask, consented).await,
            Err(error) => page::problem(&error.description),
        }
    }

    async fn answer(&self, visitor: &Visitor, ask: &Ask, consented: bool) -> Response {
        match self.next_step(visitor, ask, consented).await {
            Ok(Step::SignIn(address)) => Redirect::to(&address).into_response(),
            Ok(Step::Consent { shown }) => self.consent_page(&shown, ask),
            Ok(Step::Explain(why)) => page::explanation(why),
            Ok(Step::Code(code)) => self.back(ask, &[("code", &code)]),
            Err(error) => self.back(ask, &[("error", error.code), ("error_description", &error.description)]),
        }
    }

    /// Reads what must be right before anything is sent anywhere.
    async fn ask(&self, params: &[u8]) -> Result<Ask, OAuthError> {
        let params = Params::parse(params)?;
        let unknown = || OAuthError::invalid_request("the program that sent you here is not known, or not any more");
        let client = self.known_client(params.get("client_id")).await?.ok_or_else(unknown)?;
        let wanted = params.get("redirect_uri").unwrap_or_default();
        let redirect_uri = client.redirect_uris.iter().find(|known| &***known == wanted).cloned();
        let elsewhere = || {
            OAuthError::invalid_request(format!("{wanted}: this address is not one of those that {} has", client.name))
        };
        let redirect_uri = redirect_uri.ok_or_else(elsewhere)?;
        Ok(Ask { client, redirect_uri, params })
    }

    async fn next_step(&self, visitor: &Visitor, ask: &Ask, consented: bool) -> Result<Step, OAuthError> {
        let wish = ask.wish()?;
        let silent = ask.has_prompt("none");
        let signed_in = match self.people.signed_in(&visitor.headers).await {
            Err(Refusal::SecondFactorNeeded) => None,
            found => found?,
        };
        let Some(signed_in) = signed_in.filter(|found| self.is_fresh(ask, found)) else {
            let login = OAuthError::new("login_required", "nobody is signed in");
            return if silent { Err(login) } else { Ok(Step::SignIn(self.sign_in_address(ask))) };
        };
        if signed_in.session.impersonates.is_some() {
            return Ok(Step::Explain("You look at somebody else's account. Sign in as yourself to use this program."));
        }
        if signed_in.user.tenant != ask.client.tenant {
            return Ok(Step::Explain("Your account belongs to another organisation than this program."));
        }
        if !consented && (!ask.client.first_party || ask.has_prompt("consent")) {
            let needed = OAuthError::new("consent_required", "nobody allowed it yet");
            return if silent { Err(needed) } else { Ok(Step::Consent { shown: Box::new(signed_in) }) };
        }
        self.give_code(visitor, ask, wish, &signed_in).await.map(Step::Code)
    }

    /// Whether somebody proved who they are as lately as the client wants it.
    fn is_fresh(&self, ask: &Ask, signed_in: &SignedIn) -> bool {
        let proved = signed_in.session.proved_at;
        let age = self.now().duration_since(proved).as_secs();
        match self.since(ask) {
            Some(since) => proved >= since,
            None => !ask.asks_again() && ask.number("max_age").is_none_or(|max| age <= max),
        }
    }

    /// When the sign-in page was shown for this request.
    fn since(&self, ask: &Ask) -> Option<Timestamp> {
        let (seconds, seal) = ask.params.get(SINCE)?.split_once('.')?;
        let since = Timestamp::from_second(seconds.parse().ok()?).ok()?;
        let young = self.now().duration_since(since).unsigned_abs() < SINCE_LASTS;
        (young && self.derived.is_sealed(SINCE, &[&ask.client.id.to_string(), seconds], seal)).then_some(since)
    }

    /// Our sign-in page, which comes back here afterwards.
    fn sign_in_address(&self, ask: &Ask) -> String {
        let seconds = self.now().as_second().to_string();
        let seal = self.derived.seal(SINCE, &[&ask.client.id.to_string(), &seconds]);
        let since = format!("{seconds}.{seal}");
        let again = ask.asks_again() || ask.params.get("max_age").is_some();
        let changes: &[(&str, Option<&str>)] = if again { &[(SINCE, Some(&since))] } else { &[] };
        let back = format!("{AUTHORIZE}?{}", ask.params.query_with(changes));
        let hint = ask.params.get("login_hint").map(|hint| ("login_hint", hint));
        with_params(SIGN_IN, [("return_to", back.as_str())].into_iter().chain(hint))
    }

    async fn give_code(
        &self,
        visitor: &Visitor,
        ask: &Ask,
        wish: Wish,
        signed_in: &SignedIn,
    ) -> Result<String, OAuthError> {
        let now = self.now();
        let ends = now + CODE_LASTS;
        let (redirect_uri, expires_at) = (Arc::clone(&ask.redirect_uri), ends);
        let session = ClientSession {
            id: ClientSessionId::generate(now),
            client: ask.client.id,
            tenant: ask.client.tenant,
            user: signed_in.user.id,
            session: signed_in.session.id,
            epoch: signed_in.epoch,
            scopes: wish.scopes,
            methods: signed_in.session.methods.clone(),
            auth_time: signed_in.session.proved_at,
            salt: URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()).into(),
            code: Some(Code { redirect_uri, challenge: wish.challenge, nonce: wish.nonce, expires_at }),
            generation: 0,
            renewed_at: now,
            created_at: now,
            expires_at: ends, // until the code is redeemed
            ended_at: None,
            tries: 0,
            due_at: None,
            version: 1,
        };
        let act = visitor.act(Some(signed_in.user.id), now);
        self.store.open_client_session(&session, &act).await?;
        Ok(self.derived.text(&session, 0))
    }

    /// Sends the browser back to the client, with what it sent to recognise the answer and with our name (RFC 9207).
    fn back(&self, ask: &Ask, pairs: &[(&str, &str)]) -> Response {
        let state = ask.params.get("state").map(|state| ("state", state));
        let ours = [("iss", self.issuer.as_str())];
        let pairs = pairs.iter().copied().chain(state).chain(ours);
        Redirect::to(&with_params(&ask.redirect_uri, pairs)).into_response()
    }

    fn consent_page(&self, signed_in: &SignedIn, ask: &Ask) -> Response {
        let query = ask.params.query_with(&[]);
        let seal = self.derived.seal(CONSENT_PURPOSE, &[&signed_in.session.id.to_string(), &query]);
        let scopes: Vec<&str> = ask.params.words("scope").filter(|scope| SCOPES.contains(scope)).collect();
        page::consent(&ask.client.name, &signed_in.user.email, &scopes, &query, &seal)
    }

    /// The page was ours, for this request and this session.
    async fn consented(&self, visitor: &Visitor, form: &[u8]) -> Result<Response, OAuthError> {
        let stale = || OAuthError::invalid_request("this page is out of date; go back to the program and try again");
        let form = Params::parse(form)?;
        browser::check_origin(&visitor.headers).map_err(|_| stale())?;
        let signed_in = self.people.signed_in(&visitor.headers).await?.ok_or_else(stale)?;
        let (query, seal) = (form.get("request").unwrap_or_default(), form.get("seal").unwrap_or_default());
        if !self.derived.is_sealed(CONSENT_PURPOSE, &[&signed_in.session.id.to_string(), query], seal) {
            return Err(stale());
        }
        if form.get("decision") == Some("allow") {
            return Ok(self.authorize(visitor, query.as_bytes(), true).await);
        }
        let ask = self.ask(query.as_bytes()).await?;
        Ok(self.back(&ask, &[("error", "access_denied"), ("error_description", "the user said no")]))
    }
}

/// What the client wants.
struct Wish {
    scopes: Vec<Arc<str>>,
    challenge: Arc<str>,
    nonce: Option<Arc<str>>,
}

impl Ask {
    fn wish(&self) -> Result<Wish, OAuthError> {
        let params = &self.params;
        for unsupported in ["request", "request_uri"] {
            if params.get(unsupported).is_some() {
                let code = if unsupported == "request" { "request_not_supported" } else { "request_uri_not_supported" };
                return Err(OAuthError::new(code, "requests come as plain parameters"));
            }
        }
        if params.get("response_type") != Some("code") {
            return Err(OAuthError::new("unsupported_response_type", "response_type: only `code`"));
        }
        if params.get("response_mode").is_some_and(|mode| mode != "query") {
            return Err(OAuthError::invalid_request("response_mode: only `query`"));
        }
        if self.has_prompt("none") && params.words("prompt").count() > 1 {
            return Err(OAuthError::invalid_request("prompt: `none` stands alone"));
        }
        for echo in ["state", "nonce"] {
            if params.get(echo).is_some_and(|value| value.len() > ECHO_BYTES_MAX) {
                return Err(OAuthError::invalid_request(format!("{echo}: at most {ECHO_BYTES_MAX} bytes")));
            }
        }
        if params.get("max_age").is_some() && self.number("max_age").is_none() {
            return Err(OAuthError::invalid_request("max_age: seconds"));
        }
        let (scopes, challenge) = (self.scopes()?, self.challenge()?);
        Ok(Wish { scopes, challenge, nonce: params.get("nonce").map(Arc::from) })
    }

    fn scopes(&self) -> Result<Vec<Arc<str>>, OAuthError> {
        let mut scopes: Vec<Arc<str>> = Vec::new();
        for word in self.params.words("scope").filter(|word| SCOPES.contains(word)) {
            if !scopes.iter().any(|known| &**known == word) {
                scopes.push(word.into());
            }
        }
        match scopes.iter().any(|scope| &**scope == "openid") {
            true => Ok(scopes),
            false => Err(OAuthError::new("invalid_scope", "scope: `openid` is missing")),
        }
    }

    /// Without PKCE nobody gets a code (RFC 9700 §2.1.1).
    fn challenge(&self) -> Result<Arc<str>, OAuthError> {
        let challenge = self.params.get("code_challenge").unwrap_or_default();
        let letters = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_');
        let fine = challenge.len() == CHALLENGE_LETTERS && challenge.bytes().all(letters);
        match fine && self.params.get("code_challenge_method") == Some("S256") {
            true => Ok(challenge.into()),
            false => Err(OAuthError::invalid_request(
                "PKCE is needed: code_challenge with code_challenge_method=S256 (Open WebUI: OAUTH_CODE_CHALLENGE_METHOD=S256)",
            )),
        }
    }

    /// Whether somebody who is signed in is to prove it again.
    fn asks_again(&self) -> bool {
        self.has_prompt("login") || self.has_prompt("select_account")
    }

    fn has_prompt(&self, prompt: &str) -> bool {
        self.params.words("prompt").any(|word| word == prompt)
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.params.get(name)?.parse().ok().filter(|number| *number >= 0)
    }
}
