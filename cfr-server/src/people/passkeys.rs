//! Passkeys: keys that authenticators hold and that work for our name alone, so that nobody can be lured into using one
//! elsewhere (WebAuthn). An authenticator asks for a finger, a face or a PIN before it answers: a passkey is two factors.
//!
//! People add several, each with a name. One signs in with the password or without any name, and is a proof. Every answer
//! goes to a `challenge` that the store has: it works once, for five minutes, on whichever server, and only for the browser
//! and the session that it was made for.
//! `relying_party` is the only place that knows the library.

use std::time::Duration;

use cfr_billing::identity::User;
use cfr_billing::people::{Challenge, Credentials, SignedIn, TokenKind};
use cfr_billing::store::StoreError;
use cfr_core::secret::Secret;
use serde_json::Value;
use webauthn_rs::prelude::{PublicKeyCredential, WebauthnError};

use super::session::{Opened, SECOND_FACTOR};
use super::sign_in::{Reason, count_failure};
use super::{People, Refusal, Visitor};

mod challenge;
mod own;
mod relying_party;
pub(super) mod routes;

pub(super) use self::relying_party::RelyingParty;

use self::challenge::Whose;
use self::relying_party::{Asked, Kept, Mismatch, owner};

/// How long an authenticator may take to answer: people look for it first (WebAuthn level 3, §15.1).
pub(super) const CHALLENGE_LASTS: Duration = Duration::from_mins(5);
/// Passkeys of one person.
pub const PASSKEYS_MAX: usize = 20;

/// A challenge for a browser.
#[derive(Debug)]
pub(super) struct Given {
    /// The argument of `navigator.credentials`.
    pub(super) options: Value,
    /// What the browser's cookie holds until it answers.
    pub(super) secret: Secret,
}

impl People {
    /// Asks for whichever passkey the authenticator has for us. Nobody said who they are.
    ///
    /// # Errors
    /// [`Refusal::PasskeysOff`]; [`Refusal::Throttled`].
    pub(super) async fn begin_passkey_sign_in(&self, visitor: &Visitor) -> Result<Given, Refusal> {
        self.attempts.admit(visitor.address).await?;
        let asked = self.relying_party()?.ask(&[])?;
        self.give(visitor, TokenKind::UsePasskey, &Whose::NOBODY, asked).await
    }

    /// Lets somebody in whose passkey says who they are.
    ///
    /// # Errors
    /// [`Refusal::StaleChallenge`]; [`Refusal::WrongPasskey`], whatever is wrong; [`Refusal::Throttled`]; for who proved who
    /// they are, why they may not sign in now.
    pub(super) async fn sign_in_with_passkey(
        &self,
        visitor: &Visitor,
        answer: &PublicKeyCredential,
    ) -> Result<Opened, Refusal> {
        self.attempts.admit(visitor.address).await?;
        let challenge = self.take_challenge(visitor, TokenKind::UsePasskey, &Whose::NOBODY).await?;
        let found = match owner(answer) {
            Some(user) => self.store.user(user).await,
            None => Err(StoreError::NotFound { what: "user" }),
        };
        let user = match found {
            Ok(user) => user,
            Err(StoreError::NotFound { .. }) => {
                self.refuse_unknown(visitor, Reason::WrongPasskey).await?;
                return Err(Refusal::WrongPasskey);
            }
            Err(error) => return Err(error.into()),
        };
        let kept = self.judge(visitor, &user, &challenge, answer).await?;
        let tenant = self.admissible(visitor, &user).await?;
        self.enter(visitor, user, tenant, &[kept.method(), SECOND_FACTOR]).await
    }

    /// Asks who knew the password for one of their passkeys.
    ///
    /// # Errors
    /// [`Refusal::NotHalfSignedIn`]; [`Refusal::PasskeysOff`]; [`Refusal::Throttled`]; a conflict for who has no passkey.
    pub(super) async fn begin_passkey_factor(&self, visitor: &Visitor, half: &str) -> Result<Given, Refusal> {
        self.attempts.admit(visitor.address).await?;
        let (hash, user) = self.half(half).await?;
        let credentials = self.store.credentials(user.id).await?;
        let asked = self.ask_of(&credentials)?;
        let whose = Whose { user: Some((user.id, user.tenant, credentials.epoch)), bound_to: Some(hash) };
        self.give(visitor, TokenKind::UsePasskey, &whose, asked).await
    }

