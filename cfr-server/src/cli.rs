//! The management commands: `tenant`, `product`, `user`, `invitation`, `key`, `budget`, `usage`, `prices`, `node`, `oidc-client`.
//!
//! Each is a client of the management API and of nothing else: of a running server's, or of one without a socket over the
//! data folder when no server runs.

use std::path::PathBuf;

use cfr_core::secret::Secret;
use clap::{Args, Subcommand};

mod account;
pub(crate) mod admin;
mod ask;
pub(crate) mod audit;
mod budget;
mod client;
pub(crate) mod error;
mod invitation;
mod key;
pub(crate) mod ledger;
mod local;
mod node;
mod oidc_client;
pub(crate) mod output;
mod prices;
mod product;
mod secrets;
pub(crate) mod store;
mod tenant;
mod usage;
mod user;

use self::client::{Call, Client};
use self::error::CliError;
use self::output::Printer;
use crate::command::secret;

/// A management command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Customer organisations
    Tenant(Noun<tenant::Command>),
    /// What is sold, in immutable versions
    Product(Noun<product::Command>),
    /// People inside tenants
    User(Noun<user::Command>),
    /// Who may become a user of a tenant
    Invitation(Noun<invitation::Command>),
    /// API keys; a secret is shown once
    Key(Noun<key::Command>),
    /// Limits per period, what is left of them, and grants
    Budget(Noun<budget::Command>),
    /// Programs that people sign in to with their account here
    OidcClient(Noun<oidc_client::Command>),
    /// What was used and charged
    Usage(Noun<usage::Command>),
    /// What providers charge
    Prices(Noun<prices::Command>),
    /// Accounts at providers, beside those of the configuration
    Account(Noun<account::Command>),
    /// The keys under which secrets are sealed
    Secrets(Noun<secrets::Command>),
    /// The processes that share the database
    Node(Noun<node::Command>),
}

/// A command about one kind of thing.
#[derive(Debug, Args)]
pub(crate) struct Noun<C: Subcommand> {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: C,
}

/// Where the management API is, and how its answers are shown.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every management command")]
pub(crate) struct Connection {
    /// Print the API's JSON in place of a table
    #[arg(long, global = true)]
    json: bool,
    /// A running server, as in http://127.0.0.1:4000 [default: the one that has the data folder, else the folder itself]
    #[arg(long, global = true, value_name = "URL", env = "CFR_SERVER_URL")]
    server: Option<String>,
    /// The admin key for the server [default: the first one, from the data folder]
    #[arg(long, global = true, value_name = "KEY", env = "CFR_ADMIN_KEY", hide_env_values = true, value_parser = secret)]
    admin_key: Option<Secret>,
    /// The data folder, when no server is named [default: the configuration's, else ./cfr-data]
    #[arg(long, global = true, value_name = "FOLDER", env = "CFR_DATA")]
    data: Option<PathBuf>,
    /// The database, when no server is named: sqlite:path or postgres://user@host/name; a password belongs into
    /// CFR_DATABASE_URL [default: the configuration's, else cfr.db in the data folder]
    #[arg(long, global = true, value_name = "URL", value_parser = secret)]
    database: Option<Secret>,
    /// The configuration, when no server is named [default: cfr.toml, when it exists]
    #[arg(long, global = true, value_name = "FILE", env = "CFR_CONFIG")]
    config: Option<PathBuf>,
}

/// Which part of a list is shown.
#[derive(Debug, Args)]
pub(crate) struct PageArgs {
    /// Rows to show, at most 1000
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Where to go on: the cursor that the page before named
    #[arg(long)]
    cursor: Option<String>,
}

impl PageArgs {
    /// The call for this part of a list.
    fn of(&self, segments: &[&str]) -> Call {
        Call::get(segments).query("limit", Some(self.limit.to_string())).query("cursor", self.cursor.as_ref())
    }
}

/// One command, told what to do with a session.
pub(crate) trait Verb: Subcommand {
    /// Does it.
    async fn run(self, session: &Session) -> Result<(), CliError>;
}

/// A management API that answers, and a way to show what it says.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    printer: Printer,
}

/// Runs a management command.
///
/// # Errors
/// One line that says what went wrong and what to do next.
pub(crate) async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Tenant(noun) => noun.run().await,
        Command::Product(noun) => noun.run().await,
        Command::User(noun) => noun.run().await,
        Command::Invitation(noun) => noun.run().await,
        Command::Key(noun) => noun.run().await,
        Command::Budget(noun) => noun.run().await,
        Command::OidcClient(noun) => noun.run().await,
        Command::Usage(noun) => noun.run().await,
        Command::Prices(noun) => noun.run().await,
        Command::Account(noun) => noun.run().await,
        Command::Secrets(Noun { command: secrets::Command::NewKey, .. }) => secrets::new_key(),
        Command::Secrets(noun) => noun.run().await,
        Command::Node(noun) => noun.run().await,
    }
}

impl<C: Verb> Noun<C> {
    async fn run(self) -> Result<(), CliError> {
        in_session(self.connection, async |session| self.command.run(session).await).await
    }
}

/// Connects, works, and closes whatever came of it.
async fn in_session(
    connection: Connection,
    work: impl AsyncFnOnce(&Session) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let printer = Printer { json: connection.json };
    let session = Session { client: Client::connect(connection).await?, printer };
    let done = work(&session).await;
    let closed = session.client.close().await;
    done.and(closed)
}
