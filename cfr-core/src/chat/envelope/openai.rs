//! Chat completions, legacy completions and embeddings of OpenAI.

use bytes::Bytes;
use serde::Deserialize;

use super::bound::Input;
use super::fields::{FieldsOf, Known as _, fields};
use super::json::{Json, Value};
use super::media::{Media, Tools};
use super::record::Wrong;
use super::{CHOICES_MAX, CapField, Envelope, EnvelopeError, InputBound, OutputCap, PROMPTS_MAX, Span};
use crate::chat::Operation;

pub(super) mod content;

fields! { "":
    Model => "model",
    Stream => "stream",
    StreamOptions => "stream_options",
    MaxTokens => "max_tokens",
    MaxCompletionTokens => "max_completion_tokens",
    Choices => "n",
    BestOf => "best_of",
    ServiceTier => "service_tier",
    User => "user",
    Metadata => "metadata",
    Messages => "messages",
    Prompt => "prompt",
    Input => "input",
    Tools => "tools",
    Functions => "functions",
    ResponseFormat => "response_format",
    WebSearchOptions => "web_search_options",
    Modalities => "modalities",
    Prediction => "prediction",
    PromptCacheOptions => "prompt_cache_options",
}

const CAPS: [(Field, CapField); 2] =
    [(Field::MaxTokens, CapField::MaxTokens), (Field::MaxCompletionTokens, CapField::MaxCompletionTokens)];

pub(super) fn read(operation: Operation, body: &Bytes) -> Result<Envelope, EnvelopeError> {
    let (mut media, mut tools, mut functions) = (Media::default(), Tools::default(), Tools::default());
    let fields = FieldsOf::document(body, |json, field| match field {
        Field::Messages if operation == Operation::ChatCompletions => content::walk_messages(&mut media, json),
        Field::Tools => content::walk_tools(&mut tools, json),
        Field::Functions => content::walk_tools(&mut functions, json),
        _ => json.skip(),
    })?;
    Reader { operation, fields, media, tools, functions }.envelope()
}

struct Reader<'a> {
    operation: Operation,
    fields: Fields<'a>,
    /// What the messages of a chat hold apart from text.
    media: Media,
    tools: Tools,
    functions: Tools,
}

