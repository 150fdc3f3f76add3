//! The audit log as a file.

use std::sync::Arc;

use axum::response::Response;
use cfr_billing::audit_log::AuditEvent as Row;
use serde::Serialize;

use super::super::desk::Desk;
use super::super::export::{self, FileFormat, Format};
use super::super::input::Params;
use super::super::problem::{Problem, Problems};
use super::super::schema;
use super::{AuditEvent, AuditQuery, filter};
use cfr_core::time::Timestamp;
use serde::Deserialize;

/// Which events, and how they are written.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportQuery {
    /// Only those of this tenant, by id or slug.
    pub(crate) tenant: Option<String>,
    /// Only those of the key or user with this id.
    pub(crate) actor: Option<String>,
    /// Only those of this action, or of all whose name begins so, as in `key.`.
    pub(crate) action: Option<String>,
    /// Only those about the thing with this id.
    pub(crate) target: Option<String>,
    /// Only those at or after this moment.
    #[param(value_type = Option<schema::Time>)]
    pub(crate) from: Option<Timestamp>,
    /// Only those before this moment.
    #[param(value_type = Option<schema::Time>)]
    pub(crate) to: Option<Timestamp>,
    /// `jsonl` or `csv`; `jsonl` when absent.
    #[param(inline)]
    pub(crate) format: Option<FileFormat>,
}

/// An event as a line of a table.
#[derive(Debug, Serialize)]
struct Line {
    seq: i64,
    at: Timestamp,
    action: Arc<str>,
    target: String,
    tenant: Option<String>,
    actor_kind: cfr_billing::audit_log::ActorKind,
    actor: Option<Arc<str>>,
    address: Option<String>,
    agent: Option<String>,
    request: Option<String>,
    changes: String,
    hash: String,
}

impl Line {
    fn of(row: Row) -> Self {
        Self {
            seq: row.seq,
            at: row.at,
            action: row.action,
            target: export::cell(&row.target),
            tenant: row.tenant.map(|id| id.to_string()),
            actor_kind: row.actor.kind,
            actor: row.actor.id,
            address: row.actor.address.map(|address| address.to_string()),
            agent: row.actor.agent.map(|agent| export::cell(&agent)),
            request: row.actor.request.map(|id| id.to_string()),
            changes: export::cell(&row.changes),
            hash: row.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

/// Download the audit log, the newest event first. With its hashes it can be kept where nobody here can change it.
#[utoipa::path(get, path = "/audit-events/export", operation_id = "export_audit_events", tag = "audit",
    params(ExportQuery), responses((status = 200, description = "The events",
        content((String = "application/x-ndjson"), (String = "text/csv"))), Problems))]
pub(crate) async fn download(desk: Desk, Params(query): Params<ExportQuery>) -> Result<Response, Problem> {
    let ExportQuery { tenant, actor, action, target, from, to, format } = query;
    let query = AuditQuery { tenant, actor, action, target, from, to, cursor: None, limit: None };
    let (filter, store) = (filter(&desk, query).await?, Arc::clone(&desk.store));
    let fetch = move |page| {
        let (store, filter) = (Arc::clone(&store), filter.clone());
        async move { Ok(store.audit_events(&filter, page).await?) }
    };
    match format.unwrap_or(FileFormat::Jsonl) {
        FileFormat::Csv => {
            export::pages("audit-events", Format::Csv, fetch, |rows, first| {
                export::csv(rows.into_iter().map(Line::of), first)
            })
            .await
        }
        FileFormat::Jsonl => {
            export::pages("audit-events", Format::Jsonl, fetch, |rows: Vec<Row>, _| {
                let shown = rows.into_iter().map(AuditEvent::try_from).collect::<Result<Vec<_>, Problem>>()?;
                export::json_lines(&shown)
            })
            .await
        }
    }
}
