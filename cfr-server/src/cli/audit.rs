//! `cfr-server audit`: what was done, and whether the log of it is whole.

use std::process::ExitCode;

use cfr_billing::audit_log::{AuditEvent, BrokenChain, Chain};
use cfr_billing::store::{PAGE_ROWS_MAX, Store};
use clap::{Args, Subcommand};
use serde_json::json;

use super::error::CliError;
use super::output::{Column, Printer};
use super::{Connection, PageArgs, in_session};
use crate::command::Source;
use crate::database::Database;
use crate::state::StartError;
use crate::terminal;

/// The log could not be read.
const UNREADABLE: u8 = 2;

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List what was done, the newest first
    List(Box<List>),
    /// Check that no event was changed, removed or added since it was written
    ///
    /// Works while servers run. Exits with 0 when the log is whole, with 1 when it is not, and with 2 when it cannot be
    /// read. Keep the last hash that it prints somewhere else: it proves everything before it.
    Verify(Verify),
}

/// Which events.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    connection: Connection,
    /// Only of this tenant, by id or slug
    #[arg(long)]
    tenant: Option<String>,
    /// Only by the key or user with this id
    #[arg(long)]
    actor: Option<String>,
    /// Only this action, or all that begin so, as in `key.`
    #[arg(long)]
    action: Option<String>,
    /// Only about the thing with this id
    #[arg(long)]
    target: Option<String>,
    /// Only from this moment on, as in 2026-11-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only before this moment
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    source: Source,
    /// Print JSON in place of a line
    #[arg(long)]
    json: bool,
}

const COLUMNS: &[Column] = &[
    ("SEQ", "/seq"),
    ("AT", "/at"),
    ("ACTION", "/action"),
    ("TARGET", "/target"),
    ("BY", "/actor/kind"),
    ("ID", "/actor/id"),
    ("FROM", "/actor/address"),
];

impl List {
    async fn run(self) -> Result<(), CliError> {
        let call = self.page.of(&["audit-events"]).query("tenant", self.tenant).query("actor", self.actor);
        let call = call.query("action", self.action).query("target", self.target);
        let call = call.query("from", self.from).query("to", self.to);
        in_session(self.connection, async |session| {
            let listing = session.client.send(call).await?;
            session.printer.list(&listing, COLUMNS)
        })
        .await
    }
}

/// Runs a command about the audit log. What keeps it from its work goes to the standard error.
pub(crate) async fn run(command: Command) -> ExitCode {
    let outcome = match command {
        Command::List(list) => list.run().await.map(|()| true),
        Command::Verify(arguments) => verify(&arguments).await,
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = terminal::remark(&format!("cfr-server: {error}"));
            ExitCode::from(UNREADABLE)
        }
    }
}

/// Whether the log is whole.
async fn verify(arguments: &Verify) -> Result<bool, CliError> {
    let config = arguments.source.load_without_keys().map_err(StartError::from)?;
    let database = Database::open_read_only(&config).await?;
    let followed = follow(&*database.store()).await;
    database.close().await?;
    let (chain, broken) = followed?;
    let hash: String = chain.hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let finding = broken.map(|broken| broken.to_string());
    let report = json!({ "events": chain.seq, "hash": hash, "whole": finding.is_none(), "finding": finding });
    let text = match &finding {
        None => format!("the audit log is whole: {} events, the last with hash {hash}\n", chain.seq),
        Some(finding) => format!("{finding}; the {} before it are as they were written\n", chain.seq),
    };
    Printer { json: arguments.json }.text(&report, &text)?;
    Ok(finding.is_none())
}

/// How far the log is as it was written, and where it is not.
async fn follow(store: &dyn Store) -> Result<(Chain, Option<BrokenChain>), CliError> {
    let mut chain = Chain::default();
    loop {
        let events: Vec<AuditEvent> = store.audit_chain(chain.seq, PAGE_ROWS_MAX).await.map_err(StartError::from)?;
        if events.is_empty() {
            return Ok((chain, None));
        }
        for event in &events {
            if let Err(broken) = chain.follow(event) {
                return Ok((chain, Some(broken)));
            }
        }
    }
}
