//! Whether a request comes from our own pages: what a page of somebody else makes a browser send is refused (CSRF).

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, Method, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::{Refusal, cookie};

/// The header in which pages prove that they may read our answers.
pub const CSRF_HEADER: HeaderName = HeaderName::from_static("x-csrf-token");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// What the token of a session is made from, together with the session's secret.
const CSRF_PURPOSE: &[u8] = b"cfr: csrf token";

/// What HMAC-SHA256 takes as it is, filled up with zeros. A session's secret is shorter.
const HMAC_BLOCK_BYTES: usize = 64;

/// The token that goes with a session's cookie. Whoever knows it has read an answer of ours, which other sites cannot.
#[must_use]
pub fn csrf_token(session: &str) -> String {
    URL_SAFE_NO_PAD.encode(csrf(session).finalize().into_bytes())
}

fn csrf(session: &str) -> Hmac<Sha256> {
    let mut key = [0; HMAC_BLOCK_BYTES];
    key.iter_mut().zip(session.bytes()).for_each(|(place, byte)| *place = byte);
    let mut hmac = Hmac::<Sha256>::new((&key).into());
    hmac.update(CSRF_PURPOSE);
    hmac
}

/// Passes requests that change nothing, and those that our own pages sent with the token of their session.
///
/// # Errors
/// [`Refusal::ForeignOrigin`] or [`Refusal::NoCsrfToken`].
pub fn check_browser(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    if method.is_safe() {
        return Ok(());
    }
    check_origin(headers)?;
    let session = cookie::read(headers, cookie::SESSION).unwrap_or_default();
    let sent = headers.get(CSRF_HEADER).map(|value| value.as_bytes()).unwrap_or_default();
    let same = csrf_token(session).as_bytes().ct_eq(sent);
    if bool::from(same) { Ok(()) } else { Err(Refusal::NoCsrfToken) }
}

/// Passes what our own pages sent, and what no browser sent.
///
/// # Errors
/// [`Refusal::ForeignOrigin`].
pub fn check_origin(headers: &HeaderMap) -> Result<(), Refusal> {
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        // Typed into the address bar, as reloading a form is, comes from nobody's page.
        return if site == "same-origin" || site == "none" { Ok(()) } else { Err(Refusal::ForeignOrigin) };
    }
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    let origin = origin.as_ref().and_then(|origin| origin.authority());
    match (origin, host) {
        (Some(origin), Some(host)) if origin.as_str().eq_ignore_ascii_case(host) => Ok(()),
        _ => Err(Refusal::ForeignOrigin),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const SESSION: &str = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::try_from(text).expect("a header");
        pairs.iter().map(|(name, text)| (HeaderName::from_static(name), value(text))).collect()
    }

    #[track_caller]
    fn check_from(pairs: &[(&'static str, &str)], ours: bool) {
        assert_eq!(check_origin(&headers(pairs)).is_ok(), ours, "{pairs:?}");
    }

    #[test]
    fn only_our_own_pages_and_no_pages_at_all_may_change_something() {
        check_from(&[("host", "cfr.example")], true);
        check_from(&[("host", "cfr.example"), ("origin", "https://cfr.example")], true);
        check_from(&[("host", "cfr.example:4000"), ("origin", "http://CFR.example:4000")], true);
        check_from(&[("host", "cfr.example"), ("origin", "https://evil.example")], false);
        check_from(&[("host", "cfr.example"), ("origin", "https://cfr.example.evil.example")], false);
        check_from(&[("host", "cfr.example"), ("origin", "null")], false);
        check_from(&[("origin", "https://cfr.example")], false);
        check_from(&[("host", "cfr.example"), ("sec-fetch-site", "same-origin")], true);
        for site in ["same-site", "cross-site", "anything"] {
            check_from(&[("host", "cfr.example"), ("origin", "https://cfr.example"), ("sec-fetch-site", site)], false);
        }
    }

    #[test]
    fn a_session_changes_something_with_its_own_token_only() {
        let cookie = format!("{}={SESSION}", cookie::SESSION);
        let with = |token: &str| headers(&[("cookie", &cookie), ("x-csrf-token", token)]);
        let check = |headers: &HeaderMap| check_browser(&Method::POST, headers);
        assert!(check(&with(&csrf_token(SESSION))).is_ok());
        assert!(matches!(check(&with(&csrf_token("another"))), Err(Refusal::NoCsrfToken)));
        assert!(matches!(check(&headers(&[("cookie", &cookie)])), Err(Refusal::NoCsrfToken)));
        assert!(check_browser(&Method::GET, &headers(&[("cookie", &cookie)])).is_ok());
    }
}
