//! The audit log.

use super::tables::page;
use crate::audit_log::{Act, AuditEvent, AuditFilter, Chain, Event};
use crate::store::{Page, PageRequest};

#[derive(Debug, Default)]
pub(super) struct Log {
    chain: Chain,
    events: Vec<AuditEvent>,
}

impl Log {
    pub(super) fn record(&mut self, event: &Event, act: &Act) {
        self.events.push(self.chain.append(act, event));
    }

    pub(super) fn list(&self, filter: &AuditFilter, request: PageRequest) -> Page<AuditEvent> {
        let wanted = self.events.iter().rev().filter(|event| filter.wants(event));
        page(wanted.map(|event| (event.seq.unsigned_abs().into(), event.clone())), request, true)
    }

    pub(super) fn after(&self, seq: i64, limit: u32) -> Vec<AuditEvent> {
        self.events.iter().filter(|event| event.seq > seq).take(limit as usize).cloned().collect()
    }
}
