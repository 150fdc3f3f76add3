//! From the values of a body to an [`Envelope`]: every type and range is checked here.

use serde::Deserialize;

use super::media;
use super::scan::{Field, Fields};
use super::text::tokens_max;
use super::{
    CHOICES_MAX, Envelope, EnvelopeError, InputBound, METADATA_BYTES_MAX, MODEL_BYTES_MAX, NullCaps, OUTPUT_TOKENS_MAX,
    OutputCap, PROMPTS_MAX, Span, TAG_BYTES_MAX, TIER_BYTES_MAX,
};
use crate::chat::Operation;

/// The chat template and its special tokens; the JSON around each message covers the template's part per message.
const TEMPLATE_TOKENS: u64 = 256;
/// What providers add once when there are tools.
const TOOLS_TOKENS: u64 = 1_024;
/// What providers add per tool.
const TOOL_TOKENS: u64 = 64;
/// What providers add when an answer must follow a schema.
const SCHEMA_TOKENS: u64 = 128;

pub(super) fn read(operation: Operation, text: &str, fields: &Fields<'_>) -> Result<Envelope, EnvelopeError> {
    let reader = Reader { text, fields };
    let (include_usage, stream_options_span) = reader.stream_options()?;
    Ok(Envelope {
        model: reader.model()?,
        model_span: reader.span(Field::Model).unwrap_or_default(),
        stream: reader.flag(Field::Stream)? && operation != Operation::Embeddings,
        include_usage,
        stream_options_span,
        output_cap: reader.output_cap()?,
        null_caps: NullCaps {
            max_tokens: reader.null_span(Field::MaxTokens),
            max_completion_tokens: reader.null_span(Field::MaxCompletionTokens),
        },
        choices: reader.choices(operation)?,
        service_tier: reader.service_tier()?,
        input: reader.input(operation)?,
        user: reader.string(Field::User)?.map(|user| cut(&user, TAG_BYTES_MAX).into()),
        metadata: reader.metadata()?,
    })
}

