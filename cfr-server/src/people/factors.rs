//! Second factors that people add and remove: an app with codes, and recovery codes for when it is lost.

use cfr_billing::audit_log::{Act, Action, Event};
use cfr_billing::identity::User;
use cfr_billing::people::{SignedIn, Totp};
use cfr_billing::store::StoreError;
use cfr_core::secret::Secret;
use serde_json::json;

use super::session::{Opened, SECOND_FACTOR};
use super::sign_in::totp_place;
use super::{People, Refusal, Visitor, codes, require_recent_proof};
use crate::mail::Change;

/// What apps show beside the code.
const ISSUER: &str = "CloudFreedom Router";

/// What somebody needs to add our codes to their app.
#[derive(Debug)]
pub struct Enrolment {
    /// A link that apps open, or read as a picture.
    pub url: Secret,
    /// The seed in base 32, to type it.
    pub typed: Secret,
}

impl People {
    /// Makes a seed for an app. It protects nothing until a code of it is [confirmed](People::confirm_app).
    ///
    /// # Errors
    /// [`Refusal::StepUpRequired`]; a conflict for who has an app already.
    pub(super) async fn begin_app(&self, visitor: &Visitor, signed_in: &SignedIn) -> Result<Enrolment, Refusal> {
        let now = self.now();
        require_recent_proof(signed_in, now)?;
        let user = &signed_in.user;
        let seed = codes::new_seed();
        let row = user.id.to_string();
        let sealed = self.vault.seal(Some(user.tenant), totp_place(&row), &seed).await?;
        let act = visitor.act(Some(user.id), now);
        let begun = self.amend(user.id, &act, |credentials| {
            check_no_app(credentials.totp.as_ref())?;
            credentials.totp = Some(Totp { secret: sealed.clone(), confirmed_at: None, last_step: 0 });
            Ok(((), None))
        });
        begun.await?;
        let (url, typed) = codes::enrolment(&seed, ISSUER, &user.email)
            .ok_or_else(|| Refusal::invalid("email", "the address cannot be put into an app"))?;
        Ok(Enrolment { url, typed })
    }

    /// Takes the app into use: a code proves that it has the seed. Every other session ends.
    ///
    /// # Errors
    /// [`Refusal::WrongCode`]; [`Refusal::StepUpRequired`]; a conflict for who has an app already, or none to confirm.
    pub(super) async fn confirm_app(
        &self,
        visitor: &Visitor,
        signed_in: SignedIn,
        code: &str,
    ) -> Result<(Opened, Vec<Secret>), Refusal> {
        let now = self.now();
        require_recent_proof(&signed_in, now)?;
        let attempt = self.begin(visitor, &signed_in).await?;
        let user = &signed_in.user;
        let seed =
            self.seed(user).await?.ok_or_else(|| StoreError::conflict("there is no app to confirm: begin with one"))?;
        let (shown, kept) = codes::new_recovery_codes();
        let event = Event::about(Action::FactorAdded, user, &json!({ "factor": "totp" }));
        let act = visitor.act(Some(user.id), now);
        let confirmed = self.amend(user.id, &act, |credentials| {
            check_no_app(credentials.totp.as_ref())?;
            let totp = credentials.totp.as_mut().filter(|totp| totp.secret == seed.sealed).ok_or(Refusal::WrongCode)?;
            totp.last_step = codes::step_of(&seed.plain, code.trim(), now, totp.last_step).ok_or(Refusal::WrongCode)?;
            totp.confirmed_at = Some(now);
            credentials.recovery.clone_from(&kept);
            credentials.epoch += 1;
            Ok(((), Some(event.clone())))
        });
        let (credentials, ()) = confirmed.await?;
        self.attempts.succeeded(&attempt);
        self.tell_of(user, Change::AppAdded).await;
        let opened = self.reopen(visitor, signed_in, &credentials, &["otp", SECOND_FACTOR]).await?;
        Ok((opened, shown))
    }

    /// Removes the app; with the last second factor the recovery codes go, too. Every other session ends.
    ///
    /// # Errors
    /// [`Refusal::StepUpRequired`].
    pub(super) async fn remove_app(&self, visitor: &Visitor, signed_in: SignedIn) -> Result<Opened, Refusal> {
        require_recent_proof(&signed_in, self.now())?;
        let user = &signed_in.user;
        let event = Event::about(Action::FactorRemoved, user, &json!({ "factor": "totp" }));
        let act = visitor.act(Some(user.id), self.now());
        let removed = self.amend(user.id, &act, |credentials| {
            credentials.totp = None;
            credentials.forget_needless_codes();
            credentials.epoch += 1;
            Ok(((), Some(event.clone())))
        });
        let (credentials, ()) = removed.await?;
        self.tell_of(user, Change::AppRemoved).await;
        self.reopen(visitor, signed_in, &credentials, &[]).await
    }

    /// Removes every second factor of a user and ends their sessions: an administrator does so for who lost theirs.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remove_factors(&self, user: &User, act: &Act) -> Result<(), Refusal> {
        let event = Event::about(Action::FactorRemoved, user, &json!({ "factor": "all" }));
        let removed = self.amend(user.id, act, |credentials| {
            credentials.totp = None;
            credentials.recovery.clear();
            credentials.passkeys.clear();
            credentials.epoch += 1;
            Ok(((), Some(event.clone())))
        });
        removed.await?;
        self.tell_of(user, Change::FactorsRemoved).await;
        Ok(())
    }

    /// The same for the user with an address.
    ///
    /// # Errors
    /// When nobody has it, or the store fails.
    pub async fn remove_factors_of(&self, email: &str, act: &Act) -> Result<User, Refusal> {
        let user = self.store.user_by_email(email).await?.ok_or(StoreError::NotFound { what: "user" })?;
        self.remove_factors(&user, act).await?;
        Ok(user)
    }

    /// Makes new recovery codes; those before are void.
    ///
    /// # Errors
    /// [`Refusal::StepUpRequired`]; a conflict for who has no second factor that they could replace.
    pub(super) async fn renew_recovery_codes(
        &self,
        visitor: &Visitor,
        signed_in: &SignedIn,
    ) -> Result<Vec<Secret>, Refusal> {
        let now = self.now();
        require_recent_proof(signed_in, now)?;
        let user = &signed_in.user;
        let (shown, kept) = codes::new_recovery_codes();
        let event = Event::about(Action::RecoveryCodesMade, user, &json!({}));
        let act = visitor.act(Some(user.id), now);
        let renewed = self.amend(user.id, &act, |credentials| {
            if !credentials.has_second_factor() {
                return Err(StoreError::conflict("there is no second factor that recovery codes could replace").into());
            }
            credentials.recovery.clone_from(&kept);
            Ok(((), Some(event.clone())))
        });
        renewed.await?;
        self.tell_of(user, Change::RecoveryCodesMade).await;
        Ok(shown)
    }
}

fn check_no_app(totp: Option<&Totp>) -> Result<(), Refusal> {
    match totp.and_then(|totp| totp.confirmed_at) {
        None => Ok(()),
        Some(_) => Err(StoreError::conflict("there is an app already: remove it first").into()),
    }
}
