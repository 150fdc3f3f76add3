//! Who gets in: an address and a password, then a second factor where there is one.

use std::time::Duration;

use cfr_billing::audit_log::{Action, Event};
use cfr_billing::identity::{Tenant, User};
use cfr_billing::people::{Credentials, SecretHash, TokenKind};
use cfr_core::id::UserId;
use cfr_core::secret::Secret;
use cfr_core::time::Timestamp;
use serde_json::json;

use super::account::token_of;
use super::attempts::{Attempt, What, is_closed};
use super::codes::{self, Seed};
use super::hash::Match;
use super::session::{Opened, SECOND_FACTOR, check_active};
use super::{People, Refusal, Visitor, secret};
use crate::api::input::EMAIL_CHARS_MAX;
use crate::secrets::Place;

/// How long somebody who knew the password may take for the second factor.
pub const HALF_LASTS: Duration = Duration::from_mins(5);
/// The target of an event about an address that nobody has.
const NOBODY: &str = "nobody";

/// What came of an address and a password.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once per sign-in and taken apart at once")]
pub enum Entered {
    /// They are signed in.
    SignedIn(Opened),
    /// They still have to present a second factor.
    Half {
        /// What finds them again.
        secret: Secret,
        /// Whether they have a passkey for it.
        passkey: bool,
    },
}

/// Why somebody did not get in, for the audit log.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reason {
    WrongPassword,
    WrongCode,
    #[cfg(feature = "passkeys")]
    WrongPasskey,
    /// Its counter did not grow.
    #[cfg(feature = "passkeys")]
    CopiedPasskey,
    ClosedForNow,
    NotActive,
    Unknown,
}

impl Reason {
    const fn word(self) -> &'static str {
        match self {
            Self::WrongPassword => "wrong_password",
            Self::WrongCode => "wrong_code",
            #[cfg(feature = "passkeys")]
            Self::WrongPasskey => "wrong_passkey",
            #[cfg(feature = "passkeys")]
            Self::CopiedPasskey => "copied_passkey",
            Self::ClosedForNow => "closed_for_now",
            Self::NotActive => "not_active",
            Self::Unknown => "unknown",
        }
    }

    pub(super) fn event(self, user: &User) -> Event {
        Event::about(Action::SessionRefused, user, &json!({ "reason": self.word() }))
    }
}

impl People {
    /// Lets somebody in who knows an address and its password.
    ///
    /// # Errors
    /// [`Refusal::WrongCredentials`], whatever is wrong; [`Refusal::Throttled`]; for who proved who they are, why they may not
    /// sign in now.
    pub async fn sign_in(&self, visitor: &Visitor, email: &str, password: &Secret) -> Result<Entered, Refusal> {
        self.attempts.admit(visitor.address).await?;
        let email = email.trim();
        let attempt = self.attempts.begin(What::SignIn, email)?;
        let known = self.known(email).await?;
        let kept = known.as_ref().and_then(|(_, credentials)| credentials.password.clone());
        let found = match self.compare(password, kept).await {
            Err(error) => {
                self.attempts.forgive(&attempt);
                return Err(error);
            }
            Ok(found) => found,
        };
        match known {
            Some((user, credentials)) if found.is_match() && !is_closed(&credentials, self.now()) => {
                let outdated = (found == Match::Outdated).then_some(password);
                self.password_was_right(visitor, user, credentials, outdated, &attempt).await
            }
            Some((user, _)) => {
                self.count_failure(visitor, &user, Reason::WrongPassword).await?;
                Err(Refusal::WrongCredentials)
            }
            None => {
                self.refuse_unknown(visitor, Reason::Unknown).await?;
                Err(Refusal::WrongCredentials)
            }
        }
    }

    /// Tells of somebody who is nobody here.
    pub(super) async fn refuse_unknown(&self, visitor: &Visitor, reason: Reason) -> Result<(), Refusal> {
        let changes = json!({ "reason": reason.word() }).to_string().into();
        let event = Event { action: Action::SessionRefused, tenant: None, target: NOBODY.into(), changes };
        Ok(self.store.record(&event, &visitor.act(None, self.now())).await?)
    }

