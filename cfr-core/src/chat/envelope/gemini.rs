//! Gemini's generateContent (providers.md §7.2). Google takes every name in camel case and in snake case.

use bytes::Bytes;

use super::bound::Input;
use super::fields::{FieldsOf, Known as _, check_model, fields};
use super::media::{Media, Tools};
use super::{CHOICES_MAX, CapField, Envelope, EnvelopeError, Gap, InputBound, OpenCaps, OutputCap};

mod config;
mod content;

fields! { "":
    Model => "model",
    Contents => "contents",
    SystemInstruction => "systemInstruction" | "system_instruction",
    Tools => "tools",
    CachedContent => "cachedContent" | "cached_content",
    GenerationConfig => "generationConfig" | "generation_config",
    ServiceTier => "serviceTier" | "service_tier",
    Labels => "labels",
}

/// A picture in the answer; its size does not follow the cap on answer tokens.
const PICTURE_TOKENS: u64 = 4_096;

pub(super) fn read(model: &str, stream: bool, body: &Bytes) -> Result<Envelope, EnvelopeError> {
    let (mut media, mut tools, mut wrong, mut config) = (Media::default(), Tools::default(), None, None);
    let fields = FieldsOf::document(body, |json, field| {
        match (field, json.next_byte()) {
            (Field::Contents, _) => content::walk(&mut media, json),
            (Field::SystemInstruction, _) => content::walk_one(&mut media, json),
            (Field::Tools, _) => content::walk_tools(&mut tools, json),
            (Field::GenerationConfig, Some(b'{')) => {
                config = Some(config::Fields::object(json, |json, _| json.skip())?);
                Ok(())
            }
            _ => json.skip(),
        }?;
        wrong = wrong.or_else(|| Some((field, media.wrong.or(tools.wrong)?)));
        Ok(())
    })?;
    if let Some((field, wrong)) = wrong {
        return Err(wrong.of(field.name()));
    }
    let config = config.map(config::Fields::unambiguous).transpose()?;
    Reader { model, stream, fields, config, media, tools }.envelope()
}

struct Reader<'a> {
    model: &'a str,
    stream: bool,
    fields: Fields<'a>,
    config: Option<config::Fields<'a>>,
    media: Media,
    tools: Tools,
}

impl Reader<'_> {
    fn envelope(self) -> Result<Envelope, EnvelopeError> {
        self.check()?;
        let input = self.input()?;
        let Self { ref fields, ref config, .. } = self;
        let choices = config.as_ref().map(|config| config.count(config::Field::CandidateCount, CHOICES_MAX));
        Ok(Envelope {
            model: check_model("model", self.model.into())?,
            model_span: fields.span(Field::Model),
            stream: self.stream,
            include_usage: true,
            stream_options_span: None,
            output_cap: self.output_cap()?,
            open_caps: self.open_caps(),
            hosted_caps: Vec::new(),
            refers_to: None,
            choices: choices.transpose()?.flatten().unwrap_or(1),
            service_tier: fields.word(Field::ServiceTier)?,
            geo: None,
            input,
            user: None,
            metadata: fields.metadata(Field::Labels)?,
        })
    }

    fn check(&self) -> Result<(), EnvelopeError> {
        let last = |name: &str| name.rsplit('/').next().map(Box::<str>::from);
        let named = self.fields.string(Field::Model)?;
        if named.is_some_and(|named| last(&named) != last(self.model)) {
            return Err(EnvelopeError::field("model", "is another one than the path names"));
        }
        if !self.fields.has(Field::Contents) {
            return Err(EnvelopeError::field("contents", "is missing"));
        }
        if self.fields.has(Field::GenerationConfig) && self.config.is_none() {
            return Err(EnvelopeError::field("generationConfig", "must be an object"));
        }
        Ok(())
    }

    fn output_cap(&self) -> Result<Option<OutputCap>, EnvelopeError> {
        let Some(config) = &self.config else { return Ok(None) };
        config.cap(config::Field::MaxOutputTokens, CapField::GenerationConfig, 1)
    }

    fn open_caps(&self) -> OpenCaps {
        let field = config::Field::MaxOutputTokens;
        let outer = self.fields.span(Field::GenerationConfig);
        let gap = match (&self.config, outer) {
            (Some(config), Some(outer)) if config.raw(field).is_none() => Some(Gap::Inside(outer.start)),
            (Some(config), _) => config.null_span(field).map(Gap::Null),
            (None, outer) => outer.map(Gap::NullObject),
        };
        OpenCaps(gap.map(|gap| (CapField::GenerationConfig, gap)).into_iter().collect())
    }

    fn input(&self) -> Result<InputBound, EnvelopeError> {
        let Self { fields, config, media, tools, .. } = self;
        let asks = |field| config.as_ref().is_some_and(|config| config.has(field));
        let again = [Field::Tools, Field::GenerationConfig].map(|field| fields.tokens_max_of(field));
        let input = Input {
            body_tokens: fields.tokens_max,
            again_tokens: again.into_iter().sum(),
            schema: asks(config::Field::ResponseSchema) || asks(config::Field::ResponseJsonSchema),
            unbounded: fields.has(Field::CachedContent),
            cache_markers: false,
            predicted_tokens: if asks(config::Field::ResponseModalities) { PICTURE_TOKENS } else { 0 },
            media,
            tools,
        };
        Ok(input.bound())
    }
}
