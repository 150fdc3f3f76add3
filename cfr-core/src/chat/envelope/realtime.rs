//! `response.create` of OpenAI's realtime API: one response in a conversation that the provider has.

use bytes::Bytes;

use super::fields::{FieldsOf, Known as _, check_model, fields};
use super::{CapField, Envelope, EnvelopeError, Heard, InputBound, OutputCap, Work};

mod response;

fields! { "":
    Kind => "type",
    Response => "response",
}

/// The event by its name.
const CREATE: &str = "response.create";
/// The word for no cap but the model's own.
const NO_CAP: &[u8] = br#""inf""#;

pub(super) fn read(model: &str, body: &Bytes) -> Result<Envelope, EnvelopeError> {
    let mut response = None;
    let fields = FieldsOf::document(body, |json, field| match (field, json.next_byte()) {
        (Field::Response, Some(b'{')) => {
            response = Some(response::Fields::object(json, |json, _| json.skip())?);
            Ok(())
        }
        _ => json.skip(),
    })?;
    check(&fields, response.is_some())?;
    let response = response.map(response::Fields::unambiguous).transpose()?;
    let (output_cap, metadata) = match &response {
        Some(response) => (cap(response)?, response.metadata(response::Field::Metadata)?),
        None => (None, None),
    };
    let input = InputBound { unbounded: true, work: Work::Conversation(Heard::default()), ..InputBound::default() };
    let plain = Envelope::of_input(check_model("model", model.into())?, None, input);
    Ok(Envelope { stream: true, include_usage: true, output_cap, metadata, ..plain })
}

fn check(fields: &Fields<'_>, is_object: bool) -> Result<(), EnvelopeError> {
    if fields.string(Field::Kind)?.as_deref() != Some(CREATE) {
        return Err(EnvelopeError::field(Field::Kind.name(), format!("must be `{CREATE}`")));
    }
    if fields.has(Field::Response) && !is_object {
        return Err(EnvelopeError::field(Field::Response.name(), "must be an object"));
    }
    Ok(())
}

fn cap(response: &response::Fields<'_>) -> Result<Option<OutputCap>, EnvelopeError> {
    let field = response::Field::MaxOutputTokens;
    let is_open = response.get(field).is_none_or(|value| value.json == NO_CAP);
    if is_open { Ok(None) } else { response.cap(field, CapField::MaxOutputTokens, 1) }
}
