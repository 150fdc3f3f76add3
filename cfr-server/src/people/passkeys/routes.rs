//! The paths of passkeys. Each way to use one has two: one gives the challenge, the other takes the answer.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::{Path, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use cfr_billing::people::Passkey;
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use webauthn_rs::prelude::{PublicKeyCredential, RegisterPublicKeyCredential};

use super::own::Added;
use super::{CHALLENGE_LASTS, Given};
use crate::api::input::{Checks, Json};
use crate::api::problem::{Problem, Problems};
use crate::api::schema;
use crate::people::routes::{Current, Desk, Entrant, Ours, renewed, shown, signed_in_state, token_of};
use crate::people::view::{Renewed, SignInState};
use crate::people::{People, Refusal, Visitor, cookie};

/// A challenge for an authenticator.
#[derive(Debug, Serialize, ToSchema)]
struct PasskeyChallenge {
    /// For `PublicKeyCredential.parseCreationOptionsFromJSON` or `parseRequestOptionsFromJSON`.
    #[schema(value_type = Object)]
    #[serde(rename = "publicKey")]
    public_key: Value,
}

/// A key that an authenticator made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPasskey {
    /// What it is called: `Phone`.
    #[schema(example = "Phone", max_length = 200)]
    name: String,
    /// What `navigator.credentials.create` gave, by its `toJSON`.
    #[schema(value_type = Object)]
    credential: RegisterPublicKeyCredential,
}

/// An answer of an authenticator.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PasskeyAnswer {
    /// What `navigator.credentials.get` gave, by its `toJSON`.
    #[schema(value_type = Object)]
    credential: PublicKeyCredential,
}

/// Another name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RenamePasskey {
    /// The name.
    #[schema(example = "Phone", max_length = 200)]
    name: String,
}

/// A passkey of who is signed in.
#[derive(Debug, Serialize, ToSchema)]
struct MyPasskey {
    /// The authenticator's id for it, base64url.
    #[schema(value_type = String)]
    id: Arc<str>,
    /// What it is called.
    #[schema(value_type = String)]
    name: Arc<str>,
    /// When it was added.
    #[schema(value_type = schema::Time)]
    created_at: Timestamp,
    /// When it was last used.
    #[schema(value_type = Option<schema::Time>)]
    used_at: Option<Timestamp>,
}

/// The passkeys of who is signed in.
#[derive(Debug, Serialize, ToSchema)]
struct MyPasskeys {
    /// In the order in which they were added.
    items: Vec<MyPasskey>,
}

/// A passkey that was added.
#[derive(Debug, Serialize, ToSchema)]
struct AddedPasskey {
    /// The passkey.
    passkey: MyPasskey,
    /// Recovery codes, shown once, for who had no second factor before; else empty.
    recovery_codes: Vec<String>,
    /// The token of the session from now on.
    csrf_token: String,
}

impl From<Passkey> for MyPasskey {
    fn from(passkey: Passkey) -> Self {
        let Passkey { id, name, credential: _, created_at, used_at } = passkey;
        Self { id, name, created_at, used_at }
    }
}

/// Every route with its description.
pub(in crate::people) fn routes() -> OpenApiRouter<Arc<People>> {
    OpenApiRouter::default()
        .routes(routes!(begin_sign_in))
        .routes(routes!(sign_in))
        .routes(routes!(begin_second_factor))
        .routes(routes!(second_factor))
        .routes(routes!(begin_step_up))
        .routes(routes!(step_up))
        .routes(routes!(begin))
        .routes(routes!(list, add))
        .routes(routes!(rename, remove))
}

/// A challenge with the cookie that finds it again.
fn given(given: Given) -> Response {
    let Given { mut options, secret } = given;
    let seconds = i64::try_from(CHALLENGE_LASTS.as_secs()).unwrap_or_default();
    let kept = [(SET_COOKIE, cookie::keep(cookie::CHALLENGE, &secret, seconds))];
    let public_key = options.get_mut("publicKey").map(Value::take).unwrap_or_default();
    (kept, Answer(PasskeyChallenge { public_key })).into_response()
}

/// The challenge was answered.
fn answered(mut response: Response) -> Response {
    let (name, value): (HeaderName, _) = (SET_COOKIE, cookie::forget(cookie::CHALLENGE));
    response.headers_mut().append(name, value);
    response
}

/// Ask for a challenge to sign in with a passkey, without a name and a password.
#[utoipa::path(post, path = "/sign-in/passkey/begin", operation_id = "begin_passkey_sign_in", tag = "people",
    responses((status = 200, description = "For `navigator.credentials.get`", body = PasskeyChallenge), Problems))]
async fn begin_sign_in(State(people): Desk, Ours(visitor): Ours) -> Result<Response, Problem> {
    Ok(given(people.begin_passkey_sign_in(&visitor).await?))
}

/// Sign in with a passkey.
#[utoipa::path(post, path = "/sign-in/passkey", operation_id = "sign_in_with_passkey", tag = "people",
    request_body = PasskeyAnswer,
    responses((status = 200, description = "Signed in", body = SignInState), Problems))]
async fn sign_in(
    State(people): Desk,
    Ours(visitor): Ours,
    Json(body): Json<PasskeyAnswer>,
) -> Result<Response, Problem> {
    let opened = people.sign_in_with_passkey(&visitor, &body.credential).await?;
    Ok(answered(signed_in_state(&people, &opened)))
}

/// Ask for a challenge to present a passkey after the password.
#[utoipa::path(post, path = "/second-factor/passkey/begin", operation_id = "begin_passkey_factor", tag = "people",
    responses((status = 200, description = "For `navigator.credentials.get`", body = PasskeyChallenge), Problems))]
