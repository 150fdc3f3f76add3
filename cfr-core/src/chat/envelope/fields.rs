//! From the values of a body to an [`Envelope`]: every type and range is checked here.

use serde::Deserialize;

use super::json::{Json, Value};
use super::media::{Tools, Wrong};
use super::scan::{Field, Fields};
use super::{
    CHOICES_MAX, CapField, Envelope, EnvelopeError, Gap, InputBound, METADATA_BYTES_MAX, MODEL_BYTES_MAX,
    OUTPUT_TOKENS_MAX, OpenCaps, OutputCap, PROMPTS_MAX, Span, TAG_BYTES_MAX, TIER_BYTES_MAX,
};
use crate::chat::{Dialect, Operation};

/// The chat template and its special tokens; the JSON around each message covers the template's part per message.
const TEMPLATE_TOKENS: u64 = 256;
/// What providers add once when there are tools.
const TOOLS_TOKENS: u64 = 1_024;
/// What providers add per tool.
const TOOL_TOKENS: u64 = 64;
/// What providers add when an answer must follow a schema.
const SCHEMA_TOKENS: u64 = 128;

const CAPS: [(Field, CapField); 3] = [
    (Field::MaxTokens, CapField::MaxTokens),
    (Field::MaxCompletionTokens, CapField::MaxCompletionTokens),
    (Field::MaxOutputTokens, CapField::MaxOutputTokens),
];

pub(super) fn read(
    operation: Operation,
    named: Option<(&str, bool)>,
    fields: &Fields<'_>,
) -> Result<Envelope, EnvelopeError> {
    let reader = Reader { fields };
    let (include_usage, stream_options_span) = reader.stream_options()?;
    Ok(Envelope {
        model: named.map_or_else(|| reader.model(), |(model, _)| Ok(model.into()))?,
        model_span: reader.span(Field::Model),
        stream: match named {
            Some((_, stream)) => stream,
            None => reader.flag(Field::Stream)? && operation != Operation::Embeddings,
        },
        include_usage,
        stream_options_span,
        output_cap: reader.output_cap()?,
        open_caps: reader.open_caps(),
        choices: reader.choices(operation)?,
        service_tier: reader.service_tier()?,
        input: reader.input(operation)?,
        user: reader.string(Field::User)?.map(|user| cut(&user, TAG_BYTES_MAX).into()),
        metadata: reader.metadata()?,
    })
}

struct Reader<'a> {
    fields: &'a Fields<'a>,
}