struct Reader<'a> {
    text: &'a str,
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
        match self.fields.get(Field::Metadata) {
            Some(raw) if !raw.starts_with('{') => Err(EnvelopeError::field("metadata", "must be an object")),
            Some(raw) if raw.len() > METADATA_BYTES_MAX => {
                Err(EnvelopeError::field("metadata", format!("has more than {METADATA_BYTES_MAX} bytes")))
            }
            raw => Ok(raw.map(Box::from)),
        }
    }

    fn stream_options(&self) -> Result<(bool, Option<Span>), EnvelopeError> {
        #[derive(Deserialize)]
        struct StreamOptions {
            include_usage: Option<bool>,
        }
        let options = match self.fields.get(Field::StreamOptions) {
            Some(raw) if raw.starts_with('{') => serde_json::from_str::<StreamOptions>(raw).ok(),
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
        let completion = field == Field::MaxCompletionTokens;
        Ok(tokens.zip(self.span(field)).map(|(tokens, span)| OutputCap { completion, tokens, span }))
    }

    fn choices(&self, operation: Operation) -> Result<u32, EnvelopeError> {
        let wanted = self.count(Field::Choices)?.unwrap_or(1);
        let made = self.count(Field::BestOf)?.unwrap_or(1);
        let prompts = match operation {
            Operation::Completions => self.prompts()?,
            Operation::ChatCompletions | Operation::Embeddings => 1,
        };
        Ok(wanted.max(made).saturating_mul(prompts))
    }

    fn count(&self, field: Field) -> Result<Option<u32>, EnvelopeError> {
        let count = self.integer(field, 1, u64::from(CHOICES_MAX))?;
        Ok(count.map(|count| u32::try_from(count).unwrap_or(CHOICES_MAX)))
    }

    /// An array of strings or of token arrays is one prompt each; an array of numbers is one prompt of tokens.
    fn prompts(&self) -> Result<u32, EnvelopeError> {
        let raw = self.fields.get(Field::Prompt).unwrap_or_default();
        let Some(elements) = raw.strip_prefix('[') else { return Ok(1) };
        if elements.trim_start().starts_with(|first: char| first.is_ascii_digit()) {
            return Ok(1);
        }
        let count = media::length(raw).map_err(|_| EnvelopeError::field("prompt", "must be a string or an array"))?;
        match u32::try_from(count) {
            Ok(count) if count <= PROMPTS_MAX => Ok(count.max(1)),
            _ => Err(EnvelopeError::field("prompt", format!("has more than {PROMPTS_MAX} prompts"))),
        }
    }

    fn input(&self, operation: Operation) -> Result<InputBound, EnvelopeError> {
        let media = self.content(operation)?;
        let tools = self.tools(Field::Tools)?;
        let functions = self.tools(Field::Functions)?;
        let searches = u32::from(self.fields.get(Field::WebSearchOptions).is_some());
        let spoken = self.fields.get(Field::Modalities).is_some_and(|raw| !is_text_only(raw));
        let text = tokens_max(self.text).saturating_sub(media.image_bytes);
        Ok(InputBound {
            text_tokens: text + self.twice_read(tools.count + functions.count) + TEMPLATE_TOKENS,
            images: media.images,
            unbounded: media.unbounded || tools.hosted || spoken || searches > 0,
            web_searches: searches.saturating_add(tools.web_searches),
            cache_markers: media.cache_markers || tools.cache_markers || self.has(Field::PromptCacheOptions),
            predicted_tokens: self.fields.get(Field::Prediction).map_or(0, tokens_max),
        })
    }

    /// What providers put into the prompt again in a form of their own: tools and schemas.
    fn twice_read(&self, tools: u64) -> u64 {
        let again = |field: Field| self.fields.get(field).map_or(0, tokens_max);
        let hidden = if tools > 0 { TOOLS_TOKENS + TOOL_TOKENS * tools } else { 0 };
        let schema = if self.has(Field::ResponseFormat) { SCHEMA_TOKENS } else { 0 };
        again(Field::Tools) + again(Field::Functions) + hidden + again(Field::ResponseFormat) + schema
    }

    fn content(&self, operation: Operation) -> Result<media::Media, EnvelopeError> {
        let field = match operation {
            Operation::ChatCompletions => Field::Messages,
            Operation::Completions => Field::Prompt,
            Operation::Embeddings => Field::Input,
        };
        let missing = || EnvelopeError::field(field.name(), "is missing");
        let raw = self.fields.get(field).ok_or_else(missing)?;
        match operation {
            Operation::ChatCompletions => media::of_messages(raw).map_err(|error| structure(field, &error)),
            Operation::Completions | Operation::Embeddings if raw.starts_with(['"', '[']) => {
                Ok(media::Media::default())
            }
            _ => Err(EnvelopeError::field(field.name(), "must be a string or an array")),
        }
    }

    /// Functions in the legacy field have no type: they run at the caller.
    fn tools(&self, field: Field) -> Result<media::Tools, EnvelopeError> {
        let Some(raw) = self.fields.get(field) else { return Ok(media::Tools::default()) };
        let tools = media::of_tools(raw).map_err(|error| structure(field, &error))?;
        match field {
            Field::Functions => Ok(media::Tools { count: tools.count, ..media::Tools::default() }),
            _ => Ok(tools),
        }
    }

    fn has(&self, field: Field) -> bool {
        self.fields.get(field).is_some()
    }

    fn flag(&self, field: Field) -> Result<bool, EnvelopeError> {
        match self.fields.get(field) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(EnvelopeError::field(field.name(), "must be true or false")),
        }
    }

    fn integer(&self, field: Field, min: u64, max: u64) -> Result<Option<u64>, EnvelopeError> {
        let Some(raw) = self.fields.get(field) else { return Ok(None) };
        match raw.parse::<u64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(EnvelopeError::field(field.name(), format!("must be an integer from {min} to {max}"))),
        }
    }

    fn string(&self, field: Field) -> Result<Option<Box<str>>, EnvelopeError> {
        let Some(raw) = self.fields.get(field) else { return Ok(None) };
        let wrong = |_| EnvelopeError::field(field.name(), "must be a string");
        serde_json::from_str(raw).map(Some).map_err(wrong)
    }

    fn null_span(&self, field: Field) -> Option<Span> {
        let is_null = self.fields.raw(field) == Some("null");
        self.span(field).filter(|_| is_null)
    }

    /// Where a value stands: it is a slice of the body.
    fn span(&self, field: Field) -> Option<Span> {
        let raw = self.fields.raw(field)?;
        let start = raw.as_ptr().addr().checked_sub(self.text.as_ptr().addr())?;
        Some(start..start + raw.len())
    }
}

/// Says where a structure is wrong without repeating what the caller wrote there.
fn structure(field: Field, error: &serde_json::Error) -> EnvelopeError {
    let twice = error.to_string().contains("duplicate field");
    let reason = if twice { "names a field twice in one object" } else { "must be an array of well-formed objects" };
    EnvelopeError::field(field.name(), format!("{reason} (at its line {}, column {})", error.line(), error.column()))
}

fn is_text_only(modalities: &str) -> bool {
    serde_json::from_str::<Vec<String>>(modalities).is_ok_and(|all| all.iter().all(|one| one == "text"))
}

fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}
