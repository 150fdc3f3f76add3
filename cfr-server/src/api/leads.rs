//! `/leads`: who asked to be told more, for those who answer. The form itself is [`leads`](crate::leads).

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::Path;
use axum::http::StatusCode;
use cfr_billing::identity::Language;
use cfr_billing::lead::{Lead as Row, LeadFilter, LeadStatus};
use cfr_billing::store::PageRequest;
use cfr_core::id::LeadId;
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::desk::Desk;
use super::guard::Acting;
use super::input::{Checks, Json, Params, nullable};
use super::page::{Listing, page_request};
use super::precondition::{IfMatch, Versioned};
use super::problem::{Problem, Problems};
use super::{lookup, schema};

/// Somebody who asked to be told more.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Lead {
    /// Its id.
    #[schema(value_type = schema::LeadId)]
    id: LeadId,
    /// Who asks.
    #[schema(value_type = String, example = "Anna Berg")]
    name: Arc<str>,
    /// For whom.
    #[schema(value_type = Option<String>, example = "Acme GmbH")]
    company: Option<Arc<str>>,
    /// Where they are answered.
    #[schema(value_type = String, example = "anna@acme.example")]
    email: Arc<str>,
    /// What they wrote.
    #[schema(value_type = String)]
    message: Arc<str>,
    /// The language in which they are answered.
    #[schema(value_type = schema::Language)]
    locale: Language,
    /// When they agreed that this is kept.
    #[schema(value_type = schema::Time)]
    consent_at: Timestamp,
    /// What became of it.
    #[schema(value_type = schema::LeadStatus)]
    status: LeadStatus,
    /// What is noted for those who answer.
    #[schema(value_type = Option<String>)]
    note: Option<Arc<str>>,
    /// Counts changes; also in `etag`.
    version: i64,
    /// When it came.
    #[schema(value_type = schema::Time)]
    created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = schema::Time)]
    updated_at: Timestamp,
}

impl From<Row> for Lead {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            name: row.name,
            company: row.company,
            email: row.email,
            message: row.message,
            locale: row.locale,
            consent_at: row.consent_at,
            status: row.status,
            note: row.note,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// What to change of a lead. What is absent stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeLead {
    /// What became of it.
    #[schema(value_type = Option<schema::LeadStatus>)]
    status: Option<LeadStatus>,
    /// What is noted for those who answer; null for nothing.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, max_length = 2000)]
    note: Option<Option<String>>,
}

/// Who wants to be forgotten.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForgetLeads {
    /// Their address.
    #[schema(example = "anna@acme.example")]
    email: String,
}

/// How many were forgotten.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Forgotten {
    /// How many leads there were of that address.
    leads: u64,
}

/// Which leads.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LeadQuery {
    /// Only those with this status.
    #[param(value_type = Option<schema::LeadStatus>)]
    status: Option<LeadStatus>,
    /// Only those with this address.
    email: Option<String>,
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[0-9a-f]{32}$")]
    cursor: Option<String>,
    /// Rows on the page, 1 to 1000; 100 when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// List leads, the newest first.
#[utoipa::path(get, path = "/leads", operation_id = "list_leads", tag = "leads", params(LeadQuery),
    responses((status = 200, description = "A page of leads", body = Listing<Lead>), Problems))]
pub(crate) async fn list(desk: Desk, Params(query): Params<LeadQuery>) -> Result<Answer<Listing<Lead>>, Problem> {
    let page = page_request(query.cursor.as_deref(), query.limit)?;
    if let Some(email) = &query.email {
        let mut checks = Checks::default();
        checks.email("email", email);
        checks.finish()?;
    }
    let filter = LeadFilter { status: query.status, email: query.email.map(Into::into), before: None };
    Ok(Answer(Listing::of(desk.within(None)?.leads(&filter, page).await?, Lead::from)))
}

/// Show a lead.
#[utoipa::path(get, path = "/leads/{lead}", operation_id = "get_lead", tag = "leads",
    params(("lead" = schema::LeadId, Path, description = "Id")),
    responses((status = 200, description = "The lead", body = Lead,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn show(desk: Desk, Path(lead): Path<String>) -> Result<Versioned<Lead>, Problem> {
    let row = desk.within(None)?.lead(lookup::id(&lead, "lead")?).await?;
    Ok(Versioned::ok(row.version, row.into()))
}

/// Note what became of a lead.
#[utoipa::path(patch, path = "/leads/{lead}", operation_id = "change_lead", tag = "leads", request_body = ChangeLead,
    params(("lead" = schema::LeadId, Path, description = "Id"),
        ("if-match" = Option<String>, Header, description = "The `etag` that the change was made for")),
    responses((status = 200, description = "The lead as it is now", body = Lead,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn change(
    desk: Desk,
    Acting(act): Acting,
    Path(lead): Path<String>,
    if_match: IfMatch,
    Json(body): Json<ChangeLead>,
) -> Result<Versioned<Lead>, Problem> {
    let store = desk.within(None)?;
    let mut row = store.lead(lookup::id(&lead, "lead")?).await?;
    if_match.check(row.version)?;
    row.status = body.status.unwrap_or(row.status);
    if let Some(note) = body.note {
        let mut checks = Checks::default();
        if let Some(note) = &note {
            checks.text("note", note);
        }
        checks.finish()?;
        row.note = note.map(Into::into);
    }
    let row = store.update_lead(&row, &act).await?;
    Ok(Versioned::ok(row.version, row.into()))
}

/// Forget a lead.
#[utoipa::path(delete, path = "/leads/{lead}", operation_id = "remove_lead", tag = "leads",
    params(("lead" = schema::LeadId, Path, description = "Id")),
    responses((status = 204, description = "It is forgotten"), Problems))]
pub(crate) async fn remove(desk: Desk, Acting(act): Acting, Path(lead): Path<String>) -> Result<StatusCode, Problem> {
    desk.within(None)?.remove_lead(lookup::id(&lead, "lead")?, &act).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Forget everything that somebody with this address ever sent through the form (GDPR, Article 17).
#[utoipa::path(post, path = "/leads/forget", operation_id = "forget_leads", tag = "leads", request_body = ForgetLeads,
    responses((status = 200, description = "How many were forgotten", body = Forgotten), Problems))]
pub(crate) async fn forget(
    desk: Desk,
    Acting(act): Acting,
    Json(body): Json<ForgetLeads>,
) -> Result<Answer<Forgotten>, Problem> {
    let mut checks = Checks::default();
    checks.email("email", &body.email);
    checks.finish()?;
    let store = desk.within(None)?;
    let filter = LeadFilter { email: Some(body.email.into()), ..LeadFilter::default() };
    let mut leads = 0;
    loop {
        let found = store.leads(&filter, PageRequest::default()).await?.items;
        if found.is_empty() {
            return Ok(Answer(Forgotten { leads }));
        }
        for lead in found {
            store.remove_lead(lead.id, &act).await?;
            leads += 1;
        }
    }
}
