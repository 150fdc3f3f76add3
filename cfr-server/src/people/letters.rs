//! The letters that signing in takes.

use cfr_billing::identity::{Language, Tenant, User};
use cfr_billing::people::Mail;
use serde_json::{Value, json};

use super::{People, Refusal};
use crate::mail::{Change, Template};

impl People {
    /// A letter to an address of a user, in their language.
    pub(super) async fn letter(
        &self,
        user: &User,
        tenant: &Tenant,
        to: &str,
        template: Template,
        values: &Value,
    ) -> Result<Mail, Refusal> {
        Ok(self.letters.write(to, language(user, tenant), template, values, self.now()).await?)
    }

    /// Tells a user that something changed that they sign in with: whoever did it, the user learns of it. What was changed stays
    /// so when no letter can be written, and its answer is shown once: so that goes into the log only.
    pub(crate) async fn tell_of(&self, user: &User, change: Change) {
        if let Err(error) = self.write_of(user, change).await {
            tracing::warn!(%error, user = %user.id, change = change.word(), "no letter tells of a change");
        }
    }

    async fn write_of(&self, user: &User, change: Change) -> Result<(), Refusal> {
        let tenant = self.store.tenant(user.tenant).await?;
        let values = json!({ "name": user.name, "change": change.word() });
        let letter = self.letter(user, &tenant, &user.email, Template::SignInChanged, &values).await?;
        Ok(self.store.queue_mail(&letter).await?)
    }
}

/// The language that a user is written to in.
pub(super) fn language(user: &User, tenant: &Tenant) -> Language {
    user.locale.unwrap_or(tenant.settings.locale)
}
