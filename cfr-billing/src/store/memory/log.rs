//! The audit log.

use super::tables::page;
use crate::audit_log::{Act, AuditEvent, AuditFilter, Chain, Event, Origin};
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

    /// Forgets where somebody acted from.
    pub(super) fn forget_origins(&mut self, actor: &str) {
        for event in self.events.iter_mut().filter(|event| event.actor.id.as_deref() == Some(actor)) {
            (event.actor.address, event.actor.agent) = (None, None);
            event.origin = event.origin.map(|origin| Origin { salt: None, ..origin });
        }
    }

    pub(super) fn list(&self, filter: &AuditFilter, request: PageRequest) -> Page<AuditEvent> {
        let wanted = self.events.iter().rev().filter(|event| filter.wants(event));
        page(wanted.map(|event| (event.seq.unsigned_abs().into(), event.clone())), request, true)
    }

    pub(super) fn after(&self, seq: i64, limit: u32) -> Vec<AuditEvent> {
        self.events.iter().filter(|event| event.seq > seq).take(limit as usize).cloned().collect()
    }
}
