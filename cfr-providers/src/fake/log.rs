//! What the fake provider really served, for tests that compare it with what was charged.

use std::sync::{Arc, Mutex, PoisonError};

use cfr_core::chat::Operation;
use cfr_core::id::RequestId;
use cfr_core::upstream::Order;

/// Every call that came, in order.
#[derive(Debug, Default)]
pub struct FakeLog {
    calls: Mutex<Vec<Served>>,
}

/// One call and what was served of it so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The request.
    pub id: RequestId,
    /// What was asked for.
    pub operation: Operation,
    /// The model by the upstream's name.
    pub model: Box<str>,
    /// The cap on answer tokens that the router set.
    pub output_tokens_max: Option<u64>,
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of answer that were handed out.
    pub output_tokens: u64,
    /// Whether the answer, and the usage with it, was handed out to its end.
    pub finished: bool,
}

impl FakeLog {
    /// All calls so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Served> {
        self.lock().clone()
    }

    /// How many calls came.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Tokens of answer handed out in all calls.
    #[must_use]
    pub fn output_tokens(&self) -> u64 {
        self.lock().iter().map(|call| call.output_tokens).sum()
    }

    pub(super) fn open(self: &Arc<Self>, order: &Order<'_>, input_tokens: u64) -> Entry {
        self.push(Served {
            id: order.call.id,
            operation: order.call.operation,
            model: order.model.into(),
            output_tokens_max: order.output_tokens_max,
            input_tokens,
            output_tokens: 0,
            finished: false,
        })
    }

    /// A response in a conversation.
    pub(super) fn open_response(
        self: &Arc<Self>,
        id: RequestId,
        model: &str,
        output_tokens_max: Option<u64>,
        input_tokens: u64,
    ) -> Entry {
        let (operation, model) = (Operation::Realtime, model.into());
        self.push(Served { id, operation, model, output_tokens_max, input_tokens, output_tokens: 0, finished: false })
    }

    fn push(self: &Arc<Self>, served: Served) -> Entry {
        let mut calls = self.lock();
        calls.push(served);
        Entry { log: Arc::clone(self), index: calls.len() - 1 }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Served>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The line of one call.
#[derive(Debug)]
pub(super) struct Entry {
    log: Arc<FakeLog>,
    index: usize,
}

impl Entry {
    pub(super) fn add(&self, tokens: u64) {
        self.change(|call| call.output_tokens += tokens);
    }

    pub(super) fn finish(&self) {
        self.change(|call| call.finished = true);
    }

    fn change(&self, change: impl FnOnce(&mut Served)) {
        if let Some(call) = self.log.lock().get_mut(self.index) {
            change(call);
        }
    }
}