async fn begin_second_factor(State(people): Desk, Ours(visitor): Ours) -> Result<Response, Problem> {
    let half = cookie::read(&visitor.headers, cookie::HALF).ok_or(Refusal::NotHalfSignedIn)?;
    Ok(given(people.begin_passkey_factor(&visitor, half).await?))
}

/// Present a passkey after the password.
#[utoipa::path(post, path = "/second-factor/passkey", operation_id = "present_passkey", tag = "people",
    request_body = PasskeyAnswer,
    responses((status = 200, description = "Signed in", body = SignInState), Problems))]
async fn second_factor(
    State(people): Desk,
    Ours(visitor): Ours,
    Json(body): Json<PasskeyAnswer>,
) -> Result<Response, Problem> {
    let half = cookie::read(&visitor.headers, cookie::HALF).ok_or(Refusal::NotHalfSignedIn)?;
    let opened = people.passkey_factor(&visitor, half, &body.credential).await?;
    Ok(answered(signed_in_state(&people, &opened)))
}

/// Ask for a challenge to prove again who is signed in.
#[utoipa::path(post, path = "/step-up/passkey/begin", operation_id = "begin_passkey_step_up", tag = "people",
    responses((status = 200, description = "For `navigator.credentials.get`", body = PasskeyChallenge), Problems))]
async fn begin_step_up(State(people): Desk, visitor: Visitor, Entrant(me): Entrant) -> Result<Response, Problem> {
    Ok(given(people.begin_passkey_proof(&visitor, &me).await?))
}

/// Prove again with a passkey who is signed in. It stands for the password and the code.
#[utoipa::path(post, path = "/step-up/passkey", operation_id = "step_up_with_passkey", tag = "people",
    request_body = PasskeyAnswer,
    responses((status = 200, description = "Proved; the session has another cookie", body = Renewed), Problems))]
async fn step_up(
    State(people): Desk,
    visitor: Visitor,
    Entrant(me): Entrant,
    Json(body): Json<PasskeyAnswer>,
) -> Result<Response, Problem> {
    let opened = people.prove_with_passkey(&visitor, me, &body.credential).await?;
    Ok(answered(renewed(&people, &opened, Renewed { csrf_token: token_of(&opened) })))
}

/// Ask for a challenge to add a passkey.
#[utoipa::path(post, path = "/factors/passkeys/begin", operation_id = "begin_passkey", tag = "people",
    responses((status = 200, description = "For `navigator.credentials.create`", body = PasskeyChallenge), Problems))]
async fn begin(State(people): Desk, visitor: Visitor, Entrant(me): Entrant) -> Result<Response, Problem> {
    Ok(given(people.begin_passkey(&visitor, &me).await?))
}

/// Add a passkey. Every other browser is signed out.
#[utoipa::path(post, path = "/factors/passkeys", operation_id = "add_passkey", tag = "people", request_body = NewPasskey,
    responses((status = 201, description = "Added; the session has another cookie", body = AddedPasskey), Problems))]
async fn add(
    State(people): Desk,
    visitor: Visitor,
    Entrant(me): Entrant,
    Json(body): Json<NewPasskey>,
) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    checks.name("name", &body.name);
    checks.finish()?;
    let Added { opened, passkey, recovery_codes } =
        people.add_passkey(&visitor, me, &body.name, &body.credential).await?;
    let csrf_token = token_of(&opened);
    let body = AddedPasskey { passkey: passkey.into(), recovery_codes: shown(&recovery_codes), csrf_token };
    Ok(answered((StatusCode::CREATED, renewed(&people, &opened, body)).into_response()))
}

/// List the passkeys.
#[utoipa::path(get, path = "/factors/passkeys", operation_id = "list_own_passkeys", tag = "people",
    responses((status = 200, description = "The passkeys", body = MyPasskeys), Problems))]
async fn list(State(people): Desk, Current(me): Current) -> Result<Answer<MyPasskeys>, Problem> {
    let passkeys = people.credentials(&me).await?.passkeys;
    Ok(Answer(MyPasskeys { items: passkeys.into_iter().map(MyPasskey::from).collect() }))
}

/// Give a passkey another name.
#[utoipa::path(patch, path = "/factors/passkeys/{passkey}", operation_id = "rename_passkey", tag = "people",
    params(("passkey" = String, Path, description = "Its id")), request_body = RenamePasskey,
    responses((status = 200, description = "The passkey", body = MyPasskey), Problems))]
async fn rename(
    State(people): Desk,
    visitor: Visitor,
    Current(me): Current,
    Path(passkey): Path<String>,
    Json(body): Json<RenamePasskey>,
) -> Result<Answer<MyPasskey>, Problem> {
    let mut checks = Checks::default();
    checks.name("name", &body.name);
    checks.finish()?;
    Ok(Answer(people.rename_passkey(&visitor, &me, &passkey, &body.name).await?.into()))
}

/// Remove a passkey. Every other browser is signed out.
#[utoipa::path(delete, path = "/factors/passkeys/{passkey}", operation_id = "remove_passkey", tag = "people",
    params(("passkey" = String, Path, description = "Its id")),
    responses((status = 200, description = "Removed; the session has another cookie", body = Renewed), Problems))]
async fn remove(
    State(people): Desk,
    visitor: Visitor,
    Current(me): Current,
    Path(passkey): Path<String>,
) -> Result<Response, Problem> {
    let opened = people.remove_passkey(&visitor, me, &passkey).await?;
    Ok(renewed(&people, &opened, Renewed { csrf_token: token_of(&opened) }))
}
