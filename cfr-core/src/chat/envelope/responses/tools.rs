//! Tools of Responses: functions stand flat, most other kinds run at the provider.

use super::super::json::{Flaw, Json};
use super::super::media::Tools;
use super::super::record::{Record, Wrong};

/// Walks over the tools.
pub(super) fn walk(tools: &mut Tools, json: &mut Json<'_>) -> Result<(), Flaw> {
    match json.next_byte() {
        Some(b'[') => json.array(|json| tool(tools, json)),
        Some(b'n') => json.skip(),
        _ => tools.refuse(json),
    }
}

/// `tools` are those of a namespace.
fn tool(tools: &mut Tools, json: &mut Json<'_>) -> Result<(), Flaw> {
    if json.next_byte() != Some(b'{') {
        return tools.refuse(json);
    }
    let record = Record::walk(json, ["type", "tools"], |json, name| match name {
        "tools" => walk(tools, json),
        _ => json.skip(),
    })?;
    tools.note(record.wrong);
    tools.count += 1;
    match record.values[0].map(|kind| kind.string().ok_or(kind)) {
        Some(Ok(kind)) => add(tools, &kind, json),
        Some(Err(_)) | None => tools.note(Some(Wrong::shape(json))),
    }
    Ok(())
}

fn add(tools: &mut Tools, kind: &[u8], json: &Json<'_>) {
    match kind {
        b"function" | b"custom" | b"namespace" => {}
        b"local_shell" | b"apply_patch" | b"computer" | b"computer_use_preview" => tools.known_to_model += 1,
        b"image_generation" => tools.note(Some(Wrong::priceless(json))),
        b"file_search" => {
            tools.add_hosted(1);
            tools.file_searches += 1;
        }
        b"code_interpreter" => {
            tools.add_hosted(1);
            tools.code_sessions += 1;
        }
        _ if kind.starts_with(b"web_search") => tools.add_web_search(1),
        _ => tools.add_hosted(1),
    }
}