impl Reader<'_> {
    fn envelope(mut self) -> Result<Envelope, EnvelopeError> {
        let (include_usage, stream_options_span) = self.stream_options()?;
        let input = self.input()?;
        let Self { operation, ref fields, .. } = self;
        Ok(Envelope {
            model: fields.model(Field::Model)?,
            model_span: fields.span(Field::Model),
            stream: fields.flag(Field::Stream)? && operation.can_stream(),
            include_usage,
            stream_options_span,
            output_cap: self.output_cap()?,
            open_caps: fields.null_caps(CAPS),
            hosted_caps: Vec::new(),
            refers_to: None,
            choices: self.choices()?,
            service_tier: fields.word(Field::ServiceTier)?,
            geo: None,
            input,
            user: fields.tag(Field::User)?,
            metadata: fields.metadata(Field::Metadata)?,
        })
    }

    fn stream_options(&self) -> Result<(bool, Option<Span>), EnvelopeError> {
        #[derive(Deserialize)]
        struct StreamOptions {
            include_usage: Option<bool>,
        }
        let options = match self.fields.get(Field::StreamOptions) {
            Some(value) if value.json.starts_with(b"{") => serde_json::from_slice::<StreamOptions>(value.json).ok(),
            Some(_) => None,
            None => Some(StreamOptions { include_usage: None }),
        };
        let wrong = || EnvelopeError::field("stream_options", "must be an object whose include_usage is true or false");
        let options = options.ok_or_else(wrong)?;
        Ok((options.include_usage.unwrap_or(false), self.fields.span(Field::StreamOptions)))
    }

    /// Both caps may be given; servers differ in which of them they obey, so the one that we do not rewrite must not be
    /// the larger one.
    fn output_cap(&self) -> Result<Option<OutputCap>, EnvelopeError> {
        let [legacy, completion] = CAPS.map(|(field, name)| self.fields.cap(field, name, 1));
        match (legacy?, completion?) {
            (Some(legacy), Some(completion)) if legacy.tokens > completion.tokens => {
                Err(EnvelopeError::field("max_tokens", "is larger than max_completion_tokens: give one of them"))
            }
            (legacy, completion) => Ok(completion.or(legacy)),
        }
    }

    fn choices(&self) -> Result<u32, EnvelopeError> {
        let wanted = self.fields.count(Field::Choices, CHOICES_MAX)?.unwrap_or(1);
        let made = self.fields.count(Field::BestOf, CHOICES_MAX)?.unwrap_or(1);
        let prompts = if self.operation == Operation::Completions { self.prompts()? } else { 1 };
        Ok(wanted.max(made).saturating_mul(prompts))
    }

    /// An array of strings or of token arrays is one prompt each; an array of numbers is one prompt of tokens.
    fn prompts(&self) -> Result<u32, EnvelopeError> {
        let prompt = self.fields.get(Field::Prompt).map(|value| value.json).unwrap_or_default();
        let Some(elements) = prompt.strip_prefix(b"[") else { return Ok(1) };
        if elements.trim_ascii_start().first().is_some_and(u8::is_ascii_digit) {
            return Ok(1);
        }
        let mut count = 0_usize;
        let counted = Json::new(prompt).array(|json| {
            count += 1;
            json.skip()
        });
        match u32::try_from(count) {
            Ok(count) if counted.is_ok() && count <= PROMPTS_MAX => Ok(count.max(1)),
            _ => Err(EnvelopeError::field("prompt", format!("has more than {PROMPTS_MAX} prompts"))),
        }
    }

    fn input(&mut self) -> Result<InputBound, EnvelopeError> {
        self.check_content()?;
        self.check_tools(Field::Tools, &self.tools)?;
        self.check_tools(Field::Functions, &self.functions)?;
        let Self { fields, media, tools, functions, .. } = self;
        tools.count += functions.count;
        if fields.has(Field::WebSearchOptions) {
            tools.add_web_search(1);
        }
        let again = [Field::Tools, Field::Functions, Field::ResponseFormat].map(|field| fields.tokens_max_of(field));
        let input = Input {
            body_tokens: fields.tokens_max,
            again_tokens: again.into_iter().sum(),
            schema: fields.has(Field::ResponseFormat),
            unbounded: fields.get(Field::Modalities).is_some_and(|modalities| !is_text_only(modalities)),
            cache_markers: fields.has(Field::PromptCacheOptions),
            predicted_tokens: fields.tokens_max_of(Field::Prediction),
            media,
            tools,
        };
        Ok(input.bound())
    }

    fn check_content(&self) -> Result<(), EnvelopeError> {
        let field = match self.operation {
            Operation::ChatCompletions => Field::Messages,
            Operation::Completions => Field::Prompt,
            _ => Field::Input,
        };
        let missing = || EnvelopeError::field(field.name(), "is missing");
        let content = self.fields.get(field).ok_or_else(missing)?;
        match content.json.first() {
            _ if field == Field::Messages => no_wrong(field, self.media.wrong),
            Some(b'"' | b'[') => Ok(()),
            _ => Err(EnvelopeError::field(field.name(), "must be a string or an array")),
        }
    }

    fn check_tools(&self, field: Field, tools: &Tools) -> Result<(), EnvelopeError> {
        if self.fields.has(field) { no_wrong(field, tools.wrong) } else { Ok(()) }
    }
}

fn is_text_only(modalities: &Value<'_>) -> bool {
    serde_json::from_slice::<Vec<String>>(modalities.json).is_ok_and(|all| all.iter().all(|one| one == "text"))
}

fn no_wrong(field: Field, wrong: Option<Wrong>) -> Result<(), EnvelopeError> {
    wrong.map_or(Ok(()), |wrong| Err(wrong.of(field.name())))
}
