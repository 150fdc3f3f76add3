//! Every path under `/auth`. A change of somebody who is signed in takes the token of their session as well as its cookie.

use std::sync::Arc;

use axum::Json as Answer;
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, State};
use axum::http::header::{CACHE_CONTROL, REFERRER_POLICY, SET_COOKIE, STRICT_TRANSPORT_SECURITY};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use cfr_billing::people::SignedIn;
use cfr_core::id::SessionId;
use cfr_core::secret::Secret;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::browser::{check_browser, check_origin, csrf_token};
use super::session::{Opened, had_factors};
use super::setup::NewAdmin;
use super::sign_in::{Entered, HALF_LASTS};
use super::view::{
    Address, AppSeed, ChangePassword, ChangeProfile, Code, Ended, Factors, Join, Joined, Me, MySession, MySessions,
    MyUser, Proof, RecoveryCodes, Renewed, ResetPassword, SetUp, SignIn, SignInState, SignUp, Token,
};
use super::{People, Refusal, Visitor, cookie, page};
use crate::api::input::{Checks, Json};
use crate::api::problem::{Problem, Problems};
use crate::auth::access::Access;

/// Where the router is mounted.
pub const BASE_PATH: &str = "/auth";
/// Paths for who is not signed in, or cannot.
pub const OPEN: [&str; 13] = [
    "/sign-in",
    "/sign-in/passkey/begin",
    "/sign-in/passkey",
    "/second-factor",
    "/second-factor/passkey/begin",
    "/second-factor/passkey",
    "/email/confirm",
    "/password-reset",
    "/password-reset/confirm",
    "/setup",
    "/invitations/accept",
    "/sign-up",
    "/verify-email",
];
/// A body of any of these paths.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// What keeps other sites from embedding us or reading along, on every answer.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    // Our own forms still have to say where they come from.
    (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

pub(super) type Desk = State<Arc<People>>;

/// The router for these people.
pub fn router(people: Arc<People>) -> Router {
    let (router, _) = routes().split_for_parts();
    router
        .merge(page::routes())
        .fallback(async || Problem::not_found("path"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::map_response(guard))
        .with_state(people)
}

async fn guard(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Every route with its description.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<People>> {
    let routes = OpenApiRouter::default()
        .routes(routes!(sign_in))
        .routes(routes!(second_factor))
        .routes(routes!(step_up))
        .routes(routes!(session, sign_out))
        .routes(routes!(sessions, end_others))
        .routes(routes!(end_session))
        .routes(routes!(begin_app, remove_app))
        .routes(routes!(confirm_app))
        .routes(routes!(renew_recovery_codes))
        .routes(routes!(change_password))
        .routes(routes!(change_email))
        .routes(routes!(confirm_email))
        .routes(routes!(change_profile))
        .routes(routes!(ask_for_reset))
        .routes(routes!(reset_password))
        .routes(routes!(set_up))
        .routes(routes!(accept_invitation))
        .routes(routes!(sign_up))
        .routes(routes!(verify_email));
    #[cfg(feature = "passkeys")]
    let routes = routes.merge(super::passkeys::routes::routes());
    routes
}

/// Who is signed in, though they may still have to add a second factor.
pub(super) struct Entrant(pub(super) SignedIn);

/// Who is signed in with all that they need.
pub(super) struct Current(pub(super) SignedIn);

impl FromRequestParts<Arc<People>> for Entrant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, people: &Arc<People>) -> Result<Self, Problem> {
        let found = people.session_of(&parts.headers).await?.ok_or(Refusal::NotSignedIn)?;
        check_browser(&parts.method, &parts.headers)?;
        Ok(Self(found))
    }
}

impl FromRequestParts<Arc<People>> for Current {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, people: &Arc<People>) -> Result<Self, Problem> {
        let found = people.signed_in(&parts.headers).await?.ok_or(Refusal::NotSignedIn)?;
        check_browser(&parts.method, &parts.headers)?;
        Ok(Self(found))
    }
}

