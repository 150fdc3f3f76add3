//! What the input items of Responses hold: images are counted, what is text or stands in the body encrypted counts by its
//! bytes (no cipher makes it shorter). What the provider may keep for an item's id is unbounded.

use super::super::json::{Flaw, Json, Value};
use super::super::media::Media;
use super::super::record::{Record, Wrong};

/// Walks over the input: a text or items.
pub(super) fn walk(media: &mut Media, json: &mut Json<'_>) -> Result<(), Flaw> {
    match json.next_byte() {
        Some(b'[') => json.array(|json| item(media, json)),
        Some(b'"' | b'n') => json.skip(),
        _ => media.refuse(json),
    }
}

/// An item, or a part of one: items and parts have no type in common.
fn item(media: &mut Media, json: &mut Json<'_>) -> Result<(), Flaw> {
    if json.next_byte() != Some(b'{') {
        return media.refuse(json);
    }
    let mut record = None;
    let whole = json.measured(|json| {
        record = Some(Item::walk(media, json)?);
        Ok(())
    })?;
    let Some(item) = record else { return Ok(()) };
    match item.kind.map(|kind| kind.string().ok_or(kind)) {
        Some(Err(_)) => media.note(Some(Wrong::shape(json))),
        None => media.unbounded |= item.content.is_none(), // a message, else a reference
        Some(Ok(kind)) if is_text(&kind) => {}
        Some(Ok(kind)) if matches!(&*kind, b"input_image" | b"computer_screenshot") => item.add_image(media),
        Some(Ok(kind)) if *kind == *b"image_generation_call" => item.add_picture(media),
        Some(Ok(kind)) if *kind == *b"reasoning" => media.unbounded |= item.encrypted.is_none() && item.id.is_some(),
        Some(Ok(_)) => media.unbounded |= may_refer(whole.json),
    }
    Ok(())
}

/// Items and parts that hold all that they mean.
fn is_text(kind: &[u8]) -> bool {
    matches!(
        kind,
        b"message"
            | b"input_text"
            | b"output_text"
            | b"text"
            | b"refusal"
            | b"summary_text"
            | b"reasoning_text"
            | b"function_call"
            | b"function_call_output"
            | b"custom_tool_call"
            | b"custom_tool_call_output"
            | b"local_shell_call"
            | b"local_shell_call_output"
            | b"apply_patch_call"
            | b"apply_patch_call_output"
            | b"computer_call_output"
            | b"mcp_approval_request"
            | b"mcp_approval_response"
            | b"compaction"
    )
}

/// Whether something outside of the body may belong to an item of a kind that we do not know.
fn may_refer(json: &[u8]) -> bool {
    let count = |word: &str| memchr::memmem::find_iter(json, word).count();
    count(r#"id""#) > count(r#""call_id""#)
        || [r#"url""#, r#"data""#, r#"audio""#, r"\u"].iter().any(|word| count(word) > 0)
}

struct Item<'a> {
    kind: Option<Value<'a>>,
    id: Option<Value<'a>>,
    content: Option<Value<'a>>,
    encrypted: Option<Value<'a>>,
    image_url: Option<Value<'a>>,
    file_id: Option<Value<'a>>,
    result: Option<Value<'a>>,
}

impl<'a> Item<'a> {
    fn walk(media: &mut Media, json: &mut Json<'a>) -> Result<Self, Flaw> {
        let known = [
            "type",
            "id",
            "content",
            "output",
            "encrypted_content",
            "image_url",
            "file_id",
            "result",
            "tools",
            "prompt_cache_breakpoint",
        ];
        let record = Record::walk(json, known, |json, name| match (name, json.next_byte()) {
            ("content" | "output", Some(b'[')) => json.array(|json| item(media, json)),
            ("content" | "output", Some(b'{')) => item(media, json),
            _ => json.skip(),
        })?;
        media.note(record.wrong);
        let [kind, id, content, _, encrypted, image_url, file_id, result, tools, cache_breakpoint] = record.values;
        media.unbounded |= tools.is_some(); // the provider words them anew
        media.cache_markers |= cache_breakpoint.is_some();
        Ok(Self { kind, id, content, encrypted, image_url, file_id, result })
    }

    fn add_image(&self, media: &mut Media) {
        match (self.image_url, self.file_id) {
            (None, Some(_)) => media.add_image_elsewhere(),
            (url, _) => media.add_image(url),
        }
    }

    /// A picture that the model drew before: its bytes, or the provider's by its id.
    fn add_picture(&self, media: &mut Media) {
        match self.result {
            Some(bytes) => media.add_image_inside(bytes.json),
            None => media.add_image_elsewhere(),
        }
    }
}
