//! Pages for browsers: signing in, the second factor, and what people sign in with. They come before there is a portal: whoever
//! signs in to another program by OpenID Connect comes here. They work without a script, but for passkeys, which need one.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, Query, State};
use axum::http::header::{ACCEPT_LANGUAGE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use cfr_billing::identity::Language;
use cfr_core::secret::Secret;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use super::browser::{check_origin, csrf_token};
use super::routes::{Ours, entered, half};
use super::session::{Opened, had_factors};
use super::sign_in::Entered;
use super::{Door, People, Refusal, Visitor, cookie};
use crate::api::problem::Problem;

mod account;
mod html;
mod join;
mod links;
mod words;

use self::html::{Field, Page, PasskeyButton};
use self::words::Words;

/// The page of what somebody signs in with.
pub const ACCOUNT: &str = "/auth/account";
/// Where people go who say nothing else.
const HOME: &str = "/";
/// Letters of a path to go back to: an OpenID Connect request is a long one.
const RETURN_TO_BYTES_MAX: usize = 4_096;

type Desk = State<Arc<People>>;

/// Where somebody wants to go back to.
#[derive(Debug, Default, Deserialize)]
struct Back {
    #[serde(default)]
    return_to: String,
}

impl Back {
    /// The path, if it is one of ours: nobody is led to another site.
    fn path(&self) -> &str {
        if is_local(&self.return_to) { &self.return_to } else { HOME }
    }
}

/// Whether browsers take it for a path on this host. They read `\` as `/` and leave out control characters.
fn is_local(path: &str) -> bool {
    let odd = |letter: char| letter == '\\' || letter.is_control() || letter.is_whitespace();
    path.starts_with('/') && !path.starts_with("//") && !path.contains(odd) && path.len() <= RETURN_TO_BYTES_MAX
}

#[derive(Debug, Deserialize)]
struct PasswordForm {
    email: String,
    password: Secret,
    #[serde(flatten)]
    back: Back,
}

#[derive(Debug, Deserialize)]
struct CodeForm {
    code: String,
    #[serde(flatten)]
    back: Back,
}

#[derive(Debug, Deserialize)]
struct EnrolForm {
    csrf_token: String,
    #[serde(default)]
    code: String,
    #[serde(flatten)]
    back: Back,
}

/// The paths of the pages. They are no part of the API.
pub(super) fn routes() -> Router<Arc<People>> {
    Router::new()
        .route("/sign-in", get(ask_password))
        .route("/pages/sign-in", post(take_password))
        .route("/pages/second-factor", post(take_code))
        .route("/pages/enrol", post(begin_app))
        .route("/pages/enrol/confirm", post(confirm_app))
        .merge(account::routes())
        .merge(join::routes())
        .merge(links::routes())
}

async fn ask_password(State(people): Desk, Query(back): Query<Back>, visitor: Visitor) -> Response {
    let words = words(&visitor);
    match people.signed_in(&visitor.headers).await {
        Ok(Some(_)) => go_on(words, &back),
        _ => password_page(&people, words, &back, None).answer(StatusCode::OK),
    }
}

async fn take_password(State(people): Desk, Ours(visitor): Ours, Form(form): Form<PasswordForm>) -> Response {
    let words = words(&visitor);
    match people.sign_in(&visitor, &form.email, &form.password).await {
        Ok(Entered::SignedIn(opened)) => arrive(&people, words, &opened, &form.back),
        Ok(Entered::Half { secret, passkey }) => {
            with(half(&secret), code_page(words, &form.back, passkey, None).answer(StatusCode::OK))
        }
        Err(refusal) => refuse(refusal, words, |reason| password_page(&people, words, &form.back, reason)),
    }
}

async fn take_code(State(people): Desk, Ours(visitor): Ours, Form(form): Form<CodeForm>) -> Response {
    let words = words(&visitor);
    let secret = cookie::read(&visitor.headers, cookie::HALF).unwrap_or_default();
    match people.second_factor(&visitor, secret, &form.code).await {
        Ok(opened) => arrive(&people, words, &opened, &form.back),
        Err(refusal @ Refusal::WrongCode) => {
            let passkey = people.half_has_passkey(secret).await.unwrap_or_default();
            refuse(refusal, words, |reason| code_page(words, &form.back, passkey, reason))
        }
        Err(refusal) => refuse(refusal, words, |reason| password_page(&people, words, &form.back, reason)),
    }
}

/// Where somebody comes who got in: on their way, or to the second factor that they must add first.
fn arrive(people: &People, words: &'static Words, opened: &Opened, back: &Back) -> Response {
    let answer = match had_factors(&opened.signed_in) {
        true => go_on(words, back),
        false => must_enrol_page(people, words, back, opened.secret.expose()).answer(StatusCode::OK),
    };
    with(entered(people, opened), answer)
}

async fn begin_app(State(people): Desk, visitor: Visitor, Form(form): Form<EnrolForm>) -> Result<Response, Problem> {
    let words = words(&visitor);
    let session = own_session(&visitor, &form.csrf_token)?;
    let me = people.session_of(&visitor.headers).await?.ok_or(Refusal::NotSignedIn)?;
    match people.begin_app(&visitor, &me).await {
        Ok(begun) => {
            let page = app_page(words, &form.back, session, None).shown(words.seed, begun.typed.expose());
            Ok(page.link(words.open_app, begun.url.expose()).answer(StatusCode::OK))
        }
        Err(refusal) => Ok(refuse(refusal, words, |reason| password_page(&people, words, &form.back, reason))),
    }
}

async fn confirm_app(State(people): Desk, visitor: Visitor, Form(form): Form<EnrolForm>) -> Result<Response, Problem> {
    let words = words(&visitor);
    let session = own_session(&visitor, &form.csrf_token)?;
    let me = people.session_of(&visitor.headers).await?.ok_or(Refusal::NotSignedIn)?;
    match people.confirm_app(&visitor, me, &form.code).await {
        Ok((opened, codes)) => {
            let codes: Vec<&str> = codes.iter().map(Secret::expose).collect();
            let page = Page::new(words, words.keep_codes).shown(words.recovery_codes, &codes.join("\n"));
            let answer = page.link(words.go_on, form.back.path()).answer(StatusCode::OK);
            Ok(with(entered(&people, &opened), answer))
        }
        Err(refusal @ Refusal::WrongCode) => {
            Ok(refuse(refusal, words, |reason| app_page(words, &form.back, session, reason)))
        }
        Err(refusal) => Ok(refuse(refusal, words, |reason| password_page(&people, words, &form.back, reason))),
    }
}

/// The session that a form was made for, by the token in it: forms send no headers.
fn own_session<'a>(visitor: &'a Visitor, token: &str) -> Result<&'a str, Refusal> {
    check_origin(&visitor.headers)?;
    let session = cookie::read(&visitor.headers, cookie::SESSION).ok_or(Refusal::NotSignedIn)?;
    let same = csrf_token(session).as_bytes().ct_eq(token.as_bytes());
    if bool::from(same) { Ok(session) } else { Err(Refusal::NoCsrfToken) }
}

