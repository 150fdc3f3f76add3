//! The cookies: the session, before it the half that waits for a second factor, and the challenge that waits for a passkey.
//!
//! The prefix `__Host-` binds them to this host and to TLS (RFC 6265bis §4.1.3.2): no subdomain can plant one. Browsers take
//! them over plain HTTP from `localhost` only.

use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderValue};
use cfr_core::secret::Secret;

/// The cookie of a session.
pub const SESSION: &str = "__Host-cfr";
/// The cookie of who still has to present a second factor.
pub const HALF: &str = "__Host-cfr-half";
/// The cookie of whose authenticator was asked for an answer.
pub const CHALLENGE: &str = "__Host-cfr-challenge";

/// The value of a cookie that a request sends; none when it sends several: somebody planted one.
#[must_use]
pub fn read<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(known, _)| *known == name).map(|(_, value)| value);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// What makes a browser keep a cookie for this many seconds.
#[must_use]
pub fn keep(name: &str, value: &Secret, seconds: i64) -> HeaderValue {
    let mut header = line(name, value.expose(), seconds);
    header.set_sensitive(true);
    header
}

/// What makes a browser forget a cookie.
#[must_use]
pub fn forget(name: &str) -> HeaderValue {
    line(name, "", 0)
}

fn line(name: &str, value: &str, seconds: i64) -> HeaderValue {
    let line = format!("{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax");
    HeaderValue::try_from(line).unwrap_or_else(|_| HeaderValue::from_static("")) // our values are base64url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&'static str], expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_static(line));
        }
        assert_eq!(read(&headers, SESSION), expected, "{lines:?}");
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name_and_only_once() {
        check(&["__Host-cfr=abc"], Some("abc"));
        check(&["a=1; __Host-cfr=abc; b=2"], Some("abc"));
        check(&["a=1", "__Host-cfr=abc"], Some("abc"));
        check(&["__Host-cfr-half=abc; x__Host-cfr=d"], None);
        check(&["__Host-cfr=abc; __Host-cfr=def"], None);
        check(&[], None);
    }

    #[test]
    fn a_cookie_is_for_this_host_and_no_script() {
        let kept = keep(SESSION, &Secret::new("abc"), 60);
        assert_eq!(kept, "__Host-cfr=abc; Path=/; Max-Age=60; Secure; HttpOnly; SameSite=Lax");
        assert_eq!(forget(SESSION), "__Host-cfr=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax");
    }
}
