//! Who does something dangerous proves shortly before who they are, with everything that they have for it.

use cfr_billing::audit_log::{Action, Event};
use cfr_billing::people::SignedIn;
use cfr_core::secret::Secret;
use cfr_core::time::Timestamp;
use serde_json::json;

use super::attempts::{Attempt, What};
use super::session::{Opened, SECOND_FACTOR};
use super::{People, Refusal, Visitor};
use crate::auth::access::PROOF_LASTS;

/// Passes who proved within the last [`PROOF_LASTS`] who they are.
///
/// # Errors
/// [`Refusal::StepUpRequired`].
pub fn require_recent_proof(signed_in: &SignedIn, now: Timestamp) -> Result<(), Refusal> {
    let age = now.duration_since(signed_in.session.proved_at);
    if age.unsigned_abs() < PROOF_LASTS { Ok(()) } else { Err(Refusal::StepUpRequired) }
}

impl People {
    /// Takes a proof of somebody who is signed in. Their session goes on under another secret.
    ///
    /// # Errors
    /// [`Refusal::WrongCredentials`] or [`Refusal::WrongCode`]; [`Refusal::StepUpRequired`] for who has nothing to prove it with
    /// and so has to sign in again; [`Refusal::Throttled`].
    pub(super) async fn step_up(
        &self,
        visitor: &Visitor,
        signed_in: SignedIn,
        password: Option<&Secret>,
        code: Option<&str>,
    ) -> Result<Opened, Refusal> {
        let user = &signed_in.user;
        let credentials = self.store.credentials(user.id).await?;
        if credentials.password.is_none() && !credentials.has_second_factor() {
            return Err(Refusal::StepUpRequired);
        }
        let attempt = self.begin(visitor, &signed_in).await?;
        if credentials.password.is_some() {
            self.check_password(visitor, &signed_in, password).await?;
        }
        let mut methods = Vec::new();
        if credentials.has_second_factor() {
            let spent = self.spend_code(visitor, user, code.unwrap_or_default()).await?.ok_or(Refusal::WrongCode)?;
            methods.extend([spent.method(), SECOND_FACTOR]);
        }
        self.attempts.succeeded(&attempt);
        self.proved(visitor, signed_in, &methods).await
    }

    /// Goes on with who proved again by `methods` who they are.
    pub(super) async fn proved(
        &self,
        visitor: &Visitor,
        signed_in: SignedIn,
        methods: &[&str],
    ) -> Result<Opened, Refusal> {
        let user = &signed_in.user;
        let event = Event::about(Action::SessionProved, user, &json!({ "session": signed_in.session.id }));
        self.store.record(&event, &visitor.act(Some(user.id), self.now())).await?;
        self.rotate(signed_in, methods).await
    }

    /// Lets somebody who is signed in try to prove who they are.
    pub(super) async fn begin(&self, visitor: &Visitor, signed_in: &SignedIn) -> Result<Attempt, Refusal> {
        self.attempts.admit(visitor.address).await?;
        self.attempts.begin(What::SignIn, &signed_in.user.email)
    }

    /// Passes the password of who is signed in. Another one is counted as a failure.
    pub(super) async fn check_password(
        &self,
        visitor: &Visitor,
        signed_in: &SignedIn,
        password: Option<&Secret>,
    ) -> Result<(), Refusal> {
        let user = &signed_in.user;
        let credentials = self.store.credentials(user.id).await?;
        let nothing = Secret::new("");
        let found = self.compare(password.unwrap_or(&nothing), credentials.password.clone()).await?;
        if found.is_match() && !super::attempts::is_closed(&credentials, self.now()) {
            return Ok(());
        }
        self.wrong_password(visitor, user).await?;
        Err(Refusal::WrongCredentials)
    }
}