fn password_page(people: &People, words: &'static Words, back: &Back, reason: Option<&str>) -> Page {
    let page = Page::new(words, words.sign_in)
        .reason(reason)
        .form(
            "/auth/pages/sign-in",
            words.sign_in,
            &[Field::email(words.email), Field::password(words.password), Field::hidden("return_to", back.path())],
        )
        .link(words.forgot, "/auth/forgot-password");
    let page = match people.takes_passkeys() {
        true => page.passkey(&ask_passkey(words.with_passkey, "/auth/sign-in/passkey", "", back.path())),
        false => page,
    };
    let way = |door: &Door| door.path_back_to(back.path());
    people.doors().iter().fold(page, |page, door| page.door(&words.sign_in_at(&door.name), &way(door)))
}

fn code_page(words: &'static Words, back: &Back, passkey: bool, reason: Option<&str>) -> Page {
    let page = Page::new(words, words.second_factor).reason(reason).form(
        "/auth/pages/second-factor",
        words.go_on,
        &[Field::code(words.code), Field::hidden("return_to", back.path())],
    );
    match passkey {
        true => page.passkey(&ask_passkey(words.use_passkey, "/auth/second-factor/passkey", "", back.path())),
        false => page,
    }
}

fn must_enrol_page(people: &People, words: &'static Words, back: &Back, session: &str) -> Page {
    let token = csrf_token(session);
    let page = Page::new(words, words.add_factor).text(words.why_factor).form(
        "/auth/pages/enrol",
        words.go_on,
        &[Field::hidden("csrf_token", &token), Field::hidden("return_to", back.path())],
    );
    match people.takes_passkeys() {
        true => page.text(words.or_passkey).passkey(&add_passkey(words, &token, back.path())),
        false => page,
    }
}

