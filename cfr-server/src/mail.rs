//! Letters: written down in the transaction of what they tell of, and sent until they arrive or are given up.
//!
//! [`Letters`] writes one down: what stands in its gaps is sealed, because it may hold a one-time token. [`Postman`] looks for
//! letters that are due, fills the [`template`] in the language of whom it is for, and hands them to an SMTP server.

use std::sync::Arc;

use cfr_billing::identity::Language;
use cfr_billing::people::Mail;
use cfr_core::id::MailId;
use cfr_core::time::Timestamp;
use serde_json::Value;

mod config;
mod postman;
pub mod template;

pub use config::{MailConfig, MailProblem};
pub use postman::Postman;
pub use template::{Change, Template};

use crate::oidc::Issuer;
use crate::secrets::{Place, Vault, VaultError};

/// Writes letters, and knows whether they are sent.
#[derive(Debug, Clone)]
pub struct Letters {
    vault: Arc<Vault>,
    public_url: Option<Issuer>,
    sent: bool,
    sales: Option<Arc<str>>,
}

impl Letters {
    /// Letters whose gaps this vault seals. Without `mail` there is nobody to bring them.
    #[must_use]
    pub fn new(vault: Arc<Vault>, public_url: Option<Issuer>, mail: Option<&MailConfig>) -> Self {
        let sales = mail.and_then(|mail| mail.sales.as_ref()).map(|sales| sales.email.to_string().into());
        Self { vault, public_url, sent: mail.is_some(), sales }
    }

    /// The address of who is told when somebody asks to be told more.
    #[must_use]
    pub fn sales(&self) -> Option<&str> {
        self.sales.as_deref()
    }

    /// Under which address browsers reach the server, if somebody said so.
    #[must_use]
    pub const fn public_url(&self) -> Option<&Issuer> {
        self.public_url.as_ref()
    }

    /// Whether letters reach anybody.
    #[must_use]
    pub const fn are_sent(&self) -> bool {
        self.sent
    }

    /// Where somebody uses this token; without the host where nobody said how browsers reach the server.
    #[must_use]
    pub fn link(&self, template: Template, token: &str) -> String {
        let path = template.link(token).unwrap_or_default();
        self.public_url.as_ref().map_or(path.clone(), |url| url.at(&path))
    }

    /// A letter that is due at once.
    ///
    /// # Errors
    /// When its gaps cannot be sealed.
    pub async fn write(
        &self,
        to: &str,
        language: Language,
        template: Template,
        values: &Value,
        now: Timestamp,
    ) -> Result<Mail, VaultError> {
        let id = MailId::generate(now);
        let values = self.vault.seal(None, place(&id.to_string()), values.to_string().as_bytes()).await?;
        let template = template.name().into();
        Ok(Mail { id, to: to.into(), template, language, values, tries: 0, due_at: now, created_at: now })
    }
}

/// Where the gaps of a letter are kept.
const fn place(id: &str) -> Place<'_> {
    Place { table: "mails", row: id, column: "values" }
}
