//! What people change about themselves: their password, their address, their name.

use std::sync::Arc;
use std::time::Duration;

use cfr_billing::audit_log::{Action, Event};
use cfr_billing::identity::{Language, User, UserPatch};
use cfr_billing::people::{Credentials, OneTimeToken, SignedIn, TokenKind};
use cfr_core::id::TokenId;
use cfr_core::secret::Secret;
use cfr_core::time::Timestamp;
use serde_json::json;

use super::attempts::What;
use super::password::{self, Whose};
use super::session::Opened;
use super::{People, Refusal, Visitor, require_recent_proof, secret};
use crate::mail::{Change, Template};

/// How long the link works that proves a new address.
const CHANGE_EMAIL_LASTS: Duration = Duration::from_hours(24);

impl People {
    /// Sets another password. Who has one presents it; who has none proved shortly before who they are. Every other session
    /// ends, and a letter tells of it.
    ///
    /// # Errors
    /// [`Refusal::Unfit`]; [`Refusal::WrongCredentials`]; [`Refusal::StepUpRequired`]; [`Refusal::Throttled`].
    pub(super) async fn change_password(
        &self,
        visitor: &Visitor,
        signed_in: SignedIn,
        current: Option<&Secret>,
        new: &Secret,
    ) -> Result<Opened, Refusal> {
        let credentials = self.store.credentials(signed_in.user.id).await?;
        if credentials.password.is_some() {
            let attempt = self.begin(visitor, &signed_in).await?;
            self.check_password(visitor, &signed_in, current).await?;
            self.attempts.succeeded(&attempt);
        } else {
            require_recent_proof(&signed_in, self.now())?;
        }
        let whose = Whose::of(&signed_in.user, &signed_in.tenant);
        password::judge(&password::prepare(new), &whose, credentials.has_second_factor())?;
        let credentials = self.set_password(visitor, &signed_in.user, credentials.epoch, new).await?;
        self.reopen(visitor, signed_in, &credentials, &["pwd"]).await
    }

    /// Writes a password down and ends every session, if nothing was changed since `epoch`. A letter tells of it.
    pub(super) async fn set_password(
        &self,
        visitor: &Visitor,
        user: &User,
        epoch: i64,
        new: &Secret,
    ) -> Result<Credentials, Refusal> {
        let hash = self.hash_password(new).await?;
        let now = self.now();
        let event = Event::about(Action::PasswordChanged, user, &json!({}));
        let act = visitor.act(Some(user.id), now);
        let set = self.amend(user.id, &act, |credentials| {
            if credentials.epoch != epoch {
                return Err(Refusal::DeadToken);
            }
            credentials.password = Some(hash.clone());
            credentials.password_set_at = Some(now);
            (credentials.failures, credentials.failed_at) = (0, None);
            credentials.epoch += 1;
            Ok(((), Some(event.clone())))
        });
        let (credentials, ()) = set.await?;
        self.tell_of(user, Change::Password).await;
        Ok(credentials)
    }

    /// Sends a link to a new address, and word of it to the one so far. Whether somebody has that address already, the answer
    /// does not say.
    ///
    /// # Errors
    /// [`Refusal::StepUpRequired`]; [`Refusal::Throttled`].
    pub(super) async fn begin_email_change(
        &self,
        visitor: &Visitor,
        signed_in: &SignedIn,
        email: &str,
    ) -> Result<(), Refusal> {
        let now = self.now();
        require_recent_proof(signed_in, now)?;
        self.attempts.admit(visitor.address).await?;
        let _counted = self.attempts.begin(What::Letter, email)?;
        if self.store.user_by_email(email).await?.is_some() {
            return Ok(());
        }
        let SignedIn { user, tenant, epoch, .. } = signed_in;
        let (text, hash) = secret::generate();
        let token = OneTimeToken {
            email: Some(email.into()),
            ..token_of(TokenKind::ChangeEmail, user, *epoch, hash, now, CHANGE_EMAIL_LASTS)
        };
        let values = json!({ "name": user.name, "token": text.expose() });
        let letter = self.letter(user, tenant, email, Template::ChangeEmail, &values).await?;
        self.store.issue_token(&token, Some(&letter), &visitor.act(Some(user.id), now)).await?;
        let notice =
            self.letter(user, tenant, &user.email, Template::EmailChanging, &json!({ "name": user.name })).await?;
        Ok(self.store.queue_mail(&notice).await?)
    }

    /// Makes the address theirs that a link went to.
    ///
    /// # Errors
    /// [`Refusal::DeadToken`]; a conflict when somebody else has the address by now.
    pub(super) async fn confirm_email_change(&self, visitor: &Visitor, token: &str) -> Result<User, Refusal> {
        self.attempts.admit(visitor.address).await?;
        let hash = secret::hash_of(token).ok_or(Refusal::DeadToken)?;
        let now = self.now();
        let taken = self.store.take_token(TokenKind::ChangeEmail, &hash, now).await?.ok_or(Refusal::DeadToken)?;
        let (Some(user), Some(email)) = (taken.user, taken.email) else { return Err(Refusal::DeadToken) };
        Ok(self.store.verify_email(user, &email, &visitor.act(Some(user), now)).await?)
    }

    /// Changes the name or the language.
    pub(super) async fn change_profile(
        &self,
        visitor: &Visitor,
        signed_in: &SignedIn,
        name: Option<Arc<str>>,
        locale: Option<Language>,
    ) -> Result<User, Refusal> {
        let user = &signed_in.user;
        let patch = UserPatch { name, locale, ..UserPatch::default() };
        let act = visitor.act(Some(user.id), self.now());
        Ok(self.store.update_user(user.id, user.version, &patch, &act).await?)
    }
}

/// A secret about a user that works once.
pub(super) fn token_of(
    kind: TokenKind,
    user: &User,
    epoch: i64,
    hash: cfr_billing::people::SecretHash,
    now: Timestamp,
    lasts: Duration,
) -> OneTimeToken {
    OneTimeToken {
        id: TokenId::generate(now),
        hash,
        kind,
        tenant: Some(user.tenant),
        user: Some(user.id),
        epoch,
        email: None,
        offer: None,
        challenge: None,
        created_at: now,
        expires_at: now + lasts,
    }
}