const fn ask_passkey<'a>(label: &'a str, path: &'static str, csrf_token: &'a str, next: &'a str) -> PasskeyButton<'a> {
    PasskeyButton { label, name: None, path, csrf_token, next }
}

const fn add_passkey<'a>(words: &'static Words, csrf_token: &'a str, next: &'a str) -> PasskeyButton<'a> {
    let (label, name) = (words.add_passkey, Some(words.passkey_name));
    PasskeyButton { label, name, path: "/auth/factors/passkeys", csrf_token, next }
}

fn app_page(words: &'static Words, back: &Back, session: &str, reason: Option<&str>) -> Page {
    Page::new(words, words.add_factor).reason(reason).text(words.how_app).form(
        "/auth/pages/enrol/confirm",
        words.go_on,
        &[
            Field::code(words.code),
            Field::hidden("csrf_token", &csrf_token(session)),
            Field::hidden("return_to", back.path()),
        ],
    )
}

/// Leads on. Not by a redirect: a form that ends on another host after some would be stopped by our own `form-action`.
fn go_on(words: &'static Words, back: &Back) -> Response {
    Page::new(words, words.signed_in).forward(back.path()).link(words.go_on, back.path()).answer(StatusCode::OK)
}

/// A page that leads to another host, for an answer to a form.
pub(crate) fn lead_on(visitor: &Visitor, to: &str) -> Response {
    let words = words(visitor);
    Page::new(words, words.go_on).forward(to).link(words.go_on, to).answer(StatusCode::OK)
}

/// The page again, with what was wrong; what is not about the form is a problem as everywhere.
fn refuse(refusal: Refusal, words: &'static Words, page: impl FnOnce(Option<&str>) -> Page) -> Response {
    let reason = words.about(&refusal).unwrap_or(words.failed);
    let problem = Problem::from(refusal);
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = page(Some(reason)).answer(status);
    if let Some(seconds) = problem.retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

fn with<const N: usize>(headers: [(HeaderName, HeaderValue); N], mut response: Response) -> Response {
    for (name, value) in headers {
        response.headers_mut().append(name, value);
    }
    response
}

/// The words in the language that the browser likes best of those that we have.
fn words(visitor: &Visitor) -> &'static Words {
    let accepted = visitor.headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let tags = accepted.split(',').map(|entry| entry.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let known = tags.filter_map(|tag| match tag.split('-').next() {
        Some("de") => Some(Language::De),
        Some("en") => Some(Language::En),
        _ => None,
    });
    Words::of(known.into_iter().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_to_another_site() {
        for ours in ["/", "/oauth/authorize?client_id=a&redirect_uri=https%3A%2F%2Fchat.example%2F", "/a//b"] {
            assert!(is_local(ours), "{ours}");
        }
        for foreign in [
            "",
            "https://evil.example/",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "javascript:alert(1)",
            "evil.example",
        ] {
            assert!(!is_local(foreign), "{foreign:?}");
        }
    }
}
