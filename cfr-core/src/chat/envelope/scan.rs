//! The one pass over a body: which values stand where, and what the messages and tools hold.

use super::json::{Flaw, Json, Value};
use super::media::{Media, Tools};
use super::text::as_u64;
use super::{EnvelopeError, Operation};

macro_rules! fields {
    ($($variant:ident => $name:literal,)*) => {
        /// A field of the outer object that we read.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum Field { $($variant,)* }

        impl Field {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

fields! {
    Model => "model",
    Stream => "stream",
    StreamOptions => "stream_options",
    MaxTokens => "max_tokens",
    MaxCompletionTokens => "max_completion_tokens",
    MaxOutputTokens => "max_output_tokens",
    Choices => "n",
    BestOf => "best_of",
    ServiceTier => "service_tier",
    User => "user",
    Metadata => "metadata",
    Messages => "messages",
    Prompt => "prompt",
    Input => "input",
    Contents => "contents",
    Tools => "tools",
    Functions => "functions",
    ResponseFormat => "response_format",
    WebSearchOptions => "web_search_options",
    Modalities => "modalities",
    Prediction => "prediction",
    PromptCacheOptions => "prompt_cache_options",
}

/// The values of the fields that we read, as they stand in the body.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    values: [Option<Value<'a>>; Field::ALL.len()],
    /// What the messages of a chat hold apart from text.
    pub(super) media: Media,
    pub(super) tools: Tools,
    pub(super) functions: Tools,
    /// No tokenizer makes more tokens of the body than this.
    pub(super) tokens_max: u64,
    /// A field that no two parsers may read the same way.
    ambiguous: Option<(Field, &'static str)>,
}

/// Reads a whole document: one object, nothing after it.
pub(super) fn scan(operation: Operation, body: &[u8]) -> Result<Fields<'_>, EnvelopeError> {
    let mut fields = Fields::default();
    fields.walk(operation, body).map_err(|flaw| EnvelopeError::not_json(&flaw))?;
    match fields.ambiguous {
        Some((field, reason)) => Err(EnvelopeError::field(field.name(), reason)),
        None => Ok(fields),
    }
}

impl<'a> Fields<'a> {
    /// The value as it stands, `null` included.
    pub(super) const fn raw(&self, field: Field) -> Option<&Value<'a>> {
        self.values[field as usize].as_ref()
    }

    /// The value; `null` counts as absent.
    pub(super) fn get(&self, field: Field) -> Option<&Value<'a>> {
        self.raw(field).filter(|value| !value.is_null())
    }

    fn walk(&mut self, operation: Operation, body: &'a [u8]) -> Result<(), Flaw> {
        let mut json = Json::new(body);
        json.object(|json, name| self.add(operation, json, name))?;
        json.end()?;
        self.tokens_max = as_u64(body.len() + json.growth());
        Ok(())
    }

    fn add(&mut self, operation: Operation, json: &mut Json<'a>, name: Value<'a>) -> Result<(), Flaw> {
        match Name::of(&name).ok_or_else(|| json.expected("a name in Unicode before this"))? {
            Name::Known(field) => {
                let value = json.measured(|json| self.walk_field(operation, json, field))?;
                if self.values[field as usize].replace(value).is_some() {
                    self.ambiguous = Some((field, "is given twice"));
                }
                Ok(())
            }
            Name::Lookalike(field) => {
                let reason = "is given in other letter case, which some servers read as the same";
                self.ambiguous = Some((field, reason));
                json.skip()
            }
            Name::Other => json.skip(),
        }
    }

    fn walk_field(&mut self, operation: Operation, json: &mut Json<'a>, field: Field) -> Result<(), Flaw> {
        match field {
            Field::Messages if operation == Operation::ChatCompletions => self.media.walk(json),
            Field::Tools => self.tools.walk(json),
            Field::Functions => self.functions.walk(json),
            _ => json.skip(),
        }
    }
}

/// A field's name after its escapes are undone, as every upstream reads it.
enum Name {
    Known(Field),
    Lookalike(Field),
    Other,
}

impl Name {
    /// `None` when the name is no text: a half of a surrogate pair.
    fn of(name: &Value<'_>) -> Option<Self> {
        let name = name.string()?;
        let name = std::str::from_utf8(&name).ok()?;
        if let Some(field) = Field::from_name(name) {
            return Some(Self::Known(field));
        }
        let lookalike = Field::ALL.iter().find(|field| folds_to(name, field.name()));
        Some(lookalike.map_or(Self::Other, |field| Self::Lookalike(*field)))
    }
}

/// Whether a parser that ignores case, as Go's does, reads `name` as `field`: it also folds `ſ` to `s` and the Kelvin
/// sign to `k`.
fn folds_to(name: &str, field: &str) -> bool {
    if name.is_ascii() {
        return name.eq_ignore_ascii_case(field);
    }
    let fold = |letter: char| match letter {
        'ſ' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    name.len() >= field.len() && name.chars().map(fold).eq(field.chars())
}
