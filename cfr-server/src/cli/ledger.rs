//! `cfr-server ledger`: reads the books themselves, with or without a server that runs.

use std::process::ExitCode;
use std::sync::Arc;

use cfr_billing::audit_log::{Act, Actor, ActorKind};
use cfr_billing::store::{AuditRule, Correction, Finding, LedgerStore, NodeState, Store, StoreError};
use cfr_core::time::{Clock as _, SystemClock};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ask;
use super::error::CliError;
use super::output::{Column, Printer, note, table};
use crate::command::Source;
use crate::config::Config;
use crate::database::Database;
use crate::state::StartError;
use crate::terminal;

/// The books could not be read.
const UNREADABLE: u8 = 2;

/// What to do with the books.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Recompute every sum, every charge and the hash chain from what was booked
    ///
    /// Works while servers run. Exits with 0 when the books agree, with 1 when something does not, and with 2 when they
    /// cannot be read.
    Verify(Verify),
    /// Propose corrections for sums that are wrong, and book them with --apply
    ///
    /// A correction is an entry of its own, with its reason, sealed like every other: nothing that was booked is changed.
    /// What no booking can set right is named with what to do.
    Repair(Repair),
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    source: Source,
    /// Print JSON in place of lines
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Repair {
    #[command(flatten)]
    source: Source,
    /// Book the corrections
    #[arg(long, requires = "reason")]
    apply: bool,
    /// Why, for the books
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print JSON in place of a table
    #[arg(long)]
    json: bool,
}

