//! Pages that letters lead to. Opening one uses nothing up: programs that read mail open links, too.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use cfr_core::secret::Secret;
use serde::Deserialize;

use super::super::routes::Ours;
use super::super::{People, Visitor};
use super::html::{Field, Page};
use super::words::Words;
use super::{Desk, refuse, words};

/// The token of a letter.
#[derive(Debug, Deserialize)]
struct Link {
    token: String,
}

#[derive(Debug, Deserialize)]
struct AddressForm {
    email: String,
}

#[derive(Debug, Deserialize)]
struct PasswordForm {
    token: String,
    password: Secret,
}

/// The paths of these pages.
pub(super) fn routes() -> Router<Arc<People>> {
    Router::new()
        .route("/forgot-password", get(ask_address))
        .route("/pages/forgot-password", post(send_letter))
        .route("/reset-password", get(ask_new_password))
        .route("/pages/reset-password", post(set_password))
        .route("/confirm-email", get(ask_to_confirm))
        .route("/pages/confirm-email", post(confirm_email))
}

async fn ask_address(visitor: Visitor) -> Response {
    address_page(words(&visitor), None).answer(StatusCode::OK)
}

async fn send_letter(State(people): Desk, Ours(visitor): Ours, Form(form): Form<AddressForm>) -> Response {
    let words = words(&visitor);
    match people.ask_for_reset(&visitor, &form.email).await {
        Ok(()) => Page::new(words, words.forgot).text(words.letter_sent).answer(StatusCode::OK),
        Err(refusal) => refuse(refusal, words, |reason| address_page(words, reason)),
    }
}

async fn ask_new_password(Query(link): Query<Link>, visitor: Visitor) -> Response {
    new_password_page(words(&visitor), &link.token, None).answer(StatusCode::OK)
}

async fn set_password(State(people): Desk, Ours(visitor): Ours, Form(form): Form<PasswordForm>) -> Response {
    let words = words(&visitor);
    match people.reset_password(&visitor, &form.token, &form.password).await {
        Ok(()) => done(words),
        Err(refusal) => refuse(refusal, words, |reason| new_password_page(words, &form.token, reason)),
    }
}

async fn ask_to_confirm(Query(link): Query<Link>, visitor: Visitor) -> Response {
    confirm_page(words(&visitor), &link.token, None).answer(StatusCode::OK)
}

async fn confirm_email(State(people): Desk, Ours(visitor): Ours, Form(link): Form<Link>) -> Response {
    let words = words(&visitor);
    match people.confirm_email_change(&visitor, &link.token).await {
        Ok(_) => done(words),
        Err(refusal) => refuse(refusal, words, |reason| confirm_page(words, &link.token, reason)),
    }
}

fn done(words: &'static Words) -> Response {
    Page::new(words, words.done).link(words.sign_in, "/auth/sign-in").answer(StatusCode::OK)
}

fn address_page(words: &'static Words, reason: Option<&str>) -> Page {
    let page = Page::new(words, words.forgot).reason(reason).text(words.how_letter);
    page.form("/auth/pages/forgot-password", words.go_on, &[Field::email(words.email)])
}

fn new_password_page(words: &'static Words, token: &str, reason: Option<&str>) -> Page {
    let fields = [Field::new_password(words.new_password), Field::hidden("token", token)];
    let page = Page::new(words, words.new_password).reason(reason).text(words.how_password);
    page.form("/auth/pages/reset-password", words.go_on, &fields)
}

fn confirm_page(words: &'static Words, token: &str, reason: Option<&str>) -> Page {
    let page = Page::new(words, words.confirm_email).reason(reason);
    page.form("/auth/pages/confirm-email", words.confirm, &[Field::hidden("token", token)])
}
