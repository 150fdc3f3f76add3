//! A provider without a network: answers every model like a model would, the same prompt always the same way.
//!
//! For demonstrations, tests and benchmarks. It honours caps, `stop`, `n`, tools, response formats, log probabilities,
//! legacy completions, embeddings, images, speech, transcripts, moderations, reranks and realtime conversations, streams token by token, and
//! reports usage.
//!
//! **Counting.** A prompt costs one token per four bytes of its texts, tools and schema, rounded up: never more than
//! it has bytes. Images are accepted and cost nothing. An answer costs the tokens that it really has; a word with the
//! blank before it is a token.
//!
//! **Orders in the last message** make it misbehave: see [`script::Script`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cfr_core::chat::{Dialect, Operation};
use cfr_core::upstream::{
    Capabilities, Order, RealtimeOrder, RealtimeSocket, Reply, TokenCount, Upstream, UpstreamError,
};

mod answer;
mod batches;
mod embedding;
mod foreign;
mod judged;
pub mod log;
mod media;
mod prompt;
mod realtime;
mod render;
mod schema;
pub mod script;
mod serve;
mod words;

pub use log::{FakeLog, Served};

use crate::openai;
use batches::Shelf;
use prompt::Prompt;
use realtime::Talk;

/// The time between two tokens when none is set.
pub const PACE_DEFAULT: Duration = Duration::from_millis(5);

/// What it can do.
pub const CAPABILITIES: Capabilities = Capabilities::ALL;

/// The provider without a network.
#[derive(Debug, Clone)]
pub struct Fake {
    pace: Duration,
    log: Arc<FakeLog>,
    shelf: Arc<Shelf>,
}

impl Default for Fake {
    fn default() -> Self {
        Self { pace: PACE_DEFAULT, log: Arc::default(), shelf: Arc::default() }
    }
}

impl Fake {
    /// One that answers at once, for tests.
    #[must_use]
    pub fn instant() -> Self {
        Self::default().with_pace(Duration::ZERO)
    }

    /// The same with `pace` between two tokens of a stream.
    #[must_use]
    pub fn with_pace(self, pace: Duration) -> Self {
        Self { pace, ..self }
    }

    /// What it served so far; shared by its clones.
    #[must_use]
    pub fn log(&self) -> Arc<FakeLog> {
        Arc::clone(&self.log)
    }
}

#[async_trait]
impl Upstream for Fake {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    async fn send(&self, order: Order<'_>) -> Result<Reply, UpstreamError> {
        match order.call.operation.dialect() {
            Dialect::OpenAi => self.answer(order).await,
            _ => foreign::send(self, order).await,
        }
    }

    async fn connect(&self, order: RealtimeOrder<'_>) -> Result<Box<dyn RealtimeSocket>, UpstreamError> {
        Ok(Box::new(Talk::new(order.model, self.pace, self.log())))
    }

    async fn count(&self, order: Order<'_>) -> Result<Option<TokenCount>, UpstreamError> {
        let tokens = match order.call.operation.dialect() {
            Dialect::OpenAi => Prompt::read(&order)?.tokens,
            _ => foreign::count(&order)?,
        };
        Ok(Some(TokenCount { tokens, body: None }))
    }
}

impl Fake {
    /// Answers a call in OpenAI's dialect.
    async fn answer(&self, order: Order<'_>) -> Result<Reply, UpstreamError> {
        let prompt = Prompt::read(&order)?;
        let entry = self.log.open(&order, prompt.tokens);
        script::obey_before(&prompt.script, &order).await?;
        if order.call.operation == Operation::Embeddings {
            return embedding::reply(&prompt, &order, entry);
        }
        if matches!(order.call.operation, Operation::Moderations | Operation::Rerank) {
            return Ok(judged::reply(&prompt, &order, entry));
        }
        if openai::is_media(order.call.operation) {
            return media::reply(&prompt, &order, self.pace, &entry);
        }
        let answers = answer::compose(&prompt, order.model);
        if order.call.envelope.stream {
            return Ok(serve::stream(&prompt, &order, answers, self.pace, entry));
        }
        serve::whole(&prompt, &order, &answers, entry)
    }
}