/// Runs a command about the books. What keeps it from its work goes to the standard error.
pub(crate) async fn run(command: Command) -> ExitCode {
    let outcome = match command {
        Command::Verify(arguments) => verify(&arguments).await,
        Command::Repair(arguments) => repair(&arguments).await,
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

/// What is wrong with the books, and what only waits.
struct Report {
    findings: Vec<Finding>,
    warnings: Vec<Finding>,
}

impl Report {
    async fn of(store: &dyn Store) -> Result<Self, StoreError> {
        let findings = store.audit().await?;
        let nodes = store.nodes(SystemClock::new().now()).await?;
        let (warnings, findings) = findings.into_iter().partition::<Vec<_>, _>(|finding| finding.rule.is_warning());
        let stranded = nodes.iter().filter(|node| !node.alive && node.leases > 0).map(stranded);
        Ok(Self { findings, warnings: warnings.into_iter().chain(stranded).collect() })
    }

    fn corrections(&self) -> impl Iterator<Item = (&Finding, &Correction)> {
        self.findings.iter().filter_map(|finding| Some((finding, finding.correction.as_ref()?)))
    }
}

fn stranded(node: &NodeState) -> Finding {
    let NodeState { node: name, leased, leases, .. } = node;
    let what = format!(
        "node `{name}` does not run, but has {leased} billionths leased on {leases} accounts; {}",
        "its next start, or another node after the lease time, takes them back"
    );
    Finding::new(AuditRule::Stranded, what)
}

/// Whether the books agree.
async fn verify(arguments: &Verify) -> Result<bool, CliError> {
    let config = config(&arguments.source)?;
    let database = Database::open_read_only(&config).await?;
    let report = Report::of(&*database.store()).await;
    database.close().await?;
    let report = report.map_err(StartError::from)?;
    let clean = report.findings.is_empty();
    let database = config.database_url().to_string();
    let text = verdict(&database, &report);
    Printer { json: arguments.json }.text(&as_json(&database, &report), &text)?;
    Ok(clean)
}

fn config(source: &Source) -> Result<Config, CliError> {
    Ok(source.load_without_keys().map_err(StartError::from)?)
}

fn verdict(database: &str, report: &Report) -> String {
    let mut lines = String::new();
    for finding in &report.findings {
        let repair =
            if finding.correction.is_some() { "`ledger repair` can correct it" } else { finding.rule.advice() };
        lines.push_str(&format!("{}: {finding} [{repair}]\n", finding.rule.name()));
    }
    for warning in &report.warnings {
        lines.push_str(&format!("warning: {warning}\n"));
    }
    let summary = match report.findings.len() {
        0 => "the books agree".into(),
        1 => "1 finding".into(),
        many => format!("{many} findings"),
    };
    lines.push_str(&format!("{database}: {summary}\n"));
    lines
}

fn as_json(database: &str, report: &Report) -> Value {
    let list = |findings: &[Finding]| findings.iter().map(finding_json).collect::<Vec<_>>();
    json!({
        "database": database,
        "clean": report.findings.is_empty(),
        "findings": list(&report.findings),
        "warnings": list(&report.warnings),
    })
}

fn finding_json(finding: &Finding) -> Value {
    let correction = finding.correction.as_ref().map(correction_json);
    json!({"rule": finding.rule.name(), "what": finding.what, "correction": correction})
}

/// Amounts are numbers of billionths: exact, and beyond what a float of a JSON reader would keep only from nine million
/// units on, so they travel as text.
fn correction_json(correction: &Correction) -> Value {
    json!({
        "account": correction.account.to_string(),
        "budget": correction.budget.to_string(),
        "sum": correction.sum.name(),
        "from_nanos": correction.from.to_string(),
        "to_nanos": correction.to.to_string(),
    })
}

const COLUMNS: &[Column] = &[
    ("ACCOUNT", "/account"),
    ("BUDGET", "/budget"),
    ("SUM", "/sum"),
    ("FROM", "/from_nanos"),
    ("TO", "/to_nanos"),
    ("REASON", "/reason"),
];

/// Whether the books agree afterwards.
async fn repair(arguments: &Repair) -> Result<bool, CliError> {
    let config = config(&arguments.source)?;
    let database = if arguments.apply {
        Database::open_as_it_is(&config).await?
    } else {
        Database::open_read_only(&config).await?
    };
    let outcome = repair_in(&*database.store(), arguments).await;
    database.close().await?;
    outcome
}

async fn repair_in(store: &dyn Store, arguments: &Repair) -> Result<bool, CliError> {
    let report = Report::of(store).await.map_err(StartError::from)?;
    show_proposal(&report, arguments.json)?;
    let corrections: Vec<Correction> = report.corrections().map(|(_, correction)| *correction).collect();
    let Some(reason) = arguments.reason.as_deref().filter(|_| arguments.apply && !corrections.is_empty()) else {
        if !corrections.is_empty() {
            note("Nothing was changed. Add --apply --reason TEXT to book the corrections.")?;
        }
        return Ok(report.findings.is_empty());
    };
    if !arguments.yes {
        let count = corrections.len();
        ask::confirm(&format!("{count} corrections will be booked and sealed for good. Go on?"))?;
    }
    for correction in &corrections {
        book(store, correction, reason).await?;
    }
    let count = corrections.len();
    note(&format!("{count} correction{} booked.", if count == 1 { " is" } else { "s are" }))?;
    let left = Report::of(store).await.map_err(StartError::from)?.findings;
    left.iter().try_for_each(|finding| note(&format!("{}: {finding}", finding.rule.name())))?;
    Ok(left.is_empty())
}

async fn book(store: &dyn LedgerStore, correction: &Correction, reason: &str) -> Result<(), CliError> {
    let by = Arc::new(Actor::of_kind(ActorKind::Operator));
    let booked = store.correct(correction, reason, &Act { by, at: SystemClock::new().now() }).await;
    Ok(booked.map_err(StartError::from)?)
}

/// The corrections as a table, and what no booking can set right.
fn show_proposal(report: &Report, json: bool) -> Result<(), CliError> {
    let rows: Vec<Value> = report.corrections().map(|(finding, correction)| row(finding, correction)).collect();
    let rest: Vec<&Finding> = report.findings.iter().filter(|finding| finding.correction.is_none()).collect();
    let mut text = if rows.is_empty() { "No sum needs a correction.\n".into() } else { table(&rows, COLUMNS) };
    for finding in &rest {
        text.push_str(&format!(
            "{}: {finding}; no booking sets this right: {}\n",
            finding.rule.name(),
            finding.rule.advice()
        ));
    }
    let rest: Vec<Value> = rest.into_iter().map(finding_json).collect();
    Printer { json }.text(&json!({"corrections": rows, "beyond_repair": rest}), &text)
}

fn row(finding: &Finding, correction: &Correction) -> Value {
    let mut row = correction_json(correction);
    let what = finding.what.split_once(": ").map_or(&*finding.what, |(_, what)| what);
    if let Some(fields) = row.as_object_mut() {
        fields.insert("reason".into(), what.into());
    }
    row
}
