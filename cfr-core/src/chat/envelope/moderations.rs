//! Moderations: texts and images to be judged.

use bytes::Bytes;

use super::bound::Input;
use super::fields::{FieldsOf, Known as _, fields};
use super::json::{Flaw, Json};
use super::media::{Media, Tools};
use super::openai::content;
use super::{Envelope, EnvelopeError};

/// Who judges where the caller names nobody, as at OpenAI.
const MODEL_DEFAULT: &str = "omni-moderation-latest";

fields! { "":
    Model => "model",
    Input => "input",
    User => "user",
    Metadata => "metadata",
}

pub(super) fn read(body: &Bytes) -> Result<Envelope, EnvelopeError> {
    let (mut media, mut texts) = (Media::default(), 0_u32);
    let fields = FieldsOf::document(body, |json, field| match (field, json.next_byte()) {
        (Field::Input, Some(b'[')) => json.array(|json| element(&mut media, &mut texts, json)),
        _ => json.skip(),
    })?;
    check_input(&fields, &media)?;
    let input = Input {
        body_tokens: fields.tokens_max,
        again_tokens: 0,
        schema: false,
        unbounded: false,
        cache_markers: false,
        predicted_tokens: 0,
        media: &media,
        tools: &Tools::default(),
    };
    let model = if fields.has(Field::Model) { fields.model(Field::Model)? } else { MODEL_DEFAULT.into() };
    let envelope = Envelope::of_input(model, fields.span(Field::Model), input.bound());
    Ok(Envelope {
        choices: texts.max(1), // each text is judged by itself
        user: fields.tag(Field::User)?,
        metadata: fields.metadata(Field::Metadata)?,
        ..envelope
    })
}

/// One of many texts, or a part of the one thing that is to be judged.
fn element(media: &mut Media, texts: &mut u32, json: &mut Json<'_>) -> Result<(), Flaw> {
    *texts = texts.saturating_add(u32::from(json.next_byte() == Some(b'"')));
    content::part(media, json)
}

fn check_input(fields: &Fields<'_>, media: &Media) -> Result<(), EnvelopeError> {
    let field = Field::Input.name();
    match fields.get(Field::Input).map(|input| input.json.first()) {
        Some(Some(b'[')) => media.wrong.map_or(Ok(()), |wrong| Err(wrong.of(field))),
        Some(Some(b'"')) => Ok(()),
        Some(_) => Err(EnvelopeError::field(field, "must be a string or an array")),
        None => Err(EnvelopeError::field(field, "is missing")),
    }
}
