//! Challenges that wait for an authenticator's answer. The store has them, so any server takes the answer, and only once; the
//! browser has a cookie that finds them.

use cfr_billing::people::{Challenge, OneTimeToken, SecretHash, SignedIn, TokenKind};
use cfr_core::id::{TenantId, TokenId, UserId};

use super::relying_party::Asked;
use super::{CHALLENGE_LASTS, Given};
use crate::people::{People, Refusal, Visitor, cookie, secret};

/// Who may answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whose {
    /// The user with their tenant and epoch; none before anybody said who they are.
    pub(super) user: Option<(UserId, TenantId, i64)>,
    /// The session, or the half of one, that the answer has to come from.
    pub(super) bound_to: Option<SecretHash>,
}

impl Whose {
    /// Of a browser in which nobody is signed in.
    pub(super) const NOBODY: Self = Self { user: None, bound_to: None };

    /// Of who is signed in.
    pub(super) fn of(me: &SignedIn) -> Self {
        Self { user: Some((me.user.id, me.user.tenant, me.epoch)), bound_to: Some(me.session.hash) }
    }
}

impl People {
    /// Keeps what was asked until it is answered.
    pub(super) async fn give(
        &self,
        visitor: &Visitor,
        kind: TokenKind,
        whose: &Whose,
        asked: Asked,
    ) -> Result<Given, Refusal> {
        let now = self.now();
        let (secret, hash) = secret::generate();
        let user = whose.user.map(|(user, ..)| user);
        let token = OneTimeToken {
            id: TokenId::generate(now),
            hash,
            kind,
            tenant: whose.user.map(|(_, tenant, _)| tenant),
            user,
            epoch: whose.user.map_or(0, |(.., epoch)| epoch),
            email: None,
            offer: None,
            challenge: Some(Challenge { bound_to: whose.bound_to, state: asked.state }),
            created_at: now,
            expires_at: now + CHALLENGE_LASTS,
        };
        self.store.issue_token(&token, None, &visitor.act(user, now)).await?;
        Ok(Given { options: asked.options, secret })
    }

    /// Takes the challenge that the browser's cookie finds, whoever answers it and how.
    ///
    /// # Errors
    /// [`Refusal::StaleChallenge`] when it was taken, has ended, or is not of this browser.
    pub(super) async fn take_challenge(
        &self,
        visitor: &Visitor,
        kind: TokenKind,
        whose: &Whose,
    ) -> Result<Challenge, Refusal> {
        let hash = cookie::read(&visitor.headers, cookie::CHALLENGE).and_then(secret::hash_of);
        let hash = hash.ok_or(Refusal::StaleChallenge)?;
        let token = self.store.take_token(kind, &hash, self.now()).await?.ok_or(Refusal::StaleChallenge)?;
        let challenge = token.challenge.ok_or(Refusal::StaleChallenge)?;
        let fits = token.user == whose.user.map(|(user, ..)| user) && challenge.bound_to == whose.bound_to;
        if fits { Ok(challenge) } else { Err(Refusal::StaleChallenge) }
    }
}
