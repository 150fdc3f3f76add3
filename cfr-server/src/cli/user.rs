//! `cfr-server user`.

use clap::Subcommand;
use serde_json::json;

use super::client::Call;
use super::error::CliError;
use super::output::{Column, details, note};
use super::tenant::given;
use super::{PageArgs, Session, Verb, ask};
use crate::api::schema::{Role, UserStatus};

/// What to do with users.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List users
    List {
        /// Only those of this tenant, by id or slug
        #[arg(long)]
        tenant: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Create a user; on a product, they get a budget by its terms
    Create {
        /// The e-mail address
        email: String,
        /// The tenant, by id or slug
        #[arg(long)]
        tenant: String,
        /// The product, by id or code
        #[arg(long)]
        product: Option<String>,
        /// Their name [default: the address]
        #[arg(long)]
        name: Option<String>,
        /// What they may do [default: user]
        #[arg(long, value_parser = Role::WORDS.to_vec())]
        role: Option<String>,
    },
    /// Show a user
    Show {
        /// Id or e-mail address
        user: String,
    },
    /// Change a user
    Set {
        /// Id or e-mail address
        user: String,
        /// A new name
        #[arg(long)]
        name: Option<String>,
        /// A new role
        #[arg(long, value_parser = Role::WORDS.to_vec())]
        role: Option<String>,
        /// A new state; the requests of a user who is not active are refused at once
        #[arg(long, value_parser = UserStatus::WORDS.to_vec())]
        status: Option<String>,
        /// Another product, by id or code; the budget follows with its next period
        #[arg(long)]
        product: Option<String>,
    },
    /// Admit a user who waits: a place in the tenant, the product, a budget by its terms
    Activate {
        /// Id or e-mail address
        user: String,
        /// The product, by id or code [default: the one that they signed up for]
        #[arg(long)]
        product: Option<String>,
        /// Make a first key of this name for them, and show its secret, this once
        #[arg(long, value_name = "NAME")]
        first_key: Option<String>,
    },
    /// Turn a user down who waits; the address stays taken
    Reject {
        /// Id or e-mail address
        user: String,
    },
    /// Lock a user out; their requests are refused at once, and `set --status active` lets them in again
    Suspend {
        /// Id or e-mail address
        user: String,
    },
    /// Forget a user for good: only an id is left, in usage and in the books
    Erase {
        /// Id or e-mail address
        user: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

const COLUMNS: &[Column] = &[
    ("E-MAIL", "/email"),
    ("NAME", "/name"),
    ("ROLE", "/role"),
    ("STATUS", "/status"),
    ("PRODUCT", "/product"),
    ("ID", "/id"),
];

const FIELDS: &[Column] = &[
    ("id", "/id"),
    ("tenant", "/tenant"),
    ("e-mail", "/email"),
    ("name", "/name"),
    ("role", "/role"),
    ("status", "/status"),
    ("product", "/product"),
    ("product version", "/product_version"),
    ("created", "/created_at"),
    ("changed", "/updated_at"),
];

const SECRET: &[Column] = &[("secret of the first key", "/secret")];

impl Verb for Command {
    async fn run(self, session: &Session) -> Result<(), CliError> {
        let call = match self {
            Self::List { tenant, page } => {
                let listing = session.client.send(page.of(&["users"]).query("tenant", tenant)).await?;
                return session.printer.list(&listing, COLUMNS);
            }
            Self::Create { email, tenant, product, name, role } => {
                let body = json!({"email": email, "tenant": tenant, "product": product, "name": name, "role": role});
                Call::post(&["users"], &body)
            }
            Self::Show { user } => Call::get(&["users", &user]),
            Self::Set { user, name, role, status, product } => {
                let changes = [
                    ("name", json!(name)),
                    ("role", json!(role)),
                    ("status", json!(status)),
                    ("product", json!(product)),
                ];
                Call::patch(&["users", &user], &given(changes))
            }
            Self::Activate { user, product, first_key } => {
                let body = given([("product", json!(product)), ("first_key", json!(first_key))]);
                return activate(session, Call::post(&["users", &user, "activate"], &body)).await;
            }
            Self::Reject { user } => Call::post(&["users", &user, "reject"], &json!({})),
            Self::Suspend { user } => Call::patch(&["users", &user], &json!({"status": "suspended"})),
            Self::Erase { user, yes } => {
                if !yes {
                    ask::confirm(&format!("{user} will be forgotten for good. Go on?"))?;
                }
                Call::post(&["users", &user, "erase"], &json!({}))
            }
        };
        session.printer.one(&session.client.send(call).await?, FIELDS)
    }
}

/// Shows who was admitted, with the secret of their first key where one was made.
async fn activate(session: &Session, call: Call) -> Result<(), CliError> {
    let done = session.client.send(call).await?;
    let has_key = !done["secret"].is_null();
    let mut text = details(&done["user"], FIELDS);
    if has_key {
        text.push_str(&details(&done, SECRET));
    }
    session.printer.text(&done, &text)?;
    if session.printer.json || !has_key { Ok(()) } else { note("Keep the secret now: it is shown this once.") }
}
