//! Who brings letters.

use std::sync::Arc;

use cfr_core::secret::Secret;
use toml::Spanned;

use super::Reader;
use crate::config::file;
use crate::mail::MailConfig;

/// In place of `mail.smtp_url`: an address that holds a password belongs into no file.
const VARIABLE: &str = "CFR_SMTP_URL";
const FILE_KEY: &str = "mail.smtp_url";

impl Reader<'_> {
    pub(super) fn mail(&mut self, section: Option<&Spanned<file::Mail>>, has_public_url: bool) -> Option<MailConfig> {
        let section = section?;
        let (line, mail) = (self.line(section), section.get_ref());
        if !has_public_url {
            self.problem(line, "server.public_url", "letters have links: say how browsers reach this server");
        }
        let smtp_url = self.smtp_url(line, mail);
        let from = self.mailbox(line, "mail.from", mail.from.as_ref());
        if mail.from.is_none() {
            self.problem(line, "mail.from", "say who letters come from, as in `Example <noreply@example.com>`");
        }
        let reply_to = self.mailbox(line, "mail.reply_to", mail.reply_to.as_ref());
        let sales = self.mailbox(line, "mail.sales", mail.sales.as_ref());
        Some(MailConfig { smtp_url: smtp_url?, from: from?, reply_to, sales })
    }

    fn smtp_url(&mut self, line: Option<usize>, mail: &file::Mail) -> Option<Secret> {
        let (key, line, url) = match (self.variable(VARIABLE), &mail.smtp_url) {
            (Some(text), _) => (VARIABLE, None, Secret::new(text)),
            (None, Some(url)) => (FILE_KEY, self.line(url), url.get_ref().clone()),
            (None, None) => {
                self.problem(line, FILE_KEY, format!("name an SMTP server, here or in {VARIABLE}"));
                return None;
            }
        };
        MailConfig::check_server(&url).map_err(|what| self.problem(line, key, what.to_string())).ok()?;
        Some(url)
    }

    fn mailbox(
        &mut self,
        line: Option<usize>,
        key: &str,
        text: Option<&Spanned<String>>,
    ) -> Option<lettre::message::Mailbox> {
        let text: Arc<str> = text?.get_ref().as_str().into();
        MailConfig::mailbox(&text).map_err(|what| self.problem(line, key, what.to_string())).ok()
    }
}
