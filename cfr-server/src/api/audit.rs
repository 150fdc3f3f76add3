//! `/audit-events`: who changed what, when, and from where.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json as Answer;
use cfr_billing::audit_log::{ActorKind, AuditEvent as Row, AuditFilter};
use cfr_core::id::{RequestId, TenantId};
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::desk::Desk;
use super::input::Params;
use super::page::{Listing, page_request};
use super::problem::{Problem, Problems};
use super::{lookup, schema};

pub(crate) mod export;

/// Something that was done. Names and addresses of people are not in it, only that they changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditEvent {
    /// Its place in the log, from 1, without gaps.
    pub(crate) seq: i64,
    /// When.
    #[schema(value_type = schema::Time)]
    pub(crate) at: Timestamp,
    /// What was done: the kind of thing, a dot, and what happened to it.
    #[schema(value_type = String, example = "key.revoked")]
    pub(crate) action: Arc<str>,
    /// The id of the thing.
    #[schema(value_type = String, example = "key_01kahr4kz8fyksn1c1d5v2c9zt")]
    pub(crate) target: Arc<str>,
    /// The tenant that it concerns; null for what concerns the platform.
    #[schema(value_type = Option<schema::TenantId>)]
    pub(crate) tenant: Option<TenantId>,
    /// Who did it.
    pub(crate) actor: Actor,
    /// Of a new thing its fields, of a changed one `[before, after]` for each field that changed.
    #[schema(value_type = Object, example = json!({"status": ["active", "revoked"]}))]
    pub(crate) changes: Box<RawValue>,
    /// SHA-256 over the hash of the event before it and over this event, in hexadecimal digits.
    pub(crate) hash: String,
}

/// Who did something, and from where.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Actor {
    /// What kind of actor.
    #[schema(value_type = schema::ActorKind)]
    pub(crate) kind: ActorKind,
    /// The key or user; null for the operator and for the server itself.
    #[schema(value_type = Option<String>)]
    pub(crate) id: Option<Arc<str>>,
    /// The address at the other end of the connection: the client's, or that of a proxy.
    #[schema(value_type = Option<String>, example = "192.0.2.7")]
    pub(crate) address: Option<IpAddr>,
    /// What the client calls itself.
    #[schema(value_type = Option<String>)]
    pub(crate) agent: Option<Arc<str>>,
    /// The request.
    #[schema(value_type = Option<schema::RequestId>)]
    pub(crate) request: Option<RequestId>,
}

impl TryFrom<Row> for AuditEvent {
    type Error = Problem;

    fn try_from(row: Row) -> Result<Self, Problem> {
        let Row { seq, at, actor, tenant, action, target, changes, hash, .. } = row;
        let actor = Actor {
            kind: actor.kind,
            id: actor.id,
            address: actor.address,
            agent: actor.agent,
            request: actor.request,
        };
        let changes = RawValue::from_string(changes.as_ref().into()).map_err(Problem::internal)?;
        let hash = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { seq, at, action, target, tenant, actor, changes, hash })
    }
}

/// Which events.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
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
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[0-9a-f]{32}$")]
    pub(crate) cursor: Option<String>,
    /// Rows on the page, 1 to 1000; 100 when absent.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: Option<u32>,
}

/// List what was done, the newest first.
#[utoipa::path(get, path = "/audit-events", operation_id = "list_audit_events", tag = "audit", params(AuditQuery),
    responses((status = 200, description = "A page of events", body = Listing<AuditEvent>), Problems))]
pub(crate) async fn list(
    desk: Desk,
    Params(query): Params<AuditQuery>,
) -> Result<Answer<Listing<AuditEvent>>, Problem> {
    let page = page_request(query.cursor.as_deref(), query.limit)?;
    let found = desk.store.audit_events(&filter(&desk, query).await?, page).await?;
    let items = found.items.into_iter().map(AuditEvent::try_from).collect::<Result<_, Problem>>()?;
    Ok(Answer(Listing::page(items, found.next)))
}

async fn filter(desk: &Desk, query: AuditQuery) -> Result<AuditFilter, Problem> {
    Ok(AuditFilter {
        tenant: lookup::tenant_filter(&*desk.store, query.tenant.as_deref()).await?,
        actor: query.actor.map(Into::into),
        action: query.action.map(Into::into),
        target: query.target.map(Into::into),
        from: query.from,
        until: query.to,
    })
}