    /// Lets somebody in who knew the password and has a passkey.
    ///
    /// # Errors
    /// [`Refusal::NotHalfSignedIn`]; [`Refusal::StaleChallenge`]; [`Refusal::WrongPasskey`]; [`Refusal::Throttled`].
    pub(super) async fn passkey_factor(
        &self,
        visitor: &Visitor,
        half: &str,
        answer: &PublicKeyCredential,
    ) -> Result<Opened, Refusal> {
        self.attempts.admit(visitor.address).await?;
        let (hash, user) = self.half(half).await?;
        let epoch = self.store.credentials(user.id).await?.epoch;
        let whose = Whose { user: Some((user.id, user.tenant, epoch)), bound_to: Some(hash) };
        let challenge = self.take_challenge(visitor, TokenKind::UsePasskey, &whose).await?;
        let kept = self.judge(visitor, &user, &challenge, answer).await?;
        let taken = self.store.take_token(TokenKind::SecondFactor, &hash, self.now()).await?;
        taken.ok_or(Refusal::NotHalfSignedIn)?;
        let tenant = self.admissible(visitor, &user).await?;
        self.enter(visitor, user, tenant, &["pwd", kept.method(), SECOND_FACTOR]).await
    }

    /// Asks who is signed in for one of their passkeys.
    ///
    /// # Errors
    /// [`Refusal::PasskeysOff`]; [`Refusal::Throttled`]; a conflict for who has no passkey.
    pub(super) async fn begin_passkey_proof(&self, visitor: &Visitor, me: &SignedIn) -> Result<Given, Refusal> {
        self.attempts.admit(visitor.address).await?;
        let asked = self.ask_of(&self.store.credentials(me.user.id).await?)?;
        self.give(visitor, TokenKind::UsePasskey, &Whose::of(me), asked).await
    }

    /// Takes a passkey as the proof of somebody who is signed in. Their session goes on under another secret.
    ///
    /// # Errors
    /// [`Refusal::StaleChallenge`]; [`Refusal::WrongPasskey`]; [`Refusal::Throttled`].
    pub(super) async fn prove_with_passkey(
        &self,
        visitor: &Visitor,
        me: SignedIn,
        answer: &PublicKeyCredential,
    ) -> Result<Opened, Refusal> {
        self.attempts.admit(visitor.address).await?;
        let challenge = self.take_challenge(visitor, TokenKind::UsePasskey, &Whose::of(&me)).await?;
        let kept = self.judge(visitor, &me.user, &challenge, answer).await?;
        self.proved(visitor, me, &[kept.method(), SECOND_FACTOR]).await
    }

    /// Judges an answer by the passkeys that a user has at this moment: of two with the same counter one is refused. A wrong one
    /// is counted as a failure, but no failure of others closes the way of passkeys: nobody guesses a key.
    async fn judge(
        &self,
        visitor: &Visitor,
        user: &User,
        challenge: &Challenge,
        answer: &PublicKeyCredential,
    ) -> Result<Kept, Refusal> {
        let (party, now) = (self.relying_party()?, self.now());
        let act = visitor.act(Some(user.id), now);
        let judged = self.amend(user.id, &act, |credentials| {
            match party.judge(answer, &challenge.state, user.id, &mut credentials.passkeys, now) {
                Ok(kept) => Ok((Ok(kept), None)),
                Err(mismatch) => {
                    count_failure(credentials, now);
                    Ok((Err(mismatch), Some(Reason::from(mismatch).event(user))))
                }
            }
        });
        judged.await?.1.map_err(|_| Refusal::WrongPasskey)
    }

    fn ask_of(&self, credentials: &Credentials) -> Result<Asked, Refusal> {
        if credentials.passkeys.is_empty() {
            return Err(StoreError::conflict("there is no passkey: add one first").into());
        }
        Ok(self.relying_party()?.ask(&credentials.passkeys)?)
    }

    fn relying_party(&self) -> Result<&RelyingParty, Refusal> {
        self.relying_party.as_ref().ok_or(Refusal::PasskeysOff)
    }
}

impl From<Mismatch> for Reason {
    fn from(mismatch: Mismatch) -> Self {
        match mismatch {
            Mismatch::Wrong => Self::WrongPasskey,
            Mismatch::Copied => Self::CopiedPasskey,
        }
    }
}

impl From<WebauthnError> for Refusal {
    fn from(error: WebauthnError) -> Self {
        Self::Passkeys(error.to_string().into())
    }
}
