//! Pages for people, without a script: what they are asked, and why something does not work.

use std::borrow::Cow;

use axum::response::{Html, IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use http::{HeaderValue, StatusCode};

use super::{CONSENT, LOGOUT};

/// Nothing is loaded, nothing runs, and nobody frames it. Forms may lead on to clients, so their targets are not limited.
const POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'");
const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:15vh auto;padding:0 1rem;color:#1a1a1a;\
     background:#fff}button{font:inherit;padding:.5rem 1.25rem;margin-right:.5rem}@media(prefers-color-scheme:dark){body{\
     color:#eee;background:#161616}}";

/// Why a request cannot be answered, to who stands before the browser.
pub(super) fn problem(why: &str) -> Response {
    page(StatusCode::BAD_REQUEST, "This does not work", &format!("<p>{}</p>", escaped(why)))
}

/// Where somebody stands.
pub(crate) fn explanation(text: &str) -> Response {
    page(StatusCode::OK, "CloudFreedom", &format!("<p>{}</p>", escaped(text)))
}

/// Asks whether a program of somebody else may know who somebody is.
pub(super) fn consent(client: &str, email: &str, scopes: &[&str], request: &str, seal: &str) -> Response {
    let lines: String =
        scopes.iter().filter_map(|scope| meaning(scope)).map(|line| format!("<li>{line}</li>")).collect();
    let body = format!(
        "<p><b>{}</b> wants to know who you are. You are signed in as {}. It would</p><ul>{lines}</ul>\
         <form method=\"post\" action=\"{CONSENT}\"><input type=\"hidden\" name=\"request\" value=\"{}\">\
         <input type=\"hidden\" name=\"seal\" value=\"{}\"><button name=\"decision\" value=\"allow\">Allow</button>\
         <button name=\"decision\" value=\"deny\">Refuse</button></form>",
        escaped(client),
        escaped(email),
        escaped(request),
        escaped(seal)
    );
    page(StatusCode::OK, "Sign in to another program", &body)
}

/// Asks whether somebody wants to sign out: a link of anybody may have led here.
pub(super) fn sign_out(query: &str) -> Response {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let inputs: String = pairs
        .map(|(name, value)| {
            format!("<input type=\"hidden\" name=\"{}\" value=\"{}\">", escaped(&name), escaped(&value))
        })
        .collect();
    let body = format!(
        "<p>Sign out here and in every program that you signed in to from this browser?</p>\
         <form method=\"post\" action=\"{LOGOUT}\">{inputs}<button>Sign out</button></form>"
    );
    page(StatusCode::OK, "Sign out", &body)
}

fn meaning(scope: &str) -> Option<&'static str> {
    Some(match scope {
        "openid" => "recognise you when you come again",
        "email" => "see your address",
        "profile" => "see your name, your language, your organisation and whether you administer it",
        "groups" => "see your organisation",
        "models" => "<b>use models in your name and for your budget</b>",
        "offline_access" => "stay signed in while you are away",
        _ => return None,
    })
}

fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style><main><h1>{title}</h1>{body}</main></html>"
    );
    let headers = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (status, headers, Html(html)).into_response()
}

fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return text.into();
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_text() {
        assert_eq!(escaped("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
        assert!(matches!(escaped("plain"), Cow::Borrowed("plain")));
    }
}
