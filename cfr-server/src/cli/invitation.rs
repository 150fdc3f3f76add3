//! `cfr-server invitation`.

use clap::Subcommand;
use serde_json::json;

use super::client::Call;
use super::error::CliError;
use super::output::Column;
use super::{PageArgs, Session, Verb};
use crate::api::schema::{Language, Role};

/// What to do with invitations.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List invitations that work
    List {
        /// Only those of this tenant, by id or slug
        #[arg(long)]
        tenant: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Invite somebody; without mail the answer has the link, this once
    Create {
        /// Who is invited
        email: String,
        /// The tenant's id or slug
        #[arg(long)]
        tenant: String,
        /// What they may do [default: user]
        #[arg(long, value_parser = Role::WORDS.to_vec())]
        role: Option<String>,
        /// The id or code of the product that they get
        #[arg(long)]
        product: Option<String>,
        /// The language of the letter [default: the tenant's]
        #[arg(long, value_parser = Language::WORDS.to_vec())]
        locale: Option<String>,
    },
    /// Send an invitation again; the link before is void
    Resend {
        /// Its id
        invitation: String,
    },
    /// Revoke an invitation
    Revoke {
        /// Its id
        invitation: String,
    },
}

const COLUMNS: &[Column] =
    &[("E-MAIL", "/email"), ("ROLE", "/role"), ("PRODUCT", "/product"), ("ENDS", "/expires_at"), ("ID", "/id")];

const FIELDS: &[Column] = &[
    ("id", "/id"),
    ("tenant", "/tenant"),
    ("e-mail", "/email"),
    ("role", "/role"),
    ("product", "/product"),
    ("ends", "/expires_at"),
    ("sent", "/sent"),
    ("link", "/link"),
];

impl Verb for Command {
    async fn run(self, session: &Session) -> Result<(), CliError> {
        let call = match self {
            Self::List { tenant, page } => {
                let listing = session.client.send(page.of(&["invitations"]).query("tenant", tenant.as_ref())).await?;
                return session.printer.list(&listing, COLUMNS);
            }
            Self::Create { email, tenant, role, product, locale } => {
                let body =
                    json!({ "tenant": tenant, "email": email, "role": role, "product": product, "locale": locale });
                Call::post(&["invitations"], &body)
            }
            Self::Resend { invitation } => Call::post(&["invitations", &invitation, "resend"], &json!({})),
            Self::Revoke { invitation } => Call::post(&["invitations", &invitation, "revoke"], &json!({})),
        };
        session.printer.one(&session.client.send(call).await?, FIELDS)
    }
}
