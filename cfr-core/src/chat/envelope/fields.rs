//! The fields of an object that decide about routing and price: which values stand where, each of its type and in range.

use super::json::{Flaw, Json, Value};
use super::text::as_u64;
use super::{
    CapField, EnvelopeError, Gap, METADATA_BYTES_MAX, MODEL_BYTES_MAX, OUTPUT_TOKENS_MAX, OpenCaps, OutputCap, Span,
    TAG_BYTES_MAX, TIER_BYTES_MAX,
};

/// The fields of an object that a reader knows, one variant each.
pub(super) trait Known: Copy + 'static {
    /// Every name of every field.
    const NAMES: &'static [(&'static str, Self)];

    fn from_name(name: &str) -> Option<Self>;

    /// The name in error messages.
    fn name(self) -> &'static str;

    fn index(self) -> usize;
}

/// Makes the enum of known fields, and `Fields` for it. The first name of a field is the one in error messages.
macro_rules! fields {
    ($outer:literal: $($variant:ident => $name:literal $(| $other:literal)*,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum Field { $($variant,)* }

        impl $crate::chat::envelope::fields::Known for Field {
            const NAMES: &'static [(&'static str, Self)] =
                &[$(($name, Self::$variant), $(($other, Self::$variant),)*)*];

            fn from_name(name: &str) -> Option<Self> {
                match name { $($name $(| $other)* => Some(Self::$variant),)* _ => None }
            }

            fn name(self) -> &'static str {
                match self { $(Self::$variant => concat!($outer, $name),)* }
            }

            fn index(self) -> usize {
                self as usize
            }
        }

        pub(super) type Fields<'a> =
            $crate::chat::envelope::fields::FieldsOf<'a, Field, { [$(Field::$variant,)*].len() }>;
    };
}

pub(super) use fields;

