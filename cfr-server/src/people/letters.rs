//! The letters that signing in takes.

use cfr_billing::identity::{Language, Tenant, User};
use cfr_billing::people::Mail;
use serde_json::Value;

use super::{People, Refusal};
use crate::mail::Template;

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
}

/// The language that a user is written to in.
pub(super) fn language(user: &User, tenant: &Tenant) -> Language {
    user.locale.unwrap_or(tenant.settings.locale)
}