    /// The user with an address, and how they prove who they are.
    async fn known(&self, email: &str) -> Result<Option<(User, Credentials)>, Refusal> {
        if email.is_empty() || email.chars().nth(EMAIL_CHARS_MAX).is_some() {
            return Ok(None);
        }
        let Some(user) = self.store.user_by_email(email).await? else { return Ok(None) };
        let credentials = self.store.credentials(user.id).await?;
        Ok(Some((user, credentials)))
    }

    async fn password_was_right(
        &self,
        visitor: &Visitor,
        user: User,
        credentials: Credentials,
        outdated: Option<&Secret>,
        attempt: &Attempt,
    ) -> Result<Entered, Refusal> {
        let tenant = self.admissible(visitor, &user).await;
        self.attempts.forgive(attempt);
        let tenant = tenant?;
        if let Some(password) = outdated {
            self.hash_anew(visitor, user.id, &credentials, password).await?;
        }
        if credentials.has_second_factor() {
            let secret = self.half_signed_in(visitor, &user, &credentials).await?;
            return Ok(Entered::Half { secret, passkey: self.has_passkey(&credentials) });
        }
        let opened = self.enter(visitor, user, tenant, &["pwd"]).await?;
        self.attempts.succeeded(attempt);
        Ok(Entered::SignedIn(opened))
    }

    /// The tenant of a user who may sign in; of who may not, it is noted that they tried.
    pub(super) async fn admissible(&self, visitor: &Visitor, user: &User) -> Result<Tenant, Refusal> {
        let tenant = self.store.tenant(user.tenant).await?;
        if let Err(refusal) = check_active(user, &tenant) {
            let act = visitor.act(Some(user.id), self.now());
            self.store.record(&Reason::NotActive.event(user), &act).await?;
            return Err(refusal);
        }
        Ok(tenant)
    }

    /// Keeps a password, which was just presented, as passwords are kept today. Not when it was changed meanwhile.
    async fn hash_anew(
        &self,
        visitor: &Visitor,
        user: UserId,
        seen: &Credentials,
        password: &Secret,
    ) -> Result<(), Refusal> {
        let hash = self.hash_password(password).await?;
        let act = visitor.act(Some(user), self.now());
        let kept = self.amend(user, &act, |credentials| {
            if credentials.password == seen.password {
                credentials.password = Some(hash.clone());
            }
            Ok(((), None))
        });
        kept.await.map(drop)
    }

    /// What somebody who knew the password has until they present a second factor. It opens nothing else.
    async fn half_signed_in(
        &self,
        visitor: &Visitor,
        user: &User,
        credentials: &Credentials,
    ) -> Result<Secret, Refusal> {
        let now = self.now();
        let (secret, hash) = secret::generate();
        let token = token_of(TokenKind::SecondFactor, user, credentials.epoch, hash, now, HALF_LASTS);
        self.store.issue_token(&token, None, &visitor.act(Some(user.id), now)).await?;
        Ok(secret)
    }

    /// Lets somebody in who knew the password and has a second factor: a code of the app, or a recovery code.
    ///
    /// # Errors
    /// [`Refusal::NotHalfSignedIn`] when the password was too long ago; [`Refusal::WrongCode`]; [`Refusal::Throttled`].
    pub async fn second_factor(&self, visitor: &Visitor, half: &str, code: &str) -> Result<Opened, Refusal> {
        self.attempts.admit(visitor.address).await?;
        let (hash, user) = self.half(half).await?;
        let attempt = self.attempts.begin(What::SignIn, &user.email)?;
        let spent = self.spend_code(visitor, &user, code).await?.ok_or(Refusal::WrongCode)?;
        let taken = self.store.take_token(TokenKind::SecondFactor, &hash, self.now()).await?;
        taken.ok_or(Refusal::NotHalfSignedIn)?;
        let tenant = self.admissible(visitor, &user).await?;
        let opened = self.enter(visitor, user, tenant, &["pwd", spent.method(), SECOND_FACTOR]).await?;
        self.attempts.succeeded(&attempt);
        Ok(opened)
    }