/// What somebody sends who is not signed in: no page of another site may send it for them.
pub(super) struct Ours(pub(super) Visitor);

impl FromRequestParts<Arc<People>> for Ours {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, people: &Arc<People>) -> Result<Self, Problem> {
        check_origin(&parts.headers)?;
        let Ok(visitor) = Visitor::from_request_parts(parts, people).await;
        Ok(Self(visitor))
    }
}

/// An answer to a browser whose session goes on under another secret.
pub(super) fn renewed<T: Serialize>(people: &People, opened: &Opened, body: T) -> Response {
    ([(SET_COOKIE, opened.cookie(people.now()))], Answer(body)).into_response()
}

pub(super) fn token_of(opened: &Opened) -> String {
    csrf_token(opened.secret.expose())
}

/// The cookies of somebody who got in: the half that they had is over.
pub(super) fn entered(people: &People, opened: &Opened) -> [(HeaderName, HeaderValue); 2] {
    [(SET_COOKIE, opened.cookie(people.now())), (SET_COOKIE, cookie::forget(cookie::HALF))]
}

/// The cookie of somebody who still has to present a second factor.
pub(super) fn half(secret: &Secret) -> [(HeaderName, HeaderValue); 1] {
    let seconds = i64::try_from(HALF_LASTS.as_secs()).unwrap_or_default();
    [(SET_COOKIE, cookie::keep(cookie::HALF, secret, seconds))]
}

pub(super) fn signed_in_state(people: &People, opened: &Opened) -> Response {
    let second_factor_needed = !had_factors(&opened.signed_in);
    let body = SignInState::SignedIn { csrf_token: token_of(opened), second_factor_needed };
    let mut response = Answer(body).into_response();
    for (name, value) in entered(people, opened) {
        response.headers_mut().append(name, value);
    }
    response
}

/// Sign in with an address and a password.
#[utoipa::path(post, path = "/sign-in", operation_id = "sign_in", tag = "people", request_body = SignIn,
    responses((status = 200, description = "Signed in, or a second factor is asked for", body = SignInState), Problems))]
async fn sign_in(State(people): Desk, Ours(visitor): Ours, Json(body): Json<SignIn>) -> Result<Response, Problem> {
    match people.sign_in(&visitor, &body.email, &body.password).await? {
        Entered::SignedIn(opened) => Ok(signed_in_state(&people, &opened)),
        Entered::Half { secret, passkey } => {
            Ok((half(&secret), Answer(SignInState::SecondFactorRequired { passkey })).into_response())
        }
    }
}

/// Present the second factor after the password.
#[utoipa::path(post, path = "/second-factor", operation_id = "present_second_factor", tag = "people", request_body = Code,
    responses((status = 200, description = "Signed in", body = SignInState), Problems))]
async fn second_factor(State(people): Desk, Ours(visitor): Ours, Json(body): Json<Code>) -> Result<Response, Problem> {
    let half = cookie::read(&visitor.headers, cookie::HALF).ok_or(Refusal::NotHalfSignedIn)?;
    let opened = people.second_factor(&visitor, half, &body.code).await?;
    Ok(signed_in_state(&people, &opened))
}

/// Prove again who is signed in: what is dangerous asks for a proof of the last five minutes.
#[utoipa::path(post, path = "/step-up", operation_id = "step_up", tag = "people", request_body = Proof,
    responses((status = 200, description = "Proved; the session has another cookie", body = Renewed), Problems))]
async fn step_up(
    State(people): Desk,
    visitor: Visitor,
    Entrant(me): Entrant,
    Json(body): Json<Proof>,
) -> Result<Response, Problem> {
    let opened = people.step_up(&visitor, me, body.password.as_ref(), body.code.as_deref()).await?;
    Ok(renewed(&people, &opened, Renewed { csrf_token: token_of(&opened) }))
}

