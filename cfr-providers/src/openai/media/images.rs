//! Images, whole.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cfr_core::chat::{Call, FormFile, Meter, Usage};
use cfr_core::upstream::{Order, Report, UpstreamError, WholeReply};
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::usage::{Makes, MediaUsage};
use crate::openai::decode::malformed;
use crate::openai::quirks::Quirks;
use crate::openai::{error, usage};

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default)]
    data: Option<Vec<IgnoredAny>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

pub(super) fn whole(
    quirks: &Quirks,
    call: &Call,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<WholeReply, UpstreamError> {
    let answer = crate::json::parse::<Answer<'_>>(&body).map_err(|cause| malformed(headers, &cause))?;
    let Some(made) = answer.data.as_ref().map(Vec::len).filter(|made| *made > 0) else {
        return Err(match answer.error {
            Some(_) => error::read_in_success(headers, &body),
            None => UpstreamError::Malformed { message: "the answer has no image".into() },
        });
    };
    let report = Report {
        usage: Some(used(call, answer.usage, made)),
        provider_cost: answer.usage.and_then(|raw| usage::cost(quirks, raw)),
        ..Report::default()
    };
    let content_type = HeaderValue::from_static("application/json");
    Ok(WholeReply { content_type, report, upstream_id: None, body, dropped: Vec::new() })
}

/// By tokens where the provider counts them, else by the images themselves.
fn used(call: &Call, usage: Option<&RawValue>, made: usize) -> Usage {
    let by_tokens = usage.and_then(|raw| serde_json::from_str::<MediaUsage>(raw.get()).ok()?.read(Makes::Images));
    by_tokens.filter(|usage| !usage.is_zero()).unwrap_or_else(|| by_piece(call, made as u64)) // no image has no tokens
}

/// Images made, and those that were given for each of them.
pub(super) fn by_piece(call: &Call, made: u64) -> Usage {
    let given = u64::from(call.envelope.input.images);
    Usage::default().with(Meter::OutputImages, made).with(Meter::InputImages, given.saturating_mul(made))
}

/// A form for a server that takes images in JSON only: its files as addresses that hold them.
pub(super) fn edit_in_json(order: &Order<'_>) -> Result<Bytes, UpstreamError> {
    let mut fields = super::fields(order)?;
    let (masks, images): (Vec<_>, Vec<_>) = order.call.files.iter().partition(|file| &*file.field == "mask");
    if let Some(mask) = masks.first() {
        fields.insert("mask".into(), image_in_json(mask));
    }
    let mut images: Vec<Value> = images.into_iter().map(image_in_json).collect();
    match images.len() {
        1 => fields.insert("image".into(), images.remove(0)),
        _ => fields.insert("images".into(), images.into()),
    };
    Ok(Value::Object(fields).to_string().into())
}

fn image_in_json(file: &FormFile) -> Value {
    let kind = file.content_type.as_deref().unwrap_or("image/png");
    json!({"type": "image_url", "url": format!("data:{kind};base64,{}", STANDARD.encode(&file.bytes))})
}
