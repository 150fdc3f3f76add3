//! `/v1/images/generations` and `/v1/images/edits` of OpenAI.

use bytes::Bytes;

use super::fields::{FieldsOf, Known as _, fields};
use super::json::{Json, Value};
use super::work::size_of;
use super::{Envelope, EnvelopeError, ImageOrder, ImageQuality, InputBound, Work};
use crate::chat::{FormFile, Operation};

/// Images of one request, as OpenAI limits them.
pub const IMAGES_MADE_MAX: u32 = 10;
/// Unfinished images on the way to one, as OpenAI limits them.
pub const PARTIAL_IMAGES_MAX: u64 = 3;
/// Images that one request may give: OpenAI takes 16 and a mask.
pub const IMAGES_GIVEN_MAX: usize = 32;

/// What a provider says to the model around the prompt; measured are 6 tokens (providers.md §17.2).
const TEMPLATE_TOKENS: u64 = 256;
/// What a provider says to the model about each image that is given; measured are up to 45 tokens of text.
const IMAGE_TEMPLATE_TOKENS: u64 = 256;

fields! { "":
    Model => "model",
    Prompt => "prompt",
    Count => "n",
    Size => "size",
    Quality => "quality",
    PartialImages => "partial_images",
    OutputFormat => "output_format",
    Stream => "stream",
    User => "user",
    Image => "image",
    Images => "images",
    Mask => "mask",
}

pub(super) fn read(operation: Operation, body: &Bytes, files: &[FormFile]) -> Result<Envelope, EnvelopeError> {
    let fields = FieldsOf::document(body, |json, _| json.skip())?;
    Reader { fields, files }.envelope(operation)
}

struct Reader<'a> {
    fields: Fields<'a>,
    files: &'a [FormFile],
}

impl Reader<'_> {
    fn envelope(&self, operation: Operation) -> Result<Envelope, EnvelopeError> {
        let fields = &self.fields;
        self.refuse_drawings()?;
        let missing = |name| EnvelopeError::field(name, "is missing");
        fields.string(Field::Prompt)?.ok_or_else(|| missing(Field::Prompt.name()))?;
        let given = self.images_given()?;
        if given == 0 && operation == Operation::ImageEdits {
            return Err(missing(Field::Image.name()));
        }
        let partial_images = fields.integer(Field::PartialImages, 0, PARTIAL_IMAGES_MAX)?.unwrap_or(0);
        let order = ImageOrder {
            size: fields.string(Field::Size)?.as_deref().and_then(size_of),
            quality: fields.string(Field::Quality)?.as_deref().map(ImageQuality::from_word).unwrap_or_default(),
            partial_images: u32::try_from(partial_images).unwrap_or(u32::MAX),
        };
        let input = InputBound {
            text_tokens: self.text_tokens(given),
            images: given,
            work: Work::Images(order),
            ..InputBound::default()
        };
        let user = fields.tag(Field::User)?;
        let choices = fields.count(Field::Count, IMAGES_MADE_MAX)?.unwrap_or(1);
        let stream = fields.flag(Field::Stream)?;
        let plain = Envelope::of_input(fields.model(Field::Model)?, fields.span(Field::Model), input);
        Ok(Envelope { stream, choices, user, include_usage: true, ..plain })
    }

    /// OpenAI has drawings written by another model, and charges that apart.
    fn refuse_drawings(&self) -> Result<(), EnvelopeError> {
        match self.fields.string(Field::OutputFormat)?.as_deref() {
            Some("svg") => Err(EnvelopeError::field(
                Field::OutputFormat.name(),
                "`svg` is charged apart, at a price that is not known",
            )),
            _ => Ok(()),
        }
    }

    /// Images as files of a form and as values of the body: a list counts its elements.
    fn images_given(&self) -> Result<u32, EnvelopeError> {
        let values = [Field::Image, Field::Images, Field::Mask].into_iter().filter_map(|field| self.fields.get(field));
        let count = self.files.len() + values.map(elements).sum::<usize>();
        if count > IMAGES_GIVEN_MAX {
            return Err(EnvelopeError::field("image", format!("is given more than {IMAGES_GIVEN_MAX} times")));
        }
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Of everything but the images, whatever a server makes of it.
    fn text_tokens(&self, given: u32) -> u64 {
        let images = [Field::Image, Field::Images, Field::Mask].map(|field| self.fields.tokens_max_of(field));
        let text = self.fields.tokens_max.saturating_sub(images.into_iter().sum());
        text + TEMPLATE_TOKENS + IMAGE_TEMPLATE_TOKENS * u64::from(given)
    }
}

fn elements(value: &Value<'_>) -> usize {
    if !value.json.starts_with(b"[") {
        return 1;
    }
    let mut count = 0;
    let counted = Json::new(value.json).array(|json| {
        count += 1;
        json.skip()
    });
    if counted.is_ok() { count } else { usize::MAX }
}