/// Say who is signed in, what they may do and what they prove it with.
#[utoipa::path(get, path = "/session", operation_id = "show_own_session", tag = "people",
    responses((status = 200, description = "Who is signed in", body = Me), Problems))]
async fn session(State(people): Desk, visitor: Visitor, Entrant(me): Entrant) -> Result<Answer<Me>, Problem> {
    let credentials = people.credentials(&me).await?;
    let permissions = match had_factors(&me) {
        true => Access::of_session(&me).permissions.iter().map(|permission| permission.name()).collect(),
        false => Vec::new(),
    };
    Ok(Answer(Me {
        user: MyUser::of(&me),
        factors: Factors::of(&credentials, &me),
        permissions,
        csrf_token: csrf_token(cookie::read(&visitor.headers, cookie::SESSION).unwrap_or_default()),
        session: MySession::of(me.session.clone(), me.session.id),
    }))
}

/// Sign out.
#[utoipa::path(delete, path = "/session", operation_id = "sign_out", tag = "people",
    responses((status = 204, description = "Signed out"), Problems))]
async fn sign_out(State(people): Desk, visitor: Visitor, Entrant(me): Entrant) -> Result<Response, Problem> {
    people.end_session(&visitor, &me, me.session.id).await?;
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, cookie::forget(cookie::SESSION))]).into_response())
}

/// List the browsers that are signed in.
#[utoipa::path(get, path = "/sessions", operation_id = "list_own_sessions", tag = "people",
    responses((status = 200, description = "The newest first", body = MySessions), Problems))]
async fn sessions(State(people): Desk, Current(me): Current) -> Result<Answer<MySessions>, Problem> {
    let sessions = people.sessions_of(&me).await?;
    let items = sessions.into_iter().map(|session| MySession::of(session, me.session.id)).collect();
    Ok(Answer(MySessions { items }))
}

/// Sign all other browsers out.
#[utoipa::path(delete, path = "/sessions", operation_id = "end_other_sessions", tag = "people",
    responses((status = 200, description = "How many were signed out", body = Ended), Problems))]
async fn end_others(State(people): Desk, visitor: Visitor, Current(me): Current) -> Result<Answer<Ended>, Problem> {
    Ok(Answer(Ended { ended: people.end_others(&visitor, &me).await? }))
}

/// Sign one browser out.
#[utoipa::path(delete, path = "/sessions/{session}", operation_id = "end_own_session", tag = "people",
    params(("session" = String, Path, description = "Its id")),
    responses((status = 204, description = "Signed out"), Problems))]
async fn end_session(
    State(people): Desk,
    visitor: Visitor,
    Current(me): Current,
    Path(session): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = session.parse::<SessionId>().map_err(|_| Problem::not_found("session"))?;
    people.end_session(&visitor, &me, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Begin with an app that shows codes. It protects nothing until a code of it is confirmed.
#[utoipa::path(post, path = "/factors/totp", operation_id = "begin_totp", tag = "people",
    responses((status = 200, description = "What the app needs, shown once", body = AppSeed), Problems))]
async fn begin_app(State(people): Desk, visitor: Visitor, Entrant(me): Entrant) -> Result<Answer<AppSeed>, Problem> {
    let begun = people.begin_app(&visitor, &me).await?;
    Ok(Answer(AppSeed { url: begun.url.expose().to_owned(), secret: begun.typed.expose().to_owned() }))
}

/// Take the app into use with a code of it. Every other browser is signed out.
#[utoipa::path(post, path = "/factors/totp/confirm", operation_id = "confirm_totp", tag = "people", request_body = Code,
    responses((status = 200, description = "Recovery codes, shown once", body = RecoveryCodes), Problems))]