impl Reader<'_> {
    fn model(&self) -> Result<Box<str>, EnvelopeError> {
        let refuse = |reason: String| Err(EnvelopeError::field("model", reason));
        match self.string(Field::Model)? {
            None => refuse("is missing".into()),
            Some(name) if name.is_empty() => refuse("is empty".into()),
            Some(name) if name.len() > MODEL_BYTES_MAX => refuse(format!("has more than {MODEL_BYTES_MAX} bytes")),
            Some(name) if name.contains(char::is_control) => refuse("has control characters".into()),
            Some(name) => Ok(name),
        }
    }

    fn service_tier(&self) -> Result<Option<Box<str>>, EnvelopeError> {
        match self.string(Field::ServiceTier)? {
            Some(tier) if tier.len() > TIER_BYTES_MAX => {
                Err(EnvelopeError::field("service_tier", format!("has more than {TIER_BYTES_MAX} bytes")))
            }
            tier => Ok(tier),
        }
    }

    fn metadata(&self) -> Result<Option<Box<str>>, EnvelopeError> {
        match self.fields.get(Field::Metadata).map(Value::text) {
            Some(text) if !text.starts_with('{') => Err(EnvelopeError::field("metadata", "must be an object")),
            Some(text) if text.len() > METADATA_BYTES_MAX => {
                Err(EnvelopeError::field("metadata", format!("has more than {METADATA_BYTES_MAX} bytes")))
            }
            text => Ok(text.map(Box::from)),
        }
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
        Ok((options.include_usage.unwrap_or(false), self.span(Field::StreamOptions)))
    }

    /// Both caps may be given; servers differ in which of them they obey, so the one that we do not rewrite must not be
    /// the larger one.
    fn output_cap(&self) -> Result<Option<OutputCap>, EnvelopeError> {
        if let Some(cap) = self.cap(Field::MaxOutputTokens)? {
            return Ok(Some(cap));
        }
        let legacy = self.cap(Field::MaxTokens)?;
        let completion = self.cap(Field::MaxCompletionTokens)?;
        match (legacy, completion) {
            (Some(legacy), Some(completion)) if legacy.tokens > completion.tokens => {
                Err(EnvelopeError::field("max_tokens", "is larger than max_completion_tokens: give one of them"))
            }
            (legacy, completion) => Ok(completion.or(legacy)),
        }
    }

    fn cap(&self, field: Field) -> Result<Option<OutputCap>, EnvelopeError> {
        let tokens = self.integer(field, 1, OUTPUT_TOKENS_MAX)?;
        let name = CAPS.iter().find(|(known, _)| *known == field).map_or(CapField::MaxTokens, |(_, name)| *name);
        Ok(tokens.zip(self.span(field)).map(|(tokens, span)| OutputCap { field: name, tokens, span }))
    }

    fn open_caps(&self) -> OpenCaps {
        let null = |(field, name)| self.null_span(field).map(|span| (name, Gap::Null(span)));
        OpenCaps(CAPS.into_iter().filter_map(null).collect())
    }

    fn choices(&self, operation: Operation) -> Result<u32, EnvelopeError> {
        let wanted = self.count(Field::Choices)?.unwrap_or(1);
        let made = self.count(Field::BestOf)?.unwrap_or(1);
        let prompts = match operation {
            Operation::Completions => self.prompts()?,
            _ => 1,
        };
        Ok(wanted.max(made).saturating_mul(prompts))
    }

    fn count(&self, field: Field) -> Result<Option<u32>, EnvelopeError> {
        let count = self.integer(field, 1, u64::from(CHOICES_MAX))?;
        Ok(count.map(|count| u32::try_from(count).unwrap_or(CHOICES_MAX)))
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

    fn input(&self, operation: Operation) -> Result<InputBound, EnvelopeError> {
        self.content(operation)?;
        let Fields { media, tools, functions, .. } = self.fields;
        self.tools(Field::Tools, tools)?;
        self.tools(Field::Functions, functions)?;
        let searches = u32::from(self.has(Field::WebSearchOptions));
        let spoken = self.fields.get(Field::Modalities).is_some_and(|modalities| !is_text_only(modalities));
        let text = self.fields.tokens_max.saturating_sub(media.image_bytes);
        Ok(InputBound {
            text_tokens: text + self.twice_read(tools.count + functions.count) + TEMPLATE_TOKENS,
            images: media.images,
            unbounded: operation.dialect() != Dialect::OpenAi || media.unbounded || tools.hosted || spoken || searches > 0,
            web_searches: searches.saturating_add(tools.web_searches),
            cache_markers: media.cache_markers || tools.cache_markers || self.has(Field::PromptCacheOptions),
            predicted_tokens: self.tokens_max(Field::Prediction),
        })
    }

    /// What providers put into the prompt again in a form of their own: tools and schemas.
    fn twice_read(&self, tools: u64) -> u64 {
        let hidden = if tools > 0 { TOOLS_TOKENS + TOOL_TOKENS * tools } else { 0 };
        let schema = if self.has(Field::ResponseFormat) { SCHEMA_TOKENS } else { 0 };
        let again = [Field::Tools, Field::Functions, Field::ResponseFormat].map(|field| self.tokens_max(field));
        again.into_iter().sum::<u64>() + hidden + schema
    }

    fn content(&self, operation: Operation) -> Result<(), EnvelopeError> {
        let field = match operation {
            Operation::ChatCompletions | Operation::Messages => Field::Messages,
            Operation::Completions => Field::Prompt,
            Operation::Embeddings | Operation::Responses => Field::Input,
            Operation::GenerateContent => Field::Contents,
        };
        let missing = || EnvelopeError::field(field.name(), "is missing");
        let content = self.fields.get(field).ok_or_else(missing)?;
        match operation {
            Operation::ChatCompletions => well_formed(field, self.fields.media.wrong),
            _ if content.json.starts_with(b"\"") => Ok(()),
            _ if content.json.starts_with(b"[") => Ok(()),
            _ => Err(EnvelopeError::field(field.name(), "must be a string or an array")),
        }
    }

    fn tools(&self, field: Field, tools: &Tools) -> Result<(), EnvelopeError> {
        if self.has(field) { well_formed(field, tools.wrong) } else { Ok(()) }
    }

    fn tokens_max(&self, field: Field) -> u64 {
        self.fields.get(field).map_or(0, Value::tokens_max)
    }

    fn has(&self, field: Field) -> bool {
        self.fields.get(field).is_some()
    }

    fn flag(&self, field: Field) -> Result<bool, EnvelopeError> {
        match self.fields.get(field).map(|value| value.json) {
            None | Some(b"false") => Ok(false),
            Some(b"true") => Ok(true),
            Some(_) => Err(EnvelopeError::field(field.name(), "must be true or false")),
        }
    }

    fn integer(&self, field: Field, min: u64, max: u64) -> Result<Option<u64>, EnvelopeError> {
        let Some(value) = self.fields.get(field) else { return Ok(None) };
        match value.number() {
            Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(EnvelopeError::field(field.name(), format!("must be an integer from {min} to {max}"))),
        }
    }

    fn string(&self, field: Field) -> Result<Option<Box<str>>, EnvelopeError> {
        let Some(value) = self.fields.get(field) else { return Ok(None) };
        let wrong = |_| EnvelopeError::field(field.name(), "must be a string");
        serde_json::from_slice(value.json).map(Some).map_err(wrong)
    }

    fn null_span(&self, field: Field) -> Option<Span> {
        self.fields.raw(field).filter(|value| value.is_null()).map(Value::span)
    }

    fn span(&self, field: Field) -> Option<Span> {
        self.fields.raw(field).map(Value::span)
    }
}

fn well_formed(field: Field, wrong: Option<Wrong>) -> Result<(), EnvelopeError> {
    wrong.map_or(Ok(()), |wrong| Err(EnvelopeError::field(field.name(), wrong.to_string())))
}

fn is_text_only(modalities: &Value<'_>) -> bool {
    serde_json::from_slice::<Vec<String>>(modalities.json).is_ok_and(|all| all.iter().all(|one| one == "text"))
}

fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}
