//! What Anthropic's content blocks hold: images are counted, what is text or stands in the body encrypted counts by its
//! bytes (no cipher makes it shorter), everything else is unbounded.

use super::super::json::{Flaw, Json, Value};
use super::super::media::Media;
use super::super::record::{Record, Wrong};

/// Walks over the messages.
pub(super) fn walk_messages(media: &mut Media, json: &mut Json<'_>) -> Result<(), Flaw> {
    match json.next_byte() {
        Some(b'[') => json.array(|json| message(media, json)),
        _ => media.refuse(json),
    }
}

fn message(media: &mut Media, json: &mut Json<'_>) -> Result<(), Flaw> {
    if json.next_byte() != Some(b'{') {
        return media.refuse(json);
    }
    let message = Record::walk(json, ["content"], |json, _| walk(media, json))?;
    media.note(message.wrong);
    Ok(())
}

/// Walks over a content: a text or blocks.
pub(super) fn walk(media: &mut Media, json: &mut Json<'_>) -> Result<(), Flaw> {
    match json.next_byte() {
        Some(b'[') => json.array(|json| block(media, json)),
        Some(b'"' | b'n') => json.skip(),
        Some(b'{') => block(media, json),
        _ => media.refuse(json),
    }
}

fn block(media: &mut Media, json: &mut Json<'_>) -> Result<(), Flaw> {
    if json.next_byte() != Some(b'{') {
        return media.refuse(json);
    }
    let mut source = Source::default();
    let known = ["type", "source", "content", "citations", "cache_control"];
    let block = Record::walk(json, known, |json, name| match (name, json.next_byte()) {
        ("source", Some(b'{')) => source.walk(media, json),
        ("content", Some(b'{' | b'[')) => walk(media, json),
        _ => json.skip(),
    })?;
    media.note(block.wrong);
    let [kind, _, _, citations, cache_control] = block.values;
    media.cache_markers |= cache_control.is_some();
    match kind.map(|kind| kind.string().ok_or(kind)) {
        Some(Err(_)) => media.note(Some(Wrong::shape(json))),
        Some(Ok(kind)) if is_text(&kind) => {}
        Some(Ok(kind)) if *kind == *b"image" => source.add_image(media),
        Some(Ok(kind)) if *kind == *b"document" => media.unbounded |= !source.is_text(citations.is_some()),
        Some(Ok(_)) | None => media.unbounded = true,
    }
    Ok(())
}

fn is_text(kind: &[u8]) -> bool {
    matches!(
        kind,
        b"text"
            | b"thinking"
            | b"redacted_thinking"
            | b"tool_use"
            | b"tool_result"
            | b"server_tool_use"
            | b"mcp_tool_use"
            | b"mcp_tool_result"
            | b"search_result"
            | b"compaction"
    )
}

/// Where an image or a document is.
#[derive(Default)]
struct Source<'a> {
    kind: Option<Value<'a>>,
    media_type: Option<Value<'a>>,
    data: Option<Value<'a>>,
}

impl<'a> Source<'a> {
    fn walk(&mut self, media: &mut Media, json: &mut Json<'a>) -> Result<(), Flaw> {
        let known = ["type", "media_type", "data", "content"];
        let source = Record::walk(json, known, |json, name| match name {
            "content" => walk(media, json),
            _ => json.skip(),
        })?;
        media.note(source.wrong);
        [self.kind, self.media_type, self.data, _] = source.values;
        Ok(())
    }

    fn says(&self, kind: &[u8]) -> bool {
        self.kind.and_then(|kind| kind.string()).is_some_and(|said| *said == *kind)
    }

    fn add_image(&self, media: &mut Media) {
        let is_image = self.media_type.and_then(|said| said.string()).is_some_and(|said| said.starts_with(b"image/"));
        match self.data {
            Some(data) if self.says(b"base64") && is_image => media.add_image_inside(data.json),
            _ => {
                media.add_image_elsewhere();
                media.unbounded |= !self.says(b"url") && !self.says(b"file");
            }
        }
    }

    /// A text that may be cited is cut into sentences, around which the provider writes marks of its own.
    fn is_text(&self, cited: bool) -> bool {
        self.says(b"content") || (self.says(b"text") && !cited)
    }
}