async fn confirm_app(
    State(people): Desk,
    visitor: Visitor,
    Entrant(me): Entrant,
    Json(body): Json<Code>,
) -> Result<Response, Problem> {
    let (opened, codes) = people.confirm_app(&visitor, me, &body.code).await?;
    let body = RecoveryCodes { recovery_codes: shown(&codes), csrf_token: token_of(&opened) };
    Ok(renewed(&people, &opened, body))
}

/// Remove the app; with the last second factor the recovery codes go, too. Every other browser is signed out.
#[utoipa::path(delete, path = "/factors/totp", operation_id = "remove_totp", tag = "people",
    responses((status = 200, description = "Removed; the session has another cookie", body = Renewed), Problems))]
async fn remove_app(State(people): Desk, visitor: Visitor, Current(me): Current) -> Result<Response, Problem> {
    let opened = people.remove_app(&visitor, me).await?;
    Ok(renewed(&people, &opened, Renewed { csrf_token: token_of(&opened) }))
}

/// Make new recovery codes; those before are void.
#[utoipa::path(post, path = "/factors/recovery-codes", operation_id = "renew_recovery_codes", tag = "people",
    responses((status = 200, description = "Recovery codes, shown once", body = RecoveryCodes), Problems))]
async fn renew_recovery_codes(
    State(people): Desk,
    visitor: Visitor,
    Current(me): Current,
) -> Result<Answer<RecoveryCodes>, Problem> {
    let codes = people.renew_recovery_codes(&visitor, &me).await?;
    let session = cookie::read(&visitor.headers, cookie::SESSION).unwrap_or_default();
    Ok(Answer(RecoveryCodes { recovery_codes: shown(&codes), csrf_token: csrf_token(session) }))
}

pub(super) fn shown(codes: &[Secret]) -> Vec<String> {
    codes.iter().map(|code| code.expose().to_owned()).collect()
}

/// Set another password. Every other browser is signed out.
#[utoipa::path(put, path = "/password", operation_id = "change_own_password", tag = "people", request_body = ChangePassword,
    responses((status = 200, description = "Set; the session has another cookie", body = Renewed), Problems))]
async fn change_password(
    State(people): Desk,
    visitor: Visitor,
    Current(me): Current,
    Json(body): Json<ChangePassword>,
) -> Result<Response, Problem> {
    let opened = people.change_password(&visitor, me, body.current_password.as_ref(), &body.password).await?;
    Ok(renewed(&people, &opened, Renewed { csrf_token: token_of(&opened) }))
}

/// Ask for another address: a letter to it brings a link.
#[utoipa::path(put, path = "/email", operation_id = "change_own_email", tag = "people", request_body = Address,
    responses((status = 202, description = "A letter is on its way, if nobody has the address"), Problems))]
async fn change_email(
    State(people): Desk,
    visitor: Visitor,
    Current(me): Current,
    Json(body): Json<Address>,
) -> Result<StatusCode, Problem> {
    let email = body.email.trim();
    let mut checks = Checks::default();
    checks.email("email", email);
    checks.finish()?;
    people.begin_email_change(&visitor, &me, email).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Prove the new address with the token of the letter.
#[utoipa::path(post, path = "/email/confirm", operation_id = "confirm_own_email", tag = "people", request_body = Token,
    responses((status = 204, description = "The address is theirs"), Problems))]
async fn confirm_email(
    State(people): Desk,
    Ours(visitor): Ours,
    Json(body): Json<Token>,
) -> Result<StatusCode, Problem> {
    people.confirm_email_change(&visitor, &body.token).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Change the name or the language.
#[utoipa::path(patch, path = "/profile", operation_id = "change_own_profile", tag = "people", request_body = ChangeProfile,
    responses((status = 200, description = "The user", body = MyUser), Problems))]
