//! What the messages and tools of a chat completion hold: images are counted, everything else that is not text is
//! unbounded.

use super::super::json::{Flaw, Json};
use super::super::media::{Media, Tools};
use super::super::record::{Record, Wrong};
use super::super::{TOOL_CALLS_MAX, TOOL_SEARCHES_MAX};

/// Walks over the messages.
pub(super) fn walk_messages(media: &mut Media, json: &mut Json<'_>) -> Result<(), Flaw> {
    match json.next_byte() {
        Some(b'[') => json.array(|json| message(media, json)),
        _ => media.refuse(json),
    }
}

/// `audio` is an earlier spoken answer by its id, `images` is Ollama's own place for images: neither is bounded by the
/// body.
fn message(media: &mut Media, json: &mut Json<'_>) -> Result<(), Flaw> {
    if json.next_byte() != Some(b'{') {
        return media.refuse(json);
    }
    let known = ["content", "audio", "images", "cache_control"];
    let message = Record::walk(json, known, |json, name| match name {
        "content" => content(media, json),
        _ => json.skip(),
    })?;
    media.note(message.wrong);
    let [_, audio, images, cache_control] = message.values;
    media.unbounded |= audio.is_some() || images.is_some();
    media.cache_markers |= cache_control.is_some();
    Ok(())
}

fn content(media: &mut Media, json: &mut Json<'_>) -> Result<(), Flaw> {
    match json.next_byte() {
        Some(b'[') => json.array(|json| part(media, json)),
        Some(b'{') => part(media, json),
        _ => json.skip(),
    }
}

/// Walks over one part of a content.
pub(in crate::chat::envelope) fn part(media: &mut Media, json: &mut Json<'_>) -> Result<(), Flaw> {
    match json.next_byte() {
        Some(b'{') => {}
        Some(b'"') => return json.skip(), // text, as some servers take it
        _ => return media.refuse(json),
    }
    let known = ["type", "image_url", "cache_control", "prompt_cache_breakpoint"];
    let mut url = None;
    let part = Record::walk(json, known, |json, name| match (name, json.next_byte()) {
        ("image_url", Some(b'{')) => {
            let image = Record::walk(json, ["url"], |json, _| json.skip())?;
            media.note(image.wrong);
            [url] = image.values;
            Ok(())
        }
        _ => json.skip(),
    })?;
    media.note(part.wrong);
    let [kind, image, cache_control, cache_breakpoint] = part.values;
    media.cache_markers |= cache_control.is_some() || cache_breakpoint.is_some();
    match kind.map(|kind| kind.string().ok_or(kind)) {
        Some(Err(_)) => media.note(Some(Wrong::shape(json))),
        Some(Ok(kind)) if is_text(&kind) => {}
        Some(Ok(kind)) if is_image(&kind) => media.add_image(url.or(image)),
        Some(Ok(_)) | None => media.unbounded = true,
    }
    Ok(())
}

fn is_text(kind: &[u8]) -> bool {
    matches!(kind, b"text" | b"refusal" | b"input_text" | b"output_text" | b"thinking" | b"reasoning")
}

fn is_image(kind: &[u8]) -> bool {
    matches!(kind, b"image_url" | b"input_image")
}

/// Walks over the tools. Functions are described by their text alone; any other kind runs at the provider.
pub(super) fn walk_tools(tools: &mut Tools, json: &mut Json<'_>) -> Result<(), Flaw> {
    match json.next_byte() {
        Some(b'[') => json.array(|json| tool(tools, json)),
        _ => tools.refuse(json),
    }
}

fn tool(tools: &mut Tools, json: &mut Json<'_>) -> Result<(), Flaw> {
    if json.next_byte() != Some(b'{') {
        return tools.refuse(json);
    }
    let tool = Record::walk(json, ["type", "max_uses", "cache_control"], |json, _| json.skip())?;
    tools.note(tool.wrong);
    let [kind, max_uses, cache_control] = tool.values;
    tools.count += 1;
    tools.cache_markers |= cache_control.is_some();
    match kind.map(|kind| kind.string().ok_or(kind)) {
        Some(Err(_)) => tools.note(Some(Wrong::shape(json))),
        Some(Ok(kind)) if matches!(&*kind, b"function" | b"custom") => {}
        Some(Ok(kind)) if memchr::memmem::find(&kind, b"search").is_none() => tools.add_hosted(TOOL_CALLS_MAX),
        Some(Ok(_)) | None => {
            tools.add_web_search(max_uses.and_then(|uses| uses.number()).unwrap_or(TOOL_SEARCHES_MAX));
        }
    }
    Ok(())
}
