//! Brings letters that are due, until the server ends: whoever wrote them, and in whichever process.

use std::sync::Arc;
use std::time::Duration;

use cfr_billing::people::Mail;
use cfr_billing::store::{PeopleStore, StoreError};
use cfr_core::time::{Clock, Timestamp};
use lettre::message::{Mailbox, MultiPart};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use serde_json::Value;

use super::config::{MailConfig, MailProblem, transport};
use super::place;
use super::template::{Template, Written};
use crate::oidc::Issuer;
use crate::secrets::{Vault, VaultError};

/// How long the SMTP server may take to answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked for letters that are due.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// How long nobody else brings a letter that this process does.
const CLAIMED_FOR: Duration = Duration::from_secs(300);
/// Letters that are brought one after the other before it is looked again.
const AT_ONCE: u32 = 20;
/// How long after the first failure a letter is tried again; four times as long after each further one.
const FIRST_DELAY: Duration = Duration::from_secs(30);
/// The longest wait between two tries.
const DELAY_MAX: Duration = Duration::from_secs(6 * 3_600);
/// Tries of a letter: with these waits, about a day.
const TRIES_MAX: u32 = 10;

/// Brings letters.
#[derive(Debug)]
pub struct Postman {
    store: Arc<dyn PeopleStore>,
    vault: Arc<Vault>,
    clock: Arc<dyn Clock>,
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    reply_to: Option<Mailbox>,
    origin: Issuer,
}

/// Why a letter was not brought.
#[derive(Debug, thiserror::Error)]
enum Undelivered {
    #[error("there is no letter `{0}`; a newer version wrote it")]
    Unknown(Arc<str>),
    #[error("what stands in it cannot be read: {0}")]
    Sealed(#[from] VaultError),
    #[error("what stands in it is damaged")]
    Damaged,
    #[error("its text cannot be written: {0}")]
    Text(#[from] minijinja::Error),
    #[error("its address is none")]
    Address,
    #[error("it cannot be put together: {0}")]
    Message(#[from] lettre::error::Error),
    #[error("the SMTP server did not take it: {0}")]
    Smtp(#[from] lettre::transport::smtp::Error),
}

impl Postman {
    /// Brings the letters of a store. `origin` is where their links lead.
    ///
    /// # Errors
    /// When the SMTP server's address is none.
    pub fn new(
        store: Arc<dyn PeopleStore>,
        vault: Arc<Vault>,
        clock: Arc<dyn Clock>,
        config: &MailConfig,
        origin: Issuer,
    ) -> Result<Self, MailProblem> {
        let transport = transport(&config.smtp_url)?;
        let (from, reply_to) = (config.from.clone(), config.reply_to.clone());
        Ok(Self { store, vault, clock, transport, from, reply_to, origin })
    }

    /// Runs until it is cancelled.
    pub async fn work(self) {
        loop {
            if let Err(error) = self.bring_all().await {
                tracing::warn!(%error, "letters that are due could not be looked for");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Tries every letter that is due once.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn bring_all(&self) -> Result<(), StoreError> {
        loop {
            let now = self.clock.now();
            let claimed = self.store.claim_mails(now, now + CLAIMED_FOR, AT_ONCE).await?;
            if claimed.is_empty() {
                return Ok(());
            }
            for letter in claimed {
                self.bring(letter).await?;
            }
        }
    }

    async fn bring(&self, letter: Mail) -> Result<(), StoreError> {
        let Err(error) = self.send(&letter).await else { return self.store.forget_mail(letter.id).await };
        let (letter_id, template, tries) = (letter.id, &*letter.template, letter.tries);
        if tries >= TRIES_MAX {
            tracing::error!(%error, %letter_id, template, tries, "a letter is given up");
            return self.store.forget_mail(letter_id).await;
        }
        tracing::warn!(%error, %letter_id, template, tries, "a letter could not be sent and is tried again");
        let due_at = next_try(self.clock.now(), tries);
        self.store.queue_mail(&Mail { due_at, ..letter }).await
    }

    async fn send(&self, letter: &Mail) -> Result<(), Undelivered> {
        let template = Template::named(&letter.template);
        let template = template.ok_or_else(|| Undelivered::Unknown(Arc::clone(&letter.template)))?;
        let values = self.vault.open(None, place(&letter.id.to_string()), &letter.values).await?;
        let values: Value = serde_json::from_slice(&values).map_err(|_| Undelivered::Damaged)?;
        let written = template.write(letter.language, &values, self.origin.as_str())?;
        self.transport.send(self.message(letter, written)?).await?;
        Ok(())
    }

    fn message(&self, letter: &Mail, written: Written) -> Result<Message, Undelivered> {
        let to = letter.to.parse().map_err(|_| Undelivered::Address)?;
        let message = Message::builder().from(self.from.clone()).to(Mailbox::new(None, to)).subject(written.subject);
        let message = match &self.reply_to {
            Some(reply_to) => message.reply_to(reply_to.clone()),
            None => message,
        };
        Ok(message.multipart(MultiPart::alternative_plain_html(written.text, written.html))?)
    }
}

/// When a letter is tried again that failed so often.
fn next_try(now: Timestamp, tries: u32) -> Timestamp {
    let factor = 4_u32.saturating_pow(tries.saturating_sub(1));
    now.saturating_add(FIRST_DELAY.saturating_mul(factor).min(DELAY_MAX)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_quarter_of_a_day() {
        let wait = |tries| next_try(Timestamp::UNIX_EPOCH, tries).as_second();
        assert_eq!([1, 2, 3, 6, TRIES_MAX].map(wait), [30, 120, 480, 21_600, 21_600]);
    }
}
