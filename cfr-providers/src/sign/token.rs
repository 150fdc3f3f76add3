//! Tokens that a server gives for a while: kept, and asked for again before they end.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cfr_core::secret::Secret;
use cfr_core::time::Clock;
use cfr_core::upstream::UpstreamError;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::kept::Kept;
use super::{KeyHeader, Signer};
use crate::transport::{self, Endpoint, Transport, WireRequest};

/// How long a server of tokens may take.
pub const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer of a server of tokens.
pub const TOKEN_BODY_BYTES_MAX: usize = 64 * 1024;

/// A token as a server gave it.
#[derive(Debug, Clone)]
pub struct Token {
    /// What is sent.
    pub secret: Secret,
    /// For how long it holds, from now on.
    pub valid_for: Duration,
}

/// Where tokens come from.
#[async_trait]
pub trait TokenSource: Debug + Send + Sync + 'static {
    /// A token that is as new as the server gives one. Nothing is kept here: [`TokenBearer`] does that.
    ///
    /// # Errors
    /// When there is none to be had.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: another call asks again.
    async fn token(&self) -> Result<Token, UpstreamError>;
}

const _: fn(&dyn TokenSource) = |_| {};

/// Signs with `authorization: Bearer …`. However many calls wait for a token, one question is asked; while an old token
/// holds, nobody waits but the call that asks for the next.
#[derive(Debug)]
pub struct TokenBearer {
    source: Arc<dyn TokenSource>,
    kept: Kept<KeyHeader>,
}

impl TokenBearer {
    /// Signs with tokens of `source`.
    #[must_use]
    pub fn new(source: Arc<dyn TokenSource>, clock: Arc<dyn Clock>) -> Self {
        Self { source, kept: Kept::new(clock) }
    }

    async fn header(&self) -> Result<KeyHeader, UpstreamError> {
        let question = async {
            let token = self.source.token().await?;
            Ok((bearer(&token.secret)?, token.valid_for))
        };
        self.kept.get(question).await
    }
}

fn bearer(secret: &Secret) -> Result<KeyHeader, UpstreamError> {
    KeyHeader::with_text(AUTHORIZATION, &format!("Bearer {}", secret.expose()))
        .map_err(|error| UpstreamError::Malformed { message: format!("an access token: {error}").into() })
}

#[async_trait]
impl Signer for TokenBearer {
    async fn sign(&self, request: &mut WireRequest) -> Result<(), UpstreamError> {
        self.header().await?.sign(request).await
    }
}

/// A question in a form, as servers of tokens and roles take it. Whatever stands in it is percent-encoded already.
pub(super) fn form(endpoint: &Arc<Endpoint>, form: String) -> WireRequest {
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    let (endpoint, headers) = (Arc::clone(endpoint), HeaderMap::from_iter([(CONTENT_TYPE, kind)]));
    WireRequest { endpoint, headers, body: form.into(), dropped: Vec::new() }
}

/// Asks a server for a token, in the form that OAuth gave to all of them.
///
/// # Errors
/// [`UpstreamError::Account`] when the server refuses us; [`UpstreamError::Unreachable`] when there is no answer to be
/// had, since nothing has reached the provider then.
pub(super) async fn fetch(transport: &dyn Transport, request: WireRequest) -> Result<Token, UpstreamError> {
    let (status, body) = exchanged(transport, request).await?;
    if !status.is_success() {
        return Err(refusal(status, &body));
    }
    granted(&body).ok_or_else(|| UpstreamError::Malformed { message: "the server of tokens gave none".into() })
}

/// What a server of tokens or keys answers.
///
/// # Errors
/// [`UpstreamError::Unreachable`] when there is no answer to be had.
pub(super) async fn exchanged(
    transport: &dyn Transport,
    request: WireRequest,
) -> Result<(StatusCode, Bytes), UpstreamError> {
    let unreachable = |cause: transport::TransportError| UpstreamError::Unreachable {
        message: format!("nothing to sign with: {cause}").into(),
    };
    let response = transport.send(request, TOKEN_TIMEOUT).await.map_err(unreachable)?;
    let (head, mut body) = response.into_parts();
    let body = transport::whole(&mut body, TOKEN_TIMEOUT, TOKEN_BODY_BYTES_MAX).await.map_err(unreachable)?;
    Ok((head.status, body))
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Value,
}

/// Some servers write the seconds as a text.
fn granted(body: &[u8]) -> Option<Token> {
    let granted: Granted = serde_json::from_slice(body).ok()?;
    let seconds = granted.expires_in.as_u64().or_else(|| granted.expires_in.as_str()?.parse().ok())?;
    Some(Token { secret: Secret::new(granted.access_token), valid_for: Duration::from_secs(seconds) })
}

