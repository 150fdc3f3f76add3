//! The passkeys of who is signed in: they add, rename and remove them.

use cfr_billing::audit_log::{Action, Event};
use cfr_billing::people::{Credentials, Passkey, SignedIn, TokenKind};
use cfr_billing::store::StoreError;
use cfr_core::secret::Secret;
use serde_json::json;
use webauthn_rs::prelude::RegisterPublicKeyCredential;

use super::challenge::Whose;
use super::{Given, PASSKEYS_MAX};
use crate::mail::Change;
use crate::people::session::{Opened, SECOND_FACTOR};
use crate::people::{People, Refusal, Visitor, codes, require_recent_proof};

const NO_SUCH: StoreError = StoreError::NotFound { what: "passkey" };

/// A passkey that was added.
#[derive(Debug)]
pub(super) struct Added {
    /// The session, which goes on under another secret.
    pub(super) opened: Opened,
    /// The passkey.
    pub(super) passkey: Passkey,
    /// Recovery codes, for who had no second factor before.
    pub(super) recovery_codes: Vec<Secret>,
}

impl People {
    /// Asks an authenticator for a new key.
    ///
    /// # Errors
    /// [`Refusal::StepUpRequired`]; [`Refusal::PasskeysOff`]; a conflict for who has [`PASSKEYS_MAX`] already.
    pub(super) async fn begin_passkey(&self, visitor: &Visitor, me: &SignedIn) -> Result<Given, Refusal> {
        require_recent_proof(me, self.now())?;
        let credentials = self.store.credentials(me.user.id).await?;
        check_room(&credentials)?;
        let asked = self.relying_party()?.ask_to_add(&me.user, &credentials.passkeys)?;
        self.give(visitor, TokenKind::AddPasskey, &Whose::of(me), asked).await
    }

    /// Keeps the key that an authenticator made. Every other session ends; who had no second factor gets recovery codes.
    ///
    /// # Errors
    /// [`Refusal::StepUpRequired`]; [`Refusal::StaleChallenge`]; [`Refusal::WrongPasskey`]; a conflict for who has
    /// [`PASSKEYS_MAX`] already, and for a key that somebody has.
    pub(super) async fn add_passkey(
        &self,
        visitor: &Visitor,
        me: SignedIn,
        name: &str,
        answer: &RegisterPublicKeyCredential,
    ) -> Result<Added, Refusal> {
        let now = self.now();
        require_recent_proof(&me, now)?;
        let challenge = self.take_challenge(visitor, TokenKind::AddPasskey, &Whose::of(&me)).await?;
        let made = self.relying_party()?.added(answer, &challenge.state, name, now);
        let passkey = made.map_err(|_| Refusal::WrongPasskey)?;
        let (shown, kept) = codes::new_recovery_codes();
        let event = Event::about(Action::FactorAdded, &me.user, &json!({ "factor": "passkey" }));
        let act = visitor.act(Some(me.user.id), now);
        let added = self.amend(me.user.id, &act, |credentials| {
            check_room(credentials)?;
            let first = !credentials.has_second_factor();
            if first {
                credentials.recovery.clone_from(&kept);
            }
            credentials.passkeys.push(passkey.clone());
            credentials.epoch += 1;
            Ok((first, Some(event.clone())))
        });
        let (credentials, first) = added.await?;
        self.tell_of(&me.user, Change::PasskeyAdded).await;
        let opened = self.reopen(visitor, me, &credentials, &[SECOND_FACTOR]).await?;
        Ok(Added { opened, passkey, recovery_codes: if first { shown } else { Vec::new() } })
    }

    /// Gives a passkey another name.
    ///
    /// # Errors
    /// When there is no such passkey.
    pub(in crate::people) async fn rename_passkey(
        &self,
        visitor: &Visitor,
        me: &SignedIn,
        id: &str,
        name: &str,
    ) -> Result<Passkey, Refusal> {
        let event = Event::about(Action::FactorRenamed, &me.user, &json!({ "factor": "passkey" }));
        let act = visitor.act(Some(me.user.id), self.now());
        let renamed = self.amend(me.user.id, &act, |credentials| {
            let at = place_of(credentials, id)?;
            let passkey = credentials.passkeys.get_mut(at).ok_or(NO_SUCH)?;
            passkey.name = name.into();
            Ok((passkey.clone(), Some(event.clone())))
        });
        Ok(renamed.await?.1)
    }

    /// Removes a passkey; with the last second factor the recovery codes go, too. Every other session ends.
    ///
    /// # Errors
    /// [`Refusal::StepUpRequired`]; when there is no such passkey.
    pub(in crate::people) async fn remove_passkey(
        &self,
        visitor: &Visitor,
        me: SignedIn,
        id: &str,
    ) -> Result<Opened, Refusal> {
        require_recent_proof(&me, self.now())?;
        let event = Event::about(Action::FactorRemoved, &me.user, &json!({ "factor": "passkey" }));
        let act = visitor.act(Some(me.user.id), self.now());
        let removed = self.amend(me.user.id, &act, |credentials| {
            let at = place_of(credentials, id)?;
            credentials.passkeys.remove(at);
            credentials.forget_needless_codes();
            credentials.epoch += 1;
            Ok(((), Some(event.clone())))
        });
        let (credentials, ()) = removed.await?;
        self.tell_of(&me.user, Change::PasskeyRemoved).await;
        self.reopen(visitor, me, &credentials, &[]).await
    }
}

fn check_room(credentials: &Credentials) -> Result<(), Refusal> {
    match credentials.passkeys.len() < PASSKEYS_MAX {
        true => Ok(()),
        false => Err(StoreError::conflict("there are as many passkeys as one may have: remove one first").into()),
    }
}

fn place_of(credentials: &Credentials, id: &str) -> Result<usize, StoreError> {
    credentials.passkeys.iter().position(|passkey| *passkey.id == *id).ok_or(NO_SUCH)
}
