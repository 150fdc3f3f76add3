//! `cfr-server prices`.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Subcommand;
use http::Method;
use rust_decimal::Decimal;
use serde_json::Value;

use super::client::Call;
use super::error::CliError;
use super::output::{Column, details, items, table};
use super::{PageArgs, Session, Verb};

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
    /// Put a price table in force for new requests
    Import {
        /// A table of schema cfr.prices/1
        file: PathBuf,
        /// Do it; without this, the change is only shown
        #[arg(long)]
        yes: bool,
    },
}

const COLUMNS: &[Column] = &[
    ("PROVIDER", "/provider"),
    ("MODEL", "/model"),
    ("MODE", "/mode"),
    ("FROM", "/effective_from"),
    ("TO", "/effective_to"),
];

const FIELDS: &[Column] = &[
    ("provider", "/provider"),
    ("model", "/model"),
    ("aliases", "/aliases"),
    ("mode", "/mode"),
    ("currency", "/currency"),
    ("from", "/effective_from"),
    ("to", "/effective_to"),
    ("shut down", "/shutdown_date"),
    ("input tokens at most", "/input_tokens_max"),
    ("output tokens at most", "/output_tokens_max"),
];

const RATE_COLUMNS: &[Column] = &[
    ("METER", "/meter"),
    ("TIER", "/tier"),
    ("ABOVE", "/above"),
    ("PRICE", "/price"),
    ("PER MILLION", "/per_million"),
];

const TABLE_FIELDS: &[Column] =
    &[("version", "/version"), ("as of", "/as_of"), ("entries", "/entries"), ("providers", "/providers")];

const CHANGE_COLUMNS: &[Column] = &[
    ("CHANGE", "/change"),
    ("PROVIDER", "/provider"),
    ("MODEL", "/model"),
    ("METER", "/meter"),
    ("TIER", "/tier"),
    ("ABOVE", "/above"),
    ("BEFORE", "/before"),
    ("AFTER", "/after"),
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
                let shown: Vec<_> = items(&listing).iter().map(price).collect();
                session.printer.text(&listing, &shown.join("\n"))
            }
            Self::Table => session.printer.one(&client.send(Call::get(&["price-table"])).await?, TABLE_FIELDS),
            Self::Diff { file } => {
                let diff = client.send(upload(Method::POST, &["price-table", "diff"], &file)?).await?;
                session.printer.text(&diff, &differences(&diff))
            }
            Self::Import { file, yes: false } => {
                let diff = client.send(upload(Method::POST, &["price-table", "diff"], &file)?).await?;
                session.printer.text(&diff, &differences(&diff))?;
                Err(CliError::misused("nothing was imported: add --yes to put this table in force"))
            }
            Self::Import { file, yes: true } => {
                let done = client.send(upload(Method::PUT, &["price-table"], &file)?).await?;
                let text = format!("{}\n{}", differences(&done), details(&done["table"], TABLE_FIELDS));
                session.printer.text(&done, &text)
            }
        }
    }
}

fn upload(method: Method, segments: &[&str], file: &Path) -> Result<Call, CliError> {
    let what = format!("cannot read {}", file.display());
    let body = std::fs::read(file).map_err(|source| CliError::Io { what: what.into(), source })?;
    Ok(Call::new(method, segments).body(Bytes::from(body)))
}

fn price(price: &Value) -> String {
    let rows = |name: &str| price.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut rates = rows("rates");
    rates.iter_mut().for_each(add_per_million);
    rates.extend(rows("fees"));
    format!("{}\n{}", details(price, FIELDS), table(&rates, RATE_COLUMNS))
}

/// People compare prices of a million tokens.
fn add_per_million(rate: &mut Value) {
    let price = rate["price"].as_str().and_then(|price| price.parse::<Decimal>().ok());
    let million = price.and_then(|price| price.checked_mul(Decimal::from(1_000_000)));
    rate["per_million"] = million.map(|million| million.normalize().to_string()).into();
}

fn differences(diff: &Value) -> String {
    match diff["changes"].as_array().map(Vec::as_slice) {
        None | Some([]) => "No price differs.\n".into(),
        Some(changes) => format!("{}{} differences\n", table(changes, CHANGE_COLUMNS), changes.len()),
    }
}