    /// Who knew the password of late, and what is kept of that.
    pub(super) async fn half(&self, half: &str) -> Result<(SecretHash, User), Refusal> {
        let hash = secret::hash_of(half).ok_or(Refusal::NotHalfSignedIn)?;
        let token = self.store.token(TokenKind::SecondFactor, &hash, self.now()).await?;
        let user = token.and_then(|token| token.user).ok_or(Refusal::NotHalfSignedIn)?;
        Ok((hash, self.store.user(user).await?))
    }

    /// Whether who knew the password of late can present a passkey.
    pub(super) async fn half_has_passkey(&self, half: &str) -> Result<bool, Refusal> {
        let (_, user) = self.half(half).await?;
        Ok(self.has_passkey(&self.store.credentials(user.id).await?))
    }

    /// Whether passkeys are taken here, and there is one.
    pub(super) fn has_passkey(&self, credentials: &Credentials) -> bool {
        self.takes_passkeys() && !credentials.passkeys.is_empty()
    }

    /// Takes a code as used; none when it is wrong, which is counted.
    pub(super) async fn spend_code(
        &self,
        visitor: &Visitor,
        user: &User,
        code: &str,
    ) -> Result<Option<codes::Spent>, Refusal> {
        let seed = self.seed(user).await?;
        let now = self.now();
        let act = visitor.act(Some(user.id), now);
        let spent = self.amend(user.id, &act, |credentials| {
            let open = !is_closed(credentials, now);
            let spent = open.then(|| codes::spend(credentials, seed.as_ref(), code, now)).flatten();
            let refused = spent.is_none().then(|| fail(credentials, user, Reason::WrongCode, now));
            Ok((spent, refused))
        });
        Ok(spent.await?.1)
    }

    /// The seed of a user's app, opened.
    pub(super) async fn seed(&self, user: &User) -> Result<Option<Seed>, Refusal> {
        let Some(totp) = self.store.credentials(user.id).await?.totp else { return Ok(None) };
        let row = user.id.to_string();
        let plain = self.vault.open(Some(user.tenant), totp_place(&row), &totp.secret).await?;
        Ok(Some(Seed { sealed: totp.secret, plain }))
    }

    /// Begins the session of somebody who proved who they are: failures before it are forgotten.
    pub(super) async fn enter(
        &self,
        visitor: &Visitor,
        user: User,
        tenant: Tenant,
        methods: &[&str],
    ) -> Result<Opened, Refusal> {
        let now = self.now();
        let act = visitor.act(Some(user.id), now);
        let entered = self.amend(user.id, &act, |credentials| {
            (credentials.failures, credentials.failed_at) = (0, None);
            credentials.signed_in_at = Some(now);
            Ok(((), None))
        });
        let (credentials, ()) = entered.await?;
        self.open_session(visitor, user, tenant, &credentials, methods).await
    }

    /// Counts a wrong password, and tells of it.
    pub(super) async fn wrong_password(&self, visitor: &Visitor, user: &User) -> Result<(), Refusal> {
        self.count_failure(visitor, user, Reason::WrongPassword).await
    }

    async fn count_failure(&self, visitor: &Visitor, user: &User, reason: Reason) -> Result<(), Refusal> {
        let now = self.now();
        let act = visitor.act(None, now);
        let counted = self.amend(user.id, &act, |credentials| Ok(((), Some(fail(credentials, user, reason, now)))));
        counted.await.map(drop)
    }
}

/// Where the seed of a user's app is kept.
pub(crate) fn totp_place(user: &str) -> Place<'_> {
    Place { table: "credentials", row: user, column: "totp" }
}

/// A wrong password or code, which is not even looked at while the account is closed.
fn fail(credentials: &mut Credentials, user: &User, reason: Reason, now: Timestamp) -> Event {
    let reason = if is_closed(credentials, now) { Reason::ClosedForNow } else { reason };
    count_failure(credentials, now);
    reason.event(user)
}

/// One failure more, unless the account is closed for now anyway: nobody makes that longer.
pub(super) fn count_failure(credentials: &mut Credentials, now: Timestamp) {
    if !is_closed(credentials, now) {
        credentials.failures = credentials.failures.saturating_add(1);
        credentials.failed_at = Some(now);
    }
}