async fn change_profile(
    State(people): Desk,
    visitor: Visitor,
    Current(me): Current,
    Json(body): Json<ChangeProfile>,
) -> Result<Answer<MyUser>, Problem> {
    let mut checks = Checks::default();
    body.name.iter().for_each(|name| checks.name("name", name));
    checks.finish()?;
    let user = people.change_profile(&visitor, &me, body.name.map(Into::into), body.locale).await?;
    Ok(Answer(MyUser::of(&SignedIn { user, ..me })))
}

/// Ask for a letter to set a new password. The answer is the same whoever asks.
#[utoipa::path(post, path = "/password-reset", operation_id = "ask_for_password_reset", tag = "people",
    request_body = Address,
    responses((status = 202, description = "A letter is on its way, if somebody has the address"), Problems))]
async fn ask_for_reset(
    State(people): Desk,
    Ours(visitor): Ours,
    Json(body): Json<Address>,
) -> Result<StatusCode, Problem> {
    people.ask_for_reset(&visitor, &body.email).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Set a new password with the token of the letter. Every browser is signed out.
#[utoipa::path(post, path = "/password-reset/confirm", operation_id = "reset_password", tag = "people",
    request_body = ResetPassword,
    responses((status = 204, description = "Set: sign in with it"), Problems))]
async fn reset_password(
    State(people): Desk,
    Ours(visitor): Ours,
    Json(body): Json<ResetPassword>,
) -> Result<StatusCode, Problem> {
    people.reset_password(&visitor, &body.token, &body.password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Make the first administrator with the token that the server printed at its start.
#[utoipa::path(post, path = "/setup", operation_id = "set_up", tag = "people", request_body = SetUp,
    responses((status = 204, description = "Made: sign in, and add a second factor"), Problems))]
async fn set_up(State(people): Desk, Ours(visitor): Ours, Json(body): Json<SetUp>) -> Result<StatusCode, Problem> {
    let mut checks = Checks::default();
    checks.email("email", &body.email);
    checks.name("name", &body.name);
    checks.finish()?;
    let new = NewAdmin { email: body.email.into(), name: body.name.into(), password: body.password };
    people.set_up(&visitor, &body.token, &new).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Accept an invitation: choose a name and a password.
#[utoipa::path(post, path = "/invitations/accept", operation_id = "accept_invitation", tag = "people", request_body = Join,
    responses((status = 201, description = "An active user: sign in", body = Joined), Problems))]
async fn accept_invitation(
    State(people): Desk,
    Ours(visitor): Ours,
    Json(body): Json<Join>,
) -> Result<(StatusCode, Answer<Joined>), Problem> {
    let (token, new) = body.parts();
    let user = people.accept_invitation(&visitor, token.expose(), &new).await?;
    Ok((StatusCode::CREATED, Answer(Joined::of(&user))))
}

/// Sign up at a tenant. The answer is the same whoever has the address: a letter says how to go on.
#[utoipa::path(post, path = "/sign-up", operation_id = "sign_up", tag = "people", request_body = SignUp,
    responses((status = 202, description = "A letter is on its way"), Problems))]
async fn sign_up(State(people): Desk, Ours(visitor): Ours, Json(body): Json<SignUp>) -> Result<StatusCode, Problem> {
    let email = body.email.trim();
    let mut checks = Checks::default();
    checks.email("email", email);
    checks.finish()?;
    people.sign_up(&visitor, &body.tenant, email, body.locale).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Prove the address of a sign-up with the token of the letter, and choose a name and a password.
#[utoipa::path(post, path = "/verify-email", operation_id = "verify_email", tag = "people", request_body = Join,
    responses((status = 201, description = "A user: one who waits for an administrator, or an active one", body = Joined),
        Problems))]
async fn verify_email(
    State(people): Desk,
    Ours(visitor): Ours,
    Json(body): Json<Join>,
) -> Result<(StatusCode, Answer<Joined>), Problem> {
    let (token, new) = body.parts();
    let user = people.verify_sign_up(&visitor, token.expose(), &new).await?;
    Ok((StatusCode::CREATED, Answer(Joined::of(&user))))
}
