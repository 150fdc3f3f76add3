//! Places where an embedder looks at a request, refuses it or rewrites it.

use std::borrow::Cow;
use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use crate::chat::Call;
use crate::gateway::Caller;
use crate::ledger::UsageRecord;

/// Looks at a call before anything is planned or held.
#[async_trait]
pub trait PreHook: Debug + Send + Sync + 'static {
    /// Allows the call, denies it with a reason for the caller, or gives it another body.
    async fn before(&self, caller: &Caller, call: &Call) -> Verdict;
}

/// Sees the record of every call that ended, charged or not. Must not block.
pub trait PostHook: Debug + Send + Sync + 'static {
    /// Called once per call, after the settlement was decided.
    fn after(&self, caller: &Caller, record: &UsageRecord);
}

/// Looks at streamed answers.
pub trait StreamHook: Debug + Send + Sync + 'static {
    /// A filter for one answer, or none to leave it alone.
    fn begin(&self, caller: &Caller, call: &Call) -> Option<Box<dyn StreamFilter>>;
}

/// Sees one streamed answer go by and may change it. What it keeps back it must give out in `finish`.
pub trait StreamFilter: Send {
    /// Whole frames in the caller's dialect; returns what goes out in their place.
    fn event(&mut self, frames: Bytes) -> Bytes;

    /// What is still to go out when the answer ends, after everything else. The hooks after this one see it as an event.
    fn finish(&mut self) -> Bytes {
        Bytes::new()
    }
}

const _: fn(&dyn PreHook, &dyn PostHook, &dyn StreamHook) = |_, _, _| {};

/// What a pre-hook says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allow,
    /// Refuse.
    Deny(DenyReason),
    /// Go on with this body in place of the caller's; it is read again.
    Rewrite(Bytes),
}

/// Why a hook refused, in words for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DenyReason {
    /// A stable word for programs, as in `region_not_allowed`.
    pub code: Cow<'static, str>,
    /// A sentence for people.
    pub message: Cow<'static, str>,
}
