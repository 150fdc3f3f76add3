//! What a provider adds to the text of a body: its framing, and what it says to the model in words of its own.

use super::InputBound;
use super::media::{Media, Tools};

/// The chat template and its special tokens; the JSON around each message covers the template's part per message.
const TEMPLATE_TOKENS: u64 = 256;
/// What providers add once when there are tools.
const TOOLS_TOKENS: u64 = 1_024;
/// What providers add per tool.
const TOOL_TOKENS: u64 = 64;
/// What a provider says about a tool that it knows by its type, such as Anthropic's shell and editor.
const KNOWN_TOOL_TOKENS: u64 = 1_024;
/// What providers add when an answer must follow a schema.
const SCHEMA_TOKENS: u64 = 128;

/// What was read from a body, for the bound on its input.
pub(super) struct Input<'a> {
    /// No tokenizer makes more tokens of the whole body than this.
    pub(super) body_tokens: u64,
    /// Of tools and schemas: providers put them into the prompt again in a form of their own.
    pub(super) again_tokens: u64,
    pub(super) schema: bool,
    /// Whether the body refers to what it does not hold.
    pub(super) unbounded: bool,
    pub(super) cache_markers: bool,
    pub(super) predicted_tokens: u64,
    pub(super) media: &'a Media,
    pub(super) tools: &'a Tools,
}

impl Input<'_> {
    pub(super) fn bound(&self) -> InputBound {
        let Self { media, tools, .. } = self;
        let text = self.body_tokens.saturating_sub(media.image_bytes) + media.made_id_tokens;
        InputBound {
            text_tokens: text + self.again_tokens + self.hidden_tokens() + TEMPLATE_TOKENS,
            images: media.images,
            unbounded: self.unbounded || media.unbounded || tools.hosted,
            hosted_calls: tools.hosted_calls,
            web_searches: tools.web_searches,
            file_searches: tools.file_searches,
            maps_queries: tools.maps_queries,
            code_sessions: tools.code_sessions,
            cache_markers: self.cache_markers || media.cache_markers || tools.cache_markers,
            predicted_tokens: self.predicted_tokens,
            ..InputBound::default()
        }
    }

    fn hidden_tokens(&self) -> u64 {
        let Tools { count, known_to_model, .. } = *self.tools;
        let tools = if count > 0 { TOOLS_TOKENS + TOOL_TOKENS * count + KNOWN_TOOL_TOKENS * known_to_model } else { 0 };
        let schema = if self.schema { SCHEMA_TOKENS } else { 0 };
        tools + schema
    }
}
