//! Leads: who asked to be told more, and what became of it.

use std::sync::Arc;

use cfr_core::id::{LeadId, TenantId};
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::audit_log::Subject;
use crate::identity::Language;

/// What became of a lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LeadStatus {
    /// Nobody answered yet.
    New,
    /// Somebody answered.
    Contacted,
    /// They became a customer.
    Won,
    /// They did not.
    Lost,
}

/// Somebody who asked to be told more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lead {
    /// Its id.
    pub id: LeadId,
    /// Who asks.
    pub name: Arc<str>,
    /// For whom.
    pub company: Option<Arc<str>>,
    /// Where they are answered.
    pub email: Arc<str>,
    /// What they wrote.
    pub message: Arc<str>,
    /// The language in which they are answered.
    pub locale: Language,
    /// When they agreed that this is kept.
    pub consent_at: Timestamp,
    /// What became of it.
    pub status: LeadStatus,
    /// What is noted for those who answer.
    pub note: Option<Arc<str>>,
    /// Counts its changes, from 1.
    pub version: i64,
    /// When it came.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Lead {
    /// The form in which two addresses are the same.
    #[must_use]
    pub fn address(email: &str) -> String {
        email.trim().to_lowercase()
    }
}

/// Which leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeadFilter {
    /// Only those with this status.
    pub status: Option<LeadStatus>,
    /// Only those with this address, without regard to case.
    pub email: Option<Arc<str>>,
    /// Only those that were last changed before this moment.
    pub before: Option<Timestamp>,
}

impl LeadFilter {
    /// Whether it wants a lead.
    #[must_use]
    pub fn wants(&self, lead: &Lead) -> bool {
        self.status.is_none_or(|status| lead.status == status)
            && self.email.as_ref().is_none_or(|email| Lead::address(email) == Lead::address(&lead.email))
            && self.before.is_none_or(|before| lead.updated_at < before)
    }
}

impl Subject for Lead {
    const PERSONAL: &'static [&'static str] = &["name", "company", "email", "message", "note"];

    fn target(&self) -> Arc<str> {
        self.id.to_string().into()
    }

    fn tenant(&self) -> Option<TenantId> {
        None
    }
}
