//! What Gemini's contents and tools hold: images are counted, what is text counts by its bytes, everything else is
//! unbounded.

use super::super::json::{Flaw, Json, Value};
use super::super::media::{Media, Tools};
use super::super::record::Record;
use super::super::{TOOL_CALLS_MAX, TOOL_SEARCHES_MAX};

/// What an id has besides the function's name.
const MADE_ID_TOKENS: u64 = 32;

/// Walks over the contents.
pub(super) fn walk(media: &mut Media, json: &mut Json<'_>) -> Result<(), Flaw> {
    match json.next_byte() {
        Some(b'[') => json.array(|json| walk_one(media, json)),
        _ => media.refuse(json),
    }
}

/// Walks over one content.
pub(super) fn walk_one(media: &mut Media, json: &mut Json<'_>) -> Result<(), Flaw> {
    match json.next_byte() {
        Some(b'{') => {}
        Some(b'n') => return json.skip(),
        _ => return media.refuse(json),
    }
    let content = Record::walk_google(json, ["parts"], |json, _| parts(media, json))?;
    media.note(content.wrong);
    Ok(())
}

fn parts(media: &mut Media, json: &mut Json<'_>) -> Result<(), Flaw> {
    match json.next_byte() {
        Some(b'[') => json.array(|json| part(media, json)),
        Some(b'n') => json.skip(),
        _ => media.refuse(json),
    }
}

fn part(media: &mut Media, json: &mut Json<'_>) -> Result<(), Flaw> {
    if json.next_byte() != Some(b'{') {
        return media.refuse(json);
    }
    let known = [
        "text",
        "thought",
        "thoughtSignature",
        "functionCall",
        "functionResponse",
        "inlineData",
        "executableCode",
        "codeExecutionResult",
        "mediaResolution",
    ];
    let part = Record::walk_google(json, known, |json, name| match (name, json.next_byte()) {
        ("inlineData", Some(b'{')) => inline_data(media, json),
        ("functionCall" | "functionResponse", Some(b'{')) => function(media, json),
        _ => json.skip(),
    })?;
    media.note(part.wrong);
    media.unbounded |= part.more;
    Ok(())
}

fn inline_data(media: &mut Media, json: &mut Json<'_>) -> Result<(), Flaw> {
    let blob = Record::walk_google(json, ["mimeType", "data"], |json, _| json.skip())?;
    media.note(blob.wrong);
    let [kind, data] = blob.values;
    match data {
        Some(data) if kind.is_some_and(is_image) => media.add_image_inside(data.json),
        _ => media.unbounded = true,
    }
    Ok(())
}

fn is_image(mime_type: Value<'_>) -> bool {
    mime_type.string().is_some_and(|said| said.starts_with(b"image/"))
}

/// A call of a function, or what it gave back, of which `parts` may be images. Other providers want an id for each, which
/// is made of the name.
fn function(media: &mut Media, json: &mut Json<'_>) -> Result<(), Flaw> {
    let function = Record::walk_google(json, ["id", "name", "parts"], |json, name| match name {
        "parts" => parts(media, json),
        _ => json.skip(),
    })?;
    media.note(function.wrong);
    let [id, name, _] = function.values;
    if id.is_none() {
        media.made_id_tokens += MADE_ID_TOKENS + name.map_or(0, |name| name.tokens_max());
    }
    Ok(())
}

/// Walks over the tools: declarations of functions, and names of what runs at the provider.
pub(super) fn walk_tools(tools: &mut Tools, json: &mut Json<'_>) -> Result<(), Flaw> {
    match json.next_byte() {
        Some(b'[') => json.array(|json| tool(tools, json)),
        Some(b'n') => json.skip(),
        _ => tools.refuse(json),
    }
}

fn tool(tools: &mut Tools, json: &mut Json<'_>) -> Result<(), Flaw> {
    if json.next_byte() != Some(b'{') {
        return tools.refuse(json);
    }
    let known = ["functionDeclarations", "googleSearch", "googleSearchRetrieval", "enterpriseWebSearch", "googleMaps"];
    let mut functions = 0;
    let tool = Record::walk_google(json, known, |json, name| match (name, json.next_byte()) {
        ("functionDeclarations", Some(b'[')) => json.array(|json| {
            functions += 1;
            json.skip()
        }),
        _ => json.skip(),
    })?;
    tools.note(tool.wrong);
    let [_, search, retrieval, enterprise_search, maps] = tool.values;
    tools.count += functions;
    if [search, retrieval, enterprise_search].iter().any(Option::is_some) {
        tools.add_web_search(TOOL_SEARCHES_MAX);
    }
    if maps.is_some() {
        tools.add_hosted(TOOL_CALLS_MAX);
        tools.maps_queries = tools.maps_queries.saturating_add(TOOL_CALLS_MAX);
    }
    if tool.more {
        tools.add_hosted(TOOL_CALLS_MAX);
    }
    Ok(())
}
