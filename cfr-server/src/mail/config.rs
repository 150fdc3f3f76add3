//! Who brings letters, and under which name.

use std::sync::Arc;

use cfr_core::secret::Secret;
use lettre::message::Mailbox;
use lettre::transport::smtp::AsyncSmtpTransportBuilder;
use lettre::{AsyncSmtpTransport, Tokio1Executor};
use url::{Host, Url};

/// `[mail]` of the configuration.
#[derive(Debug, Clone)]
pub struct MailConfig {
    /// The SMTP server, which may hold a password: `smtps://user:password@smtp.example.com`.
    pub smtp_url: Secret,
    /// Who letters come from.
    pub from: Mailbox,
    /// Who answers to letters.
    pub reply_to: Option<Mailbox>,
    /// Who is told when somebody asks to be told more.
    pub sales: Option<Mailbox>,
}

/// What is wrong with how letters are sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MailProblem {
    /// No address of an SMTP server.
    #[error("an address as in smtps://user:password@smtp.example.com, or smtp://smtp.example.com:587?tls=required")]
    NotSmtp,
    /// Letters would travel readable.
    #[error("letters hold secrets: use smtps://, or add ?tls=required; smtp:// alone is for a server on this machine")]
    NotEncrypted,
    /// No mail address.
    #[error("`{text}` is no mail address, as in `Example <noreply@example.com>`")]
    NotAnAddress {
        /// What it is instead.
        text: Arc<str>,
    },
}

/// Reads the address of an SMTP server, without asking it.
pub(super) fn transport(url: &Secret) -> Result<AsyncSmtpTransport<Tokio1Executor>, MailProblem> {
    Ok(builder(url)?.timeout(Some(super::postman::ANSWER_TIMEOUT)).build())
}

/// What is known of a server before anything is connected.
fn builder(url: &Secret) -> Result<AsyncSmtpTransportBuilder, MailProblem> {
    let parsed = Url::parse(url.expose()).map_err(|_| MailProblem::NotSmtp)?;
    if !is_encrypted(&parsed) && !is_this_machine(&parsed) {
        return Err(MailProblem::NotEncrypted);
    }
    AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose()).map_err(|_| MailProblem::NotSmtp)
}

fn is_encrypted(url: &Url) -> bool {
    url.scheme() == "smtps" || url.query_pairs().any(|(name, value)| name == "tls" && value == "required")
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        // Addresses of schemes that browsers do not know keep their host as it was written.
        Some(Host::Domain(name)) => {
            name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        }
        None => false,
    }
}

impl MailConfig {
    /// Reads what somebody wrote.
    ///
    /// # Errors
    /// What is wrong with the server's address.
    pub fn check_server(url: &Secret) -> Result<(), MailProblem> {
        builder(url).map(drop)
    }

    /// Reads a mail address, with or without a name.
    ///
    /// # Errors
    /// When it is none.
    pub fn mailbox(text: &str) -> Result<Mailbox, MailProblem> {
        text.parse().map_err(|_| MailProblem::NotAnAddress { text: text.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_travel_encrypted_or_stay_on_this_machine() {
        let cases = [
            ("smtps://user:secret@smtp.example.com", Ok(())),
            ("smtp://user:secret@smtp.example.com:587?tls=required", Ok(())),
            ("smtp://localhost:2525", Ok(())),
            ("smtp://127.0.0.1:2525", Ok(())),
            ("smtp://smtp.example.com", Err(MailProblem::NotEncrypted)),
            ("smtp://smtp.example.com?tls=opportunistic", Err(MailProblem::NotEncrypted)),
            ("https://smtp.example.com", Err(MailProblem::NotEncrypted)),
            ("smtp.example.com", Err(MailProblem::NotSmtp)),
        ];
        for (url, expected) in cases {
            assert_eq!(MailConfig::check_server(&Secret::new(url)), expected, "{url}");
        }
    }

    #[test]
    fn an_address_may_have_a_name() {
        assert!(MailConfig::mailbox("Example <noreply@example.com>").is_ok());
        assert!(MailConfig::mailbox("noreply@example.com").is_ok());
        assert!(MailConfig::mailbox("nobody").is_err());
    }
}