/// The values of the fields that we read, as they stand in the body.
#[derive(Debug)]
pub(super) struct FieldsOf<'a, F, const N: usize> {
    values: [Option<Value<'a>>; N],
    /// No tokenizer makes more tokens of the body than this.
    pub(super) tokens_max: u64,
    /// A field that no two parsers may read the same way.
    ambiguous: Option<(F, &'static str)>,
}

impl<'a, F: Known, const N: usize> FieldsOf<'a, F, N> {
    /// Reads a whole document: one object, nothing after it. `walk` walks over the value of each known field.
    pub(super) fn document(
        body: &'a [u8],
        walk: impl FnMut(&mut Json<'a>, F) -> Result<(), Flaw>,
    ) -> Result<Self, EnvelopeError> {
        let mut json = Json::new(body);
        let read = Self::object(&mut json, walk).and_then(|fields| json.end().map(|()| fields));
        let mut fields = read.map_err(|flaw| EnvelopeError::not_json(&flaw))?;
        fields.tokens_max = as_u64(body.len() + json.growth());
        fields.unambiguous()
    }

    /// Walks over an object; `walk` walks over the value of each known field.
    pub(super) fn object(
        json: &mut Json<'a>,
        mut walk: impl FnMut(&mut Json<'a>, F) -> Result<(), Flaw>,
    ) -> Result<Self, Flaw> {
        let mut fields = Self { values: [None; N], tokens_max: 0, ambiguous: None };
        json.object(|json, name| fields.add(json, name, &mut walk))?;
        Ok(fields)
    }

    /// The fields, when all parsers read the same.
    pub(super) fn unambiguous(self) -> Result<Self, EnvelopeError> {
        match self.ambiguous {
            Some((field, reason)) => Err(EnvelopeError::field(field.name(), reason)),
            None => Ok(self),
        }
    }

    fn add(
        &mut self,
        json: &mut Json<'a>,
        name: Value<'a>,
        walk: &mut impl FnMut(&mut Json<'a>, F) -> Result<(), Flaw>,
    ) -> Result<(), Flaw> {
        match Name::of(&name).ok_or_else(|| json.expected("a name in Unicode before this"))? {
            Name::Known(field) => {
                let value = json.measured(|json| walk(json, field))?;
                if self.values.get_mut(field.index()).is_some_and(|slot| slot.replace(value).is_some()) {
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

    /// The value as it stands, `null` included.
    pub(super) fn raw(&self, field: F) -> Option<&Value<'a>> {
        self.values.get(field.index())?.as_ref()
    }

    /// The value; `null` counts as absent.
    pub(super) fn get(&self, field: F) -> Option<&Value<'a>> {
        self.raw(field).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, field: F) -> bool {
        self.get(field).is_some()
    }

    pub(super) fn span(&self, field: F) -> Option<Span> {
        self.raw(field).map(Value::span)
    }

    pub(super) fn tokens_max_of(&self, field: F) -> u64 {
        self.get(field).map_or(0, Value::tokens_max)
    }

    pub(super) fn flag(&self, field: F) -> Result<bool, EnvelopeError> {
        match self.get(field).map(|value| value.json) {
            None | Some(b"false") => Ok(false),
            Some(b"true") => Ok(true),
            Some(_) => Err(EnvelopeError::field(field.name(), "must be true or false")),
        }
    }

    pub(super) fn integer(&self, field: F, min: u64, max: u64) -> Result<Option<u64>, EnvelopeError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        match value.number() {
            Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(EnvelopeError::field(field.name(), format!("must be an integer from {min} to {max}"))),
        }
    }

    /// An integer from 1 to `max`.
    pub(super) fn count(&self, field: F, max: u32) -> Result<Option<u32>, EnvelopeError> {
        let count = self.integer(field, 1, u64::from(max))?;
        Ok(count.map(|count| u32::try_from(count).unwrap_or(max)))
    }

    pub(super) fn string(&self, field: F) -> Result<Option<Box<str>>, EnvelopeError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let wrong = |_| EnvelopeError::field(field.name(), "must be a string");
        serde_json::from_slice(value.json).map(Some).map_err(wrong)
    }

    /// The name of the model, which must be there.
    pub(super) fn model(&self, field: F) -> Result<Box<str>, EnvelopeError> {
        let missing = || EnvelopeError::field(field.name(), "is missing");
        check_model(field.name(), self.string(field)?.ok_or_else(missing)?)
    }

    /// A word that decides about the price: a service tier or its like.
    pub(super) fn word(&self, field: F) -> Result<Option<Box<str>>, EnvelopeError> {
        match self.string(field)? {
            Some(word) if word.len() > TIER_BYTES_MAX => {
                Err(EnvelopeError::field(field.name(), format!("has more than {TIER_BYTES_MAX} bytes")))
            }
            word => Ok(word),
        }
    }

    /// The caller's own name for the one who asks.
    pub(super) fn tag(&self, field: F) -> Result<Option<Box<str>>, EnvelopeError> {
        Ok(self.string(field)?.map(|tag| cut_tag(&tag)))
    }

    /// The caller's notes: an object as it stands.
    pub(super) fn metadata(&self, field: F) -> Result<Option<Box<str>>, EnvelopeError> {
        match self.get(field).map(Value::text) {
            Some(text) if !text.starts_with('{') => Err(EnvelopeError::field(field.name(), "must be an object")),
            Some(text) if text.len() > METADATA_BYTES_MAX => {
                Err(EnvelopeError::field(field.name(), format!("has more than {METADATA_BYTES_MAX} bytes")))
            }
            text => Ok(text.map(Box::from)),
        }
    }

    /// A cap on answer tokens of at least `min`.
    pub(super) fn cap(&self, field: F, name: CapField, min: u64) -> Result<Option<OutputCap>, EnvelopeError> {
        let tokens = self.integer(field, min, OUTPUT_TOKENS_MAX)?;
        Ok(tokens.zip(self.span(field)).map(|(tokens, span)| OutputCap { field: name, tokens, span }))
    }

    /// Those of the caps that are `null`.
    pub(super) fn null_caps<const M: usize>(&self, caps: [(F, CapField); M]) -> OpenCaps {
        let null = |(field, name)| self.null_span(field).map(|span| (name, Gap::Null(span)));
        OpenCaps(caps.into_iter().filter_map(null).collect())
    }

    pub(super) fn null_span(&self, field: F) -> Option<Span> {
        self.raw(field).filter(|value| value.is_null()).map(Value::span)
    }
}

/// The name of a model, when it can be one.
pub(super) fn check_model(field: &'static str, name: Box<str>) -> Result<Box<str>, EnvelopeError> {
    let refuse = |reason: String| Err(EnvelopeError::field(field, reason));
    match &*name {
        "" => refuse("is empty".into()),
        long if long.len() > MODEL_BYTES_MAX => refuse(format!("has more than {MODEL_BYTES_MAX} bytes")),
        text if text.contains(char::is_control) => refuse("has control characters".into()),
        _ => Ok(name),
    }
}

pub(super) fn cut_tag(tag: &str) -> Box<str> {
    tag.get(..tag.floor_char_boundary(TAG_BYTES_MAX)).unwrap_or(tag).into()
}

/// A field's name after its escapes are undone, as every upstream reads it.
enum Name<F> {
    Known(F),
    Lookalike(F),
    Other,
}

impl<F: Known> Name<F> {
    /// `None` when the name is no text: a half of a surrogate pair.
    fn of(name: &Value<'_>) -> Option<Self> {
        let name = name.string()?;
        let name = std::str::from_utf8(&name).ok()?;
        if let Some(field) = F::from_name(name) {
            return Some(Self::Known(field));
        }
        let lookalike = F::NAMES.iter().find(|(known, _)| folds_to(name, known));
        Some(lookalike.map_or(Self::Other, |(_, field)| Self::Lookalike(*field)))
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
    name.len() >= field.len() && name.chars().map(fold).eq(field.chars().map(|letter| letter.to_ascii_lowercase()))
}
