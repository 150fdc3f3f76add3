//! Images out of words and other images.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cfr_core::chat::{Call, FormFile, Meter, Usage};
use cfr_core::upstream::{UpstreamError, WholeReply};
use http::HeaderValue;
use serde_json::{Value, json};

use super::{Answer, whole};
use crate::dialog::{Drops, Fields};
use crate::openai::created_at;

/// Shapes that Google's models make, as width and height.
const SHAPES: [(u32, u32); 10] = [(1, 1), (2, 3), (3, 2), (3, 4), (4, 3), (4, 5), (5, 4), (9, 16), (16, 9), (21, 9)];

/// The body to send.
pub(super) fn body(call: &Call, drops: &mut Drops) -> Result<Value, UpstreamError> {
    let mut fields = Fields::of_body(&call.body)?;
    drop(fields.take("model"));
    let mut parts = vec![json!({"text": fields.required_text("prompt")?})];
    parts.extend(call.files.iter().filter(|file| &*file.field != "mask").map(of_file));
    for field in ["images", "image"] {
        if let Some(images) = fields.take(field) {
            parts.extend(
                addresses(images).into_iter().map(|image| of_address(field, &image)).collect::<Result<Vec<_>, _>>()?,
            );
        }
    }
    drops.essential_said(&[
        ("n", fields.integer("n")?.unwrap_or(1) != 1),
        ("mask", fields.take("mask").is_some() || call.files.iter().any(|file| &*file.field == "mask")),
        ("response_format", fields.text("response_format")?.is_some_and(|format| format != "b64_json")),
        ("output_format", fields.text("output_format")?.is_some_and(|format| format != "png")),
        ("background", fields.text("background")?.is_some_and(|background| background == "transparent")),
    ])?;
    let mut config = json!({"responseModalities": ["IMAGE"]});
    match fields.text("size")?.as_deref() {
        None | Some("auto") => {}
        Some(size) => match shape(size) {
            Some((width, height)) => config["imageConfig"] = json!({"aspectRatio": format!("{width}:{height}")}),
            None => drops.essential("size")?,
        },
    }
    fields.left().into_iter().for_each(|field| drops.harmless(String::from(field)));
    Ok(json!({"contents": [{"role": "user", "parts": parts}], "generationConfig": config}))
}

/// The shape of `1024x1536`; how large an image is, the model decides.
fn shape(size: &str) -> Option<(u32, u32)> {
    let (width, height) = size.split_once('x')?;
    let (width, height) = (width.parse::<u32>().ok()?, height.parse::<u32>().ok()?);
    SHAPES.into_iter().find(|(wide, high)| u64::from(*wide) * u64::from(height) == u64::from(*high) * u64::from(width))
}

fn of_file(file: &FormFile) -> Value {
    let kind = file.content_type.as_deref().unwrap_or("image/png");
    json!({"inlineData": {"mimeType": kind, "data": STANDARD.encode(&file.bytes)}})
}

fn addresses(images: Value) -> Vec<Value> {
    match images {
        Value::Array(images) => images,
        one => vec![one],
    }
}

/// An image whose bytes stand in its address.
fn of_address(field: &str, image: &Value) -> Result<Value, UpstreamError> {
    let address = image.as_str().or_else(|| image["image_url"].as_str()).or_else(|| image["url"].as_str());
    let inside = address.and_then(|address| address.strip_prefix("data:")?.split_once(";base64,"));
    let unsupported = || UpstreamError::Unsupported { message: format!("{field}: must hold the image itself").into() };
    let (kind, data) = inside.ok_or_else(unsupported)?;
    Ok(json!({"inlineData": {"mimeType": kind, "data": data}}))
}

/// The answer in OpenAI's words.
pub(super) fn reply(call: &Call, answer: &Answer) -> Result<WholeReply, UpstreamError> {
    let data: Vec<Value> = answer.made.iter().map(|image| json!({"b64_json": image.data})).collect();
    let kind = answer.made.first().and_then(|image| image.mime_type.strip_prefix("image/"));
    let mut body = json!({"created": created_at(call), "data": data, "output_format": kind});
    if let Some(usage) = &answer.usage {
        body["usage"] = written(usage);
    }
    Ok(whole(HeaderValue::from_static("application/json"), body.to_string().into(), answer.report(answer.usage)))
}

fn written(usage: &Usage) -> Value {
    let (input, output) = (usage.input_total(), usage.output_total());
    let given = usage.get(Meter::InputImageTokens) + usage.get(Meter::CacheReadImageTokens);
    let made = usage.get(Meter::OutputImageTokens);
    json!({
        "input_tokens": input, "input_tokens_details": {"text_tokens": input - given, "image_tokens": given},
        "output_tokens": output, "output_tokens_details": {"image_tokens": made, "text_tokens": output - made},
        "total_tokens": input + output,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_shape() {
        assert_eq!(shape("1024x1024"), Some((1, 1)));
        assert_eq!(shape("1024x1536"), Some((2, 3)));
        assert_eq!(shape("1920x1080"), Some((16, 9)));
        for size in ["1000x999", "x", "0x1", "axb"] {
            assert_eq!(shape(size), None, "{size}");
        }
    }
}
