//! Texts read aloud: samples of 16 bits, which leave bare or as a WAV file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cfr_core::chat::{Call, Meter, Usage};
use cfr_core::upstream::{UpstreamError, WholeReply};
use http::HeaderValue;
use serde_json::{Value, json};

use super::{Answer, whole};
use crate::dialog::{Drops, Fields};
use crate::wav;

const FORMAT: &str = "response_format";
/// Samples per second where the answer does not say.
const RATE_USUAL: u32 = 24_000;

/// The body to send. What the caller says of the manner stands before the text, as Google wants it.
pub(super) fn body(call: &Call, drops: &mut Drops) -> Result<Value, UpstreamError> {
    let mut fields = Fields::of_body(&call.body)?;
    drop((fields.take("model"), fields.take("stream_format")));
    let format = fields.text(FORMAT)?;
    if !matches!(format.as_deref(), Some("wav" | "pcm")) {
        let message =
            format!("{FORMAT}: this provider makes `wav` and `pcm` only, and `mp3` is what is meant without a word");
        return Err(UpstreamError::Unsupported { message: message.into() });
    }
    let text = fields.required_text("input")?;
    let text = match fields.text("instructions")? {
        Some(instructions) => format!("{instructions}\n\n{text}"),
        None => text,
    };
    drops.essential_said(&[("speed", fields.take("speed").is_some())])?;
    let mut config = json!({"responseModalities": ["AUDIO"]});
    if let Some(voice) = fields.text("voice")? {
        config["speechConfig"] = json!({"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": voice}}});
    }
    fields.left().into_iter().for_each(|field| drops.harmless(String::from(field)));
    Ok(json!({"contents": [{"role": "user", "parts": [{"text": text}]}], "generationConfig": config}))
}

/// The sound in the format that was asked for.
pub(super) fn reply(call: &Call, answer: &Answer) -> Result<WholeReply, UpstreamError> {
    let mut samples = Vec::new();
    for piece in &answer.made {
        let decoded = STANDARD.decode(&piece.data);
        let malformed = |cause| UpstreamError::Malformed { message: format!("sound is not base64: {cause}").into() };
        samples.extend(decoded.map_err(malformed)?);
    }
    let rate = answer.made.first().map_or(RATE_USUAL, |piece| rate_of(&piece.mime_type));
    let report = answer.report(answer.usage.map(all_sound));
    let is_wav = Fields::of_body(&call.body)?.text(FORMAT)?.as_deref() == Some("wav");
    if !is_wav {
        return Ok(whole(HeaderValue::from_static("audio/pcm"), samples.into(), report));
    }
    let too_long = || UpstreamError::Malformed { message: "the sound is too long for a WAV file".into() };
    let file = wav::file(rate, &samples).ok_or_else(too_long)?;
    Ok(whole(HeaderValue::from_static("audio/wav"), file, report))
}

/// `audio/L16;codec=pcm;rate=24000`.
fn rate_of(mime_type: &str) -> u32 {
    let rate = mime_type.split(';').find_map(|parameter| parameter.trim().strip_prefix("rate=")?.parse().ok());
    rate.unwrap_or(RATE_USUAL)
}

/// Such models answer with nothing else, whether or not they say so.
fn all_sound(usage: Usage) -> Usage {
    let words = usage.get(Meter::OutputTokens);
    usage.with(Meter::OutputTokens, 0).with(Meter::OutputAudioTokens, usage.get(Meter::OutputAudioTokens) + words)
}
