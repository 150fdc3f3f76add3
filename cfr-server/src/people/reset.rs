//! A forgotten password: a letter to the address brings a link that sets a new one. A second factor stays what it is.

use std::time::Duration;

use cfr_billing::audit_log::{Action, Event};
use cfr_billing::identity::UserStatus;
use cfr_billing::people::TokenKind;
use cfr_core::secret::Secret;
use serde_json::json;

use super::account::token_of;
use super::attempts::What;
use super::password::{self, Whose};
use super::{People, Refusal, Visitor, secret};
use crate::mail::Template;

/// How long the link works.
pub const RESET_LASTS: Duration = Duration::from_mins(30);
/// Of whom an address is not.
const NOBODY: &str = "nobody";

impl People {
    /// Sends a link to whoever has this address. Nobody learns whether somebody has it, nor who asks too often.
    ///
    /// # Errors
    /// [`Refusal::Throttled`] for a network, whatever the address; when the store fails.
    pub async fn ask_for_reset(&self, visitor: &Visitor, email: &str) -> Result<(), Refusal> {
        self.attempts.admit(visitor.address).await?;
        let email = email.trim();
        if self.attempts.begin(What::Letter, email).is_err() {
            return Ok(()); // there is a letter on its way
        }
        let known = self.store.user_by_email(email).await?;
        let lives = |status: UserStatus| matches!(status, UserStatus::Active | UserStatus::Pending);
        match known.filter(|user| lives(user.status)) {
            Some(user) => self.send_reset(visitor, &user).await,
            None => {
                let changes = json!({ "reason": "reset_for_unknown" }).to_string().into();
                let event = Event { action: Action::SessionRefused, tenant: None, target: NOBODY.into(), changes };
                Ok(self.store.record(&event, &visitor.act(None, self.now())).await?)
            }
        }
    }

    /// Sends a link to a user: also what an administrator does, who never chooses a password for somebody.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn send_reset(&self, visitor: &Visitor, user: &cfr_billing::identity::User) -> Result<(), Refusal> {
        let now = self.now();
        let tenant = self.store.tenant(user.tenant).await?;
        let epoch = self.store.credentials(user.id).await?.epoch;
        let (text, hash) = secret::generate();
        let token = token_of(TokenKind::ResetPassword, user, epoch, hash, now, RESET_LASTS);
        let values = json!({ "name": user.name, "token": text.expose() });
        let letter = self.letter(user, &tenant, &user.email, Template::ResetPassword, &values).await?;
        Ok(self.store.issue_token(&token, Some(&letter), &visitor.act(None, now)).await?)
    }

    /// Sets the password of who got the letter. Every session ends; who has a second factor still needs it to sign in.
    ///
    /// # Errors
    /// [`Refusal::DeadToken`]; [`Refusal::Unfit`], after which the link still works.
    pub async fn reset_password(&self, visitor: &Visitor, token: &str, new: &Secret) -> Result<(), Refusal> {
        self.attempts.admit(visitor.address).await?;
        let hash = secret::hash_of(token).ok_or(Refusal::DeadToken)?;
        let now = self.now();
        let found = self.store.token(TokenKind::ResetPassword, &hash, now).await?.ok_or(Refusal::DeadToken)?;
        let user = self.store.user(found.user.ok_or(Refusal::DeadToken)?).await?;
        let tenant = self.store.tenant(user.tenant).await?;
        let credentials = self.store.credentials(user.id).await?;
        password::judge(&password::prepare(new), &Whose::of(&user, &tenant), credentials.has_second_factor())?;
        let taken = self.store.take_token(TokenKind::ResetPassword, &hash, now).await?.ok_or(Refusal::DeadToken)?;
        self.set_password(visitor, &user, taken.epoch, new).await.map(drop)
    }
}
