//! Responses of OpenAI (providers.md §3).

use bytes::Bytes;

use super::bound::Input;
use super::fields::{FieldsOf, Known as _, fields};
use super::media::{Media, Tools};
use super::{CapField, Envelope, EnvelopeError, Gap, HostedCap, InputBound, Reference, TOOL_CALLS_MAX};

mod items;
mod tools;

fields! { "":
    Model => "model",
    Stream => "stream",
    MaxOutputTokens => "max_output_tokens",
    MaxToolCalls => "max_tool_calls",
    Input => "input",
    Instructions => "instructions",
    Tools => "tools",
    Text => "text",
    ServiceTier => "service_tier",
    User => "user",
    SafetyIdentifier => "safety_identifier",
    Metadata => "metadata",
    PreviousResponse => "previous_response_id",
    Conversation => "conversation",
    Prompt => "prompt",
    Background => "background",
    ContextManagement => "context_management",
    PromptCacheOptions => "prompt_cache_options",
}

/// What the provider keeps and puts before the input.
const STORED: [Field; 2] = [Field::PreviousResponse, Field::Conversation];

pub(super) fn read(body: &Bytes) -> Result<Envelope, EnvelopeError> {
    let (mut media, mut tools, mut wrong) = (Media::default(), Tools::default(), None);
    let fields = FieldsOf::document(body, |json, field| {
        match field {
            Field::Input => items::walk(&mut media, json),
            Field::Tools => tools::walk(&mut tools, json),
            _ => json.skip(),
        }?;
        wrong = wrong.or_else(|| Some((field, media.wrong.or(tools.wrong)?)));
        Ok(())
    })?;
    if let Some((field, wrong)) = wrong {
        return Err(wrong.of(field.name()));
    }
    let opening = memchr::memchr(b'{', body).unwrap_or_default();
    Reader { fields, media, tools, opening }.envelope()
}

struct Reader<'a> {
    fields: Fields<'a>,
    media: Media,
    tools: Tools,
    /// Where the body's brace opens.
    opening: usize,
}

impl Reader<'_> {
    fn envelope(mut self) -> Result<Envelope, EnvelopeError> {
        self.check()?;
        let input = self.input()?;
        let Self { ref fields, .. } = self;
        let user = fields.tag(Field::User)?;
        Ok(Envelope {
            model: fields.model(Field::Model)?,
            model_span: fields.span(Field::Model),
            stream: fields.flag(Field::Stream)?,
            include_usage: true,
            stream_options_span: None,
            output_cap: fields.cap(Field::MaxOutputTokens, CapField::MaxOutputTokens, 1)?,
            open_caps: fields.null_caps([(Field::MaxOutputTokens, CapField::MaxOutputTokens)]),
            choices: if self.compacts() { 2 } else { 1 },
            service_tier: fields.word(Field::ServiceTier)?,
            geo: None,
            input,
            user: user.or(fields.tag(Field::SafetyIdentifier)?),
            metadata: fields.metadata(Field::Metadata)?,
            refers_to: self.refers_to()?.map(Box::new),
            hosted_caps: self.tools.open_caps,
        })
    }

    fn check(&self) -> Result<(), EnvelopeError> {
        if self.fields.flag(Field::Background)? {
            let reason = "is not possible: the answer would be made, and charged, after this request has ended";
            return Err(EnvelopeError::field("background", reason));
        }
        if self.fields.has(Field::Prompt) {
            let reason = "is not possible: what the provider keeps there, tools included, cannot be priced from here";
            return Err(EnvelopeError::field("prompt", reason));
        }
        if !self.fields.has(Field::Input) && !self.goes_on() {
            return Err(EnvelopeError::field("input", "is missing"));
        }
        Ok(())
    }

    fn goes_on(&self) -> bool {
        STORED.iter().any(|field| self.fields.has(*field))
    }

    fn refers_to(&self) -> Result<Option<Reference>, EnvelopeError> {
        let mut named = STORED.into_iter().filter(|field| self.fields.has(*field));
        let Some(field) = named.next() else { return Ok(None) };
        if named.next().is_some() {
            return Err(EnvelopeError::field(field.name(), "cannot stand beside a conversation"));
        }
        let span = self.fields.span(field);
        Ok(span.map(|span| Reference { field: field.name(), id: self.fields.string(field).ok().flatten(), span }))
    }

    /// Whether the provider may sum up the conversation first: it then reads and answers once more.
    fn compacts(&self) -> bool {
        self.fields.has(Field::ContextManagement)
    }

    fn input(&mut self) -> Result<InputBound, EnvelopeError> {
        self.cap_hosted_tools()?;
        if self.compacts() {
            self.tools.add_hosted(1);
        }
        let fields = &self.fields;
        let again = [Field::Tools, Field::Text].map(|field| fields.tokens_max_of(field));
        let input = Input {
            body_tokens: fields.tokens_max,
            again_tokens: again.into_iter().sum(),
            schema: fields.has(Field::Text),
            unbounded: self.goes_on(),
            cache_markers: fields.has(Field::PromptCacheOptions),
            predicted_tokens: 0,
            media: &self.media,
            tools: &self.tools,
        };
        Ok(input.bound())
    }

    /// One cap holds for the calls of all hosted tools together.
    fn cap_hosted_tools(&mut self) -> Result<(), EnvelopeError> {
        let said = self.fields.integer(Field::MaxToolCalls, 0, u64::from(u32::MAX))?;
        if !self.tools.hosted {
            return Ok(());
        }
        if said.is_none() {
            let gap = self.fields.null_span(Field::MaxToolCalls).map_or(Gap::Inside(self.opening), Gap::Null);
            self.tools.open_caps.push(HostedCap { field: "max_tool_calls", gap });
        }
        let calls = said.map_or(TOOL_CALLS_MAX, |calls| u32::try_from(calls).unwrap_or(u32::MAX));
        let Tools { hosted_calls, web_searches, file_searches, .. } = &mut self.tools;
        for calls_of_tool in [hosted_calls, web_searches, file_searches] {
            *calls_of_tool = if *calls_of_tool > 0 { calls } else { 0 };
        }
        Ok(())
    }
}
