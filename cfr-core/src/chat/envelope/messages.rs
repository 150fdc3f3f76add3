//! Messages of Anthropic (providers.md §6.1).

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;

use super::bound::Input;
use super::fields::{FieldsOf, Known as _, cut_tag, fields};
use super::json::{Json, Value};
use super::media::{Media, Tools};
use super::{CapField, Envelope, EnvelopeError, InputBound, OutputCap, TOOL_CALLS_MAX};

mod content;
mod tools;

fields! { "":
    Model => "model",
    Stream => "stream",
    MaxTokens => "max_tokens",
    Messages => "messages",
    System => "system",
    Tools => "tools",
    OutputConfig => "output_config",
    OutputFormat => "output_format",
    Thinking => "thinking",
    CacheControl => "cache_control",
    Metadata => "metadata",
    ServiceTier => "service_tier",
    Speed => "speed",
    InferenceGeo => "inference_geo",
    Container => "container",
    McpServers => "mcp_servers",
    ContextManagement => "context_management",
}

pub(super) fn read(body: &Bytes) -> Result<Envelope, EnvelopeError> {
    let (mut media, mut tools, mut wrong) = (Media::default(), Tools::default(), None);
    let fields = FieldsOf::document(body, |json, field| {
        match field {
            Field::Messages => content::walk_messages(&mut media, json),
            Field::System => content::walk(&mut media, json),
            Field::Tools => tools::walk(&mut tools, json),
            _ => json.skip(),
        }?;
        wrong = wrong.or_else(|| Some((field, media.wrong.or(tools.wrong)?)));
        Ok(())
    })?;
    if let Some((field, wrong)) = wrong {
        return Err(wrong.of(field.name()));
    }
    Reader { fields, media, tools }.envelope()
}

struct Reader<'a> {
    fields: Fields<'a>,
    media: Media,
    tools: Tools,
}

impl Reader<'_> {
    fn envelope(mut self) -> Result<Envelope, EnvelopeError> {
        let input = self.input()?;
        let Self { ref fields, .. } = self;
        Ok(Envelope {
            model: fields.model(Field::Model)?,
            model_span: fields.span(Field::Model),
            stream: fields.flag(Field::Stream)?,
            include_usage: true,
            stream_options_span: None,
            output_cap: self.output_cap()?,
            open_caps: fields.null_caps([(Field::MaxTokens, CapField::MaxTokens)]),
            choices: if self.compacts() { 2 } else { 1 },
            service_tier: self.service_tier()?,
            geo: fields.word(Field::InferenceGeo)?,
            input,
            user: self.user()?,
            metadata: fields.metadata(Field::Metadata)?,
            hosted_caps: self.tools.open_caps,
            refers_to: None,
        })
    }

    /// A cap of 0 fills the provider's cache only. A larger budget for thinking, which a beta of Anthropic's allows, would
    /// not be bounded by the cap.
    fn output_cap(&self) -> Result<Option<OutputCap>, EnvelopeError> {
        #[derive(Deserialize)]
        struct Thinking {
            budget_tokens: Option<u64>,
        }
        let cap = self.fields.cap(Field::MaxTokens, CapField::MaxTokens, 0)?;
        let Some(thinking) = self.fields.get(Field::Thinking) else { return Ok(cap) };
        let wrong = |_| EnvelopeError::field("thinking", "must be an object whose budget_tokens is an integer");
        let thinking: Thinking = serde_json::from_slice(thinking.json).map_err(wrong)?;
        match (thinking.budget_tokens, &cap) {
            (Some(_), None) => Err(EnvelopeError::field("max_tokens", "is missing, and thinking has a budget")),
            (Some(budget), Some(cap)) if budget >= cap.tokens => {
                Err(EnvelopeError::field("thinking", "budget_tokens must be lower than max_tokens"))
            }
            _ => Ok(cap),
        }
    }

    /// The speed decides about the price where there is one; no service tier of Anthropic does.
    fn service_tier(&self) -> Result<Option<Box<str>>, EnvelopeError> {
        let tier = self.fields.word(Field::ServiceTier)?;
        Ok(match self.fields.word(Field::Speed)? {
            Some(speed) if &*speed != "standard" => Some(speed),
            _ if tier.as_deref() == Some("standard_only") => Some("standard".into()),
            _ => tier,
        })
    }

    fn user(&self) -> Result<Option<Box<str>>, EnvelopeError> {
        #[derive(Deserialize)]
        struct Metadata<'a> {
            #[serde(borrow)]
            user_id: Option<Cow<'a, str>>,
        }
        let Some(metadata) = self.fields.get(Field::Metadata) else { return Ok(None) };
        let wrong = |_| EnvelopeError::field("metadata", "must be an object whose user_id is a string");
        let metadata: Metadata<'_> = serde_json::from_slice(metadata.json).map_err(wrong)?;
        Ok(metadata.user_id.map(|user| cut_tag(&user)))
    }

    fn input(&mut self) -> Result<InputBound, EnvelopeError> {
        if !self.fields.has(Field::Messages) {
            return Err(EnvelopeError::field("messages", "is missing"));
        }
        if self.fields.get(Field::McpServers).is_some_and(|servers| !is_empty_array(servers)) {
            self.tools.add_hosted(TOOL_CALLS_MAX);
        }
        if self.compacts() {
            self.tools.add_hosted(1);
        }
        let fields = &self.fields;
        let again = [Field::Tools, Field::OutputConfig, Field::OutputFormat].map(|field| fields.tokens_max_of(field));
        let input = Input {
            body_tokens: fields.tokens_max,
            again_tokens: again.into_iter().sum(),
            schema: fields.has(Field::OutputConfig) || fields.has(Field::OutputFormat),
            unbounded: fields.has(Field::Container),
            cache_markers: fields.has(Field::CacheControl),
            predicted_tokens: 0,
            media: &self.media,
            tools: &self.tools,
        };
        Ok(input.bound())
    }

    /// Whether the provider may sum up the conversation first: it then reads and answers once more.
    fn compacts(&self) -> bool {
        let management = self.fields.get(Field::ContextManagement).map(|value| value.json).unwrap_or_default();
        ["compact", r"\u"].iter().any(|word| memchr::memmem::find(management, word.as_bytes()).is_some())
    }
}

fn is_empty_array(value: &Value<'_>) -> bool {
    let mut elements = 0_usize;
    let walked = Json::new(value.json).array(|json| {
        elements += 1;
        json.skip()
    });
    walked.is_ok() && elements == 0
}
