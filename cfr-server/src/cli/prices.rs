//! `cfr-server prices`.

use std::path::PathBuf;

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;

use self::show::TABLE_FIELDS;
use super::client::Call;
use super::error::CliError;
use super::output::{Column, details, items, note};
use super::{PageArgs, Session, Verb, ask};

mod fetch;
mod show;

/// What to do with prices.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List priced models
    List {
        /// Only of this provider
        #[arg(long)]
        provider: Option<String>,
        /// Only models whose name contains this
        #[arg(long)]
        model: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show the prices of a model
    Show {
        /// As in openai/gpt-4o
        #[arg(value_name = "PROVIDER/MODEL")]
        name: String,
    },
    /// Show which price table is in force
    Table,
    /// Say what a price table would change
    Diff {
        /// A table of schema cfr.prices/1
        file: PathBuf,
    },
    /// Take in newer prices from a file or an address: shows every change, then asks
    ///
    /// A table of schema cfr.prices/1 replaces the one in force: models that it does not have are gone, and calls of
    /// them are refused. LiteLLM's model_prices_and_context_window.json, told apart by what is in it, renews the models
    /// that both know and adds new ones. Models that the file does not mention, and prices of a model that it does not
    /// say, stay as they are; so do prices that our table corrects or schedules. What is not understood is left out and
    /// listed, and so is what looks free there: no price of 0 ever comes from that file. New models of hosts whose
    /// prices nothing else confirms (together, fireworks, perplexity, cerebras) are left out as well.
    Update(Update),
    /// Look for models that are offered without a price, that their provider ends, or whose price changes within 30
    /// days, and for products below cost
    ///
    /// Exits with 1 when calls are refused, or will fail, for something that was found.
    Audit,
    /// Put a price table in force for new requests
    Import {
        /// A table of schema cfr.prices/1
        file: PathBuf,
        /// Do it; without this, the change is only shown
        #[arg(long)]
        yes: bool,
    },
}

/// Where newer prices come from, and whether they are taken.
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// A file, or an https address, as in
    /// https://raw.githubusercontent.com/BerriAI/litellm/main/model_prices_and_context_window.json
    #[arg(long, value_name = "FILE|URL")]
    from: String,
    /// Do not ask
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
    /// Take prices over http, which anybody on the way can change; from this machine they always may come so
    #[arg(long)]
    allow_http: bool,
}

const COLUMNS: &[Column] = &[
    ("PROVIDER", "/provider"),
    ("MODEL", "/model"),
    ("MODE", "/mode"),
    ("FROM", "/effective_from"),
    ("TO", "/effective_to"),
];

impl Verb for Command {
    async fn run(self, session: &Session) -> Result<(), CliError> {
        let client = &session.client;
        match self {
            Self::List { provider, model, page } => {
                let call = page.of(&["prices"]).query("provider", provider).query("model", model);
                session.printer.list(&client.send(call).await?, COLUMNS)
            }
            Self::Show { name } => {
                let (provider, model) = name
                    .split_once('/')
                    .ok_or_else(|| CliError::misused("name it as provider/model, as in openai/gpt-4o"))?;
                let listing = client.send(Call::get(&["prices", provider, model])).await?;
                let shown: Vec<_> = items(&listing).iter().map(show::price).collect();
                session.printer.text(&listing, &shown.join("\n"))
            }
            Self::Table => session.printer.one(&client.send(Call::get(&["price-table"])).await?, TABLE_FIELDS),
            Self::Diff { file } => {
                let diff = client.send(upload(Method::POST, &["price-table", "diff"], fetch::open(&file)?)).await?;
                session.printer.text(&diff, &show::differences(&diff))
            }
            Self::Update(arguments) => update(session, arguments).await,
            Self::Audit => audit(session).await,
            Self::Import { file, yes: false } => {
                let diff = client.send(upload(Method::POST, &["price-table", "diff"], fetch::open(&file)?)).await?;
                session.printer.text(&diff, &show::differences(&diff))?;
                Err(CliError::misused("nothing was imported: add --yes to put this table in force"))
            }
            Self::Import { file, yes: true } => {
                let done = client.send(upload(Method::PUT, &["price-table"], fetch::open(&file)?)).await?;
                let text = format!("{}\n{}", show::differences(&done), details(&done["table"], TABLE_FIELDS));
                session.printer.text(&done, &text)
            }
        }
    }
}

async fn update(session: &Session, arguments: Update) -> Result<(), CliError> {
    let body = fetch::read(&arguments.from, arguments.allow_http).await?;
    let diff = session.client.send(upload(Method::POST, &["price-table", "diff"], body.clone())).await?;
    session.printer.text(&diff, &show::differences(&diff))?;
    let changes = diff["changes"].as_array().map_or(0, Vec::len);
    if arguments.dry_run || changes == 0 {
        return Ok(());
    }
    if !arguments.yes {
        ask::confirm(&format!("Put these {changes} changes in force for new requests?"))?;
    }
    let done = session.client.send(upload(Method::PUT, &["price-table"], body)).await?;
    note(&format!("In force: {}", done["table"]["version"].as_str().unwrap_or_default()))
}

async fn audit(session: &Session) -> Result<(), CliError> {
    let audit = session.client.send(Call::get(&["price-table", "audit"])).await?;
    session.printer.text(&audit, &show::findings(&audit))?;
    match audit["problems"].as_u64() {
        Some(0) => Ok(()),
        _ => Err(CliError::misused("something is wrong with the prices of what is offered")),
    }
}

fn upload(method: Method, segments: &[&str], body: Bytes) -> Call {
    Call::new(method, segments).body(body)
}
