//! The pages that letters lead to who is to become a user: choose a name and a password.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use cfr_billing::identity::UserStatus;
use cfr_core::secret::Secret;
use serde::Deserialize;

use super::html::{Field, Page};
use super::words::Words;
use super::{Desk, refuse, words};
use crate::people::join::Newcomer;
use crate::people::routes::Ours;
use crate::people::{People, Visitor};

const INVITATION: &str = "/auth/pages/invitation";
const VERIFY_EMAIL: &str = "/auth/pages/verify-email";

/// What a letter's link has.
#[derive(Debug, Default, Deserialize)]
struct Link {
    #[serde(default)]
    token: String,
}

#[derive(Debug, Deserialize)]
struct JoinForm {
    token: String,
    name: String,
    password: Secret,
}

/// The pages, and what their forms are sent to.
pub(super) fn routes() -> Router<Arc<People>> {
    Router::new()
        .route("/invitation", get(async |link, visitor| ask(INVITATION, link, &visitor)))
        .route("/verify-email", get(async |link, visitor| ask(VERIFY_EMAIL, link, &visitor)))
        .route("/pages/invitation", post(accept))
        .route("/pages/verify-email", post(verify))
}

/// Looking uses nothing up: programs that check the links of letters look, too.
fn ask(action: &'static str, Query(link): Query<Link>, visitor: &Visitor) -> Response {
    page(words(visitor), action, &link.token, None).answer(StatusCode::OK)
}

async fn accept(State(people): Desk, Ours(visitor): Ours, Form(form): Form<JoinForm>) -> Response {
    let (words, token) = (words(&visitor), form.token.clone());
    match people.accept_invitation(&visitor, &token, &form.into()).await {
        Ok(user) => joined(words, user.status),
        Err(refusal) => refuse(refusal, words, |reason| page(words, INVITATION, &token, reason)),
    }
}

async fn verify(State(people): Desk, Ours(visitor): Ours, Form(form): Form<JoinForm>) -> Response {
    let (words, token) = (words(&visitor), form.token.clone());
    match people.verify_sign_up(&visitor, &token, &form.into()).await {
        Ok(user) => joined(words, user.status),
        Err(refusal) => refuse(refusal, words, |reason| page(words, VERIFY_EMAIL, &token, reason)),
    }
}

impl From<JoinForm> for Newcomer {
    fn from(form: JoinForm) -> Self {
        Self { name: form.name.trim().into(), password: form.password, locale: None }
    }
}

fn joined(words: &'static Words, status: UserStatus) -> Response {
    let page = Page::new(words, words.done);
    let page = match status {
        UserStatus::Active => page.link(words.sign_in, "/auth/sign-in"),
        _ => page.text(words.waits),
    };
    page.answer(StatusCode::CREATED)
}

fn page(words: &'static Words, action: &str, token: &str, reason: Option<&str>) -> Page {
    Page::new(words, words.join).reason(reason).text(words.how_password).form(
        action,
        words.go_on,
        &[Field::name(words.name), Field::new_password(words.new_password), Field::hidden("token", token)],
    )
}