fn refusal(status: StatusCode, body: &[u8]) -> UpstreamError {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let word = |name: &str| said.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let message = format!("no access token: {} {}", word("error"), word("error_description"));
    let message = message.trim_end().into();
    match status.as_u16() {
        400..=407 => UpstreamError::Account { status, message },
        _ => UpstreamError::Failed { status, retry_after: None, message },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use cfr_core::time::{ManualClock, Timestamp};
    use tokio::sync::Semaphore;

    use super::super::kept::ASK_PAUSE;
    use super::*;

    /// Gives numbered tokens of an hour, one for each permit.
    #[derive(Debug)]
    struct Numbered {
        asked: AtomicU64,
        permits: Semaphore,
        fails: std::sync::atomic::AtomicBool,
    }

    #[async_trait]
    impl TokenSource for Numbered {
        async fn token(&self) -> Result<Token, UpstreamError> {
            let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
            self.permits.acquire().await.expect("an open semaphore").forget();
            if self.fails.load(Ordering::SeqCst) {
                return Err(UpstreamError::Unreachable { message: "no".into() });
            }
            Ok(Token { secret: Secret::new(number.to_string()), valid_for: Duration::from_secs(3_600) })
        }
    }

    struct Setup {
        source: Arc<Numbered>,
        clock: Arc<ManualClock>,
        bearer: TokenBearer,
    }

    fn setup(permits: usize) -> Setup {
        let (asked, fails) = (AtomicU64::new(0), std::sync::atomic::AtomicBool::new(false));
        let source = Arc::new(Numbered { asked, permits: Semaphore::new(permits), fails });
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let bearer = TokenBearer::new(source.clone(), clock.clone());
        Setup { source, clock, bearer }
    }

    impl Setup {
        async fn signed(&self) -> Result<String, UpstreamError> {
            let endpoint = Arc::new(Endpoint::below("http://127.0.0.1", "/").expect("an address"));
            let mut request =
                WireRequest { endpoint, headers: HeaderMap::new(), body: Bytes::new(), dropped: Vec::new() };
            self.bearer.sign(&mut request).await?;
            Ok(request.headers[AUTHORIZATION].to_str().expect("text").to_owned())
        }

        fn asked(&self) -> u64 {
            self.source.asked.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn many_calls_ask_once() {
        let setup = setup(0);
        let permit = async { setup.source.permits.add_permits(1) };
        let calls = futures_util::future::join_all((0..50).map(|_| setup.signed()));
        let (signed, ()) = tokio::join!(calls, permit);
        assert!(signed.into_iter().all(|signed| signed.expect("a token") == "Bearer 1"));
        assert_eq!(setup.asked(), 1);
    }

    #[tokio::test]
    async fn a_token_is_asked_for_again_five_minutes_before_its_end_and_nobody_else_waits() {
        let setup = setup(1);
        assert_eq!(setup.signed().await.expect("a token"), "Bearer 1");
        setup.clock.advance(Duration::from_secs(3_299));
        assert_eq!(setup.signed().await.expect("a token"), "Bearer 1");
        setup.clock.advance(Duration::from_secs(1));
        let asking = setup.signed();
        let other = async {
            let signed = setup.signed().await.expect("a token");
            setup.source.permits.add_permits(1);
            signed
        };
        let (asking, other) = tokio::join!(asking, other);
        assert_eq!((asking.expect("a token"), other), ("Bearer 2".to_owned(), "Bearer 1".to_owned()));
        assert_eq!(setup.signed().await.expect("a token"), "Bearer 2");
        assert_eq!(setup.asked(), 2);
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_asked_seldom_and_the_old_token_serves_to_its_end() {
        let setup = setup(9);
        setup.signed().await.expect("a token");
        setup.source.fails.store(true, Ordering::SeqCst);
        setup.clock.advance(Duration::from_secs(3_400));
        for _ in 0..5 {
            assert_eq!(setup.signed().await.expect("the old token"), "Bearer 1");
        }
        assert_eq!(setup.asked(), 2);
        setup.clock.advance(Duration::from_secs(190));
        for _ in 0..5 {
            assert!(matches!(setup.signed().await, Err(UpstreamError::Unreachable { .. })));
        }
        assert_eq!(setup.asked(), 3);
        setup.source.fails.store(false, Ordering::SeqCst);
        setup.clock.advance(ASK_PAUSE);
        assert_eq!(setup.signed().await.expect("a new token"), "Bearer 4");
    }

    #[tokio::test]
    async fn a_call_that_goes_away_while_it_asks_leaves_the_turn_to_the_next() {
        let setup = setup(0);
        assert!(futures_util::FutureExt::now_or_never(setup.signed()).is_none());
        setup.source.permits.add_permits(1);
        assert_eq!(setup.signed().await.expect("a token"), "Bearer 2");
    }

    #[test]
    fn seconds_are_a_number_or_a_text() {
        for seconds in ["3599", "\"3599\""] {
            let body = format!(r#"{{"access_token":"t","expires_in":{seconds},"token_type":"Bearer"}}"#);
            assert_eq!(granted(body.as_bytes()).expect("a token").valid_for, Duration::from_secs(3_599));
        }
        assert!(granted(b"{}").is_none());
    }
}
