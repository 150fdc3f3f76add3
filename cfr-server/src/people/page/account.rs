//! The page of what somebody signs in with: their passkeys, and accounts at other providers. It asks for a proof first, as what
//! is dangerous does everywhere.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use cfr_billing::people::{Credentials, Passkey, SignedIn};
use cfr_core::secret::Secret;
use serde::Deserialize;

use super::html::{Field, Page};
use super::words::Words;
use super::{
    ACCOUNT, Back, Desk, add_passkey, ask_passkey, must_enrol_page, own_session, password_page, refuse, with, words,
};
use crate::api::problem::Problem;
use crate::people::browser::csrf_token;
use crate::people::routes::entered;
use crate::people::session::had_factors;
use crate::people::{Door, People, Refusal, Visitor, cookie, require_recent_proof};

#[derive(Debug, Deserialize)]
struct ProofForm {
    csrf_token: String,
    password: Option<Secret>,
    code: Option<String>,
}

/// The paths of the page.
pub(super) fn routes() -> Router<Arc<People>> {
    let routes = Router::new().route("/account", get(show)).route("/pages/prove", post(prove));
    #[cfg(feature = "passkeys")]
    let routes = routes.merge(changes::routes());
    routes
}

async fn show(State(people): Desk, visitor: Visitor) -> Result<Response, Problem> {
    let words = words(&visitor);
    let back = Back { return_to: ACCOUNT.into() };
    let Some(me) = people.session_of(&visitor.headers).await? else {
        return Ok(password_page(&people, words, &back, None).answer(StatusCode::OK));
    };
    let session = cookie::read(&visitor.headers, cookie::SESSION).unwrap_or_default();
    if !had_factors(&me) {
        return Ok(must_enrol_page(&people, words, &back, session).answer(StatusCode::OK));
    }
    page_of(&people, words, &me, session, None).await
}

/// What they sign in with; how they prove who they are, when that was too long ago.
async fn page_of(
    people: &People,
    words: &'static Words,
    me: &SignedIn,
    session: &str,
    reason: Option<&str>,
) -> Result<Response, Problem> {
    let (credentials, token) = (people.credentials(me).await?, csrf_token(session));
    let page = match require_recent_proof(me, people.now()) {
        Ok(()) => account_page(people, words, &credentials, &token),
        Err(_) => proof_page(people, words, &credentials, &token, reason),
    };
    Ok(page.answer(StatusCode::OK))
}

async fn prove(State(people): Desk, visitor: Visitor, Form(form): Form<ProofForm>) -> Result<Response, Problem> {
    let words = words(&visitor);
    let session = own_session(&visitor, &form.csrf_token)?;
    let me = people.session_of(&visitor.headers).await?.ok_or(Refusal::NotSignedIn)?;
    let credentials = people.credentials(&me).await?;
    match people.step_up(&visitor, me, form.password.as_ref(), form.code.as_deref()).await {
        Ok(opened) => {
            let page = account_page(&people, words, &credentials, &csrf_token(opened.secret.expose()));
            Ok(with(entered(&people, &opened), page.answer(StatusCode::OK)))
        }
        Err(refusal) => {
            let again = |reason: Option<&str>| proof_page(&people, words, &credentials, &csrf_token(session), reason);
            Ok(refuse(refusal, words, again))
        }
    }
}

fn proof_page(
    people: &People,
    words: &'static Words,
    credentials: &Credentials,
    token: &str,
    reason: Option<&str>,
) -> Page {
    let mut fields = vec![Field::hidden("csrf_token", token)];
    fields.extend(credentials.password.is_some().then(|| Field::password(words.password)));
    fields.extend(credentials.has_second_factor().then(|| Field::code(words.code)));
    let page = Page::new(words, words.prove).reason(reason).text(words.why_prove);
    let page = page.form("/auth/pages/prove", words.go_on, &fields);
    match people.has_passkey(credentials) {
        true => page.passkey(&ask_passkey(words.use_passkey, "/auth/step-up/passkey", token, ACCOUNT)),
        false => page,
    }
}

fn account_page(people: &People, words: &'static Words, credentials: &Credentials, token: &str) -> Page {
    let page = Page::new(words, words.account);
    let page = match people.takes_passkeys() {
        true => passkeys(page.part(words.passkeys), words, credentials, token),
        false => page,
    };
    let link = |page: Page, door: &Door| page.form(&format!("{}/link", door.path), &words.link_with(&door.name), &[]);
    match people.doors() {
        [] => page,
        doors => doors.iter().fold(page.part(words.other_accounts), link),
    }
}

fn passkeys(page: Page, words: &'static Words, credentials: &Credentials, token: &str) -> Page {
    let one = |page: Page, passkey: &Passkey| {
        let [token, id] = [Field::hidden("csrf_token", token), Field::hidden("passkey", &passkey.id)];
        let name = Field::named(words.passkey_name, &passkey.name);
        page.form("/auth/pages/passkeys/rename", words.rename, &[name, token, id]).form(
            "/auth/pages/passkeys/remove",
            words.remove,
            &[token, id],
        )
    };
    credentials.passkeys.iter().fold(page, one).passkey(&add_passkey(words, token, ACCOUNT))
}

/// What changes passkeys that are there.
#[cfg(feature = "passkeys")]
mod changes {
    use super::*;
    use crate::api::input::Checks;

    #[derive(Debug, Deserialize)]
    struct PasskeyForm {
        csrf_token: String,
        passkey: String,
        #[serde(default)]
        name: String,
    }

    pub(super) fn routes() -> Router<Arc<People>> {
        Router::new().route("/pages/passkeys/rename", post(rename)).route("/pages/passkeys/remove", post(remove))
    }

    async fn rename(State(people): Desk, visitor: Visitor, Form(form): Form<PasskeyForm>) -> Result<Response, Problem> {
        let session = own_session(&visitor, &form.csrf_token)?;
        let me = people.signed_in(&visitor.headers).await?.ok_or(Refusal::NotSignedIn)?;
        let mut checks = Checks::default();
        checks.name("name", &form.name);
        checks.finish()?;
        people.rename_passkey(&visitor, &me, &form.passkey, &form.name).await?;
        page_of(&people, words(&visitor), &me, session, None).await
    }

    async fn remove(State(people): Desk, visitor: Visitor, Form(form): Form<PasskeyForm>) -> Result<Response, Problem> {
        let words = words(&visitor);
        let session = own_session(&visitor, &form.csrf_token)?;
        let me = people.signed_in(&visitor.headers).await?.ok_or(Refusal::NotSignedIn)?;
        if require_recent_proof(&me, people.now()).is_err() {
            return page_of(&people, words, &me, session, Some(words.why_prove)).await;
        }
        let opened = people.remove_passkey(&visitor, me, &form.passkey).await?;
        let page = page_of(&people, words, &opened.signed_in, opened.secret.expose(), None).await?;
        Ok(with(entered(&people, &opened), page))
    }
}
