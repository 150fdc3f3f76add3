//! The one pass over a body: which values stand where. Nothing is copied or unescaped but the names of fields.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::EnvelopeError;

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

/// The values of the fields that we read, as they stand in the body.
pub(super) struct Fields<'a> {
    values: [Option<&'a RawValue>; Field::ALL.len()],
    /// A field that no two parsers may read the same way.
    ambiguous: Option<(Field, &'static str)>,
}

impl<'a> Fields<'a> {
    /// The value as it stands, `null` included.
    pub(super) fn raw(&self, field: Field) -> Option<&'a str> {
        self.values[field as usize].map(RawValue::get)
    }

    /// The value; `null` counts as absent.
    pub(super) fn get(&self, field: Field) -> Option<&'a str> {
        self.raw(field).filter(|raw| *raw != "null")
    }
}

/// Reads a whole document: one object, nothing after it.
pub(super) fn scan(text: &str) -> Result<Fields<'_>, EnvelopeError> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let fields = parser.deserialize_map(Outer).map_err(|error| EnvelopeError::not_json(&error))?;
    parser.end().map_err(|error| EnvelopeError::not_json(&error))?;
    match fields.ambiguous {
        Some((field, reason)) => Err(EnvelopeError::field(field.name(), reason)),
        None => Ok(fields),
    }
}

struct Outer;

impl<'de> Visitor<'de> for Outer {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields { values: [None; Field::ALL.len()], ambiguous: None };
        while let Some(key) = map.next_key_seed(Key)? {
            match key {
                Name::Known(field) => {
                    let value = map.next_value::<&RawValue>()?;
                    if fields.values[field as usize].replace(value).is_some() {
                        fields.ambiguous = Some((field, "is given twice"));
                    }
                }
                Name::Lookalike(field) => {
                    map.next_value::<IgnoredAny>()?;
                    fields.ambiguous =
                        Some((field, "is given in other letter case, which some servers read as the same"));
                }
                Name::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}

/// A field's name after its escapes are undone, as every upstream reads it.
enum Name {
    Known(Field),
    Lookalike(Field),
    Other,
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Name;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<Name, E> {
        if let Some(field) = Field::from_name(name) {
            return Ok(Name::Known(field));
        }
        let lookalike = Field::ALL.iter().find(|field| folds_to(name, field.name()));
        Ok(lookalike.map_or(Name::Other, |field| Name::Lookalike(*field)))
    }
}

/// Whether a parser that ignores case, as Go's does, reads `name` as `field`: it also folds `ſ` to `s` and the Kelvin
/// sign to `k`.
fn folds_to(name: &str, field: &str) -> bool {
    let fold = |letter: char| match letter {
        'ſ' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    name.len() >= field.len() && name.chars().map(fold).eq(field.chars())
}

/// Whether arrays and objects stand in each other more than `depth` deep. Looks at brackets outside strings only.
pub(super) fn nests_deeper_than(body: &[u8], depth: usize) -> bool {
    if memchr::memchr2_iter(b'{', b'[', body).nth(depth).is_none() {
        return false;
    }
    let mut open = 0_usize;
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        at += 1;
        match byte {
            b'"' => at += string_rest(body.get(at..).unwrap_or_default()),
            b'{' | b'[' => open += 1,
            b'}' | b']' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > depth {
            return true;
        }
    }
    false
}

/// How many bytes are left of a string whose opening quote was read, its closing quote included.
fn string_rest(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'"', b'\\', bytes.get(at..).unwrap_or_default()) {
        at += found;
        if bytes.get(at) == Some(&b'"') {
            return at + 1;
        }
        at += 2;
    }
    bytes.len()
}
