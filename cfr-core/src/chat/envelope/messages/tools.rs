//! Anthropic's tools: the caller's own, those that it knows by their type and the caller runs, and those that it runs.

use super::super::json::{Flaw, Json};
use super::super::media::Tools;
use super::super::record::{Record, Wrong};
use super::super::{Gap, HostedCap, TOOL_CALLS_MAX};

/// Beginnings of the types of tools that the caller runs; a date follows.
const RUN_BY_CALLER: [&[u8]; 4] = [b"bash_", b"text_editor_", b"computer_", b"memory_"];

/// Walks over the tools.
pub(super) fn walk(tools: &mut Tools, json: &mut Json<'_>) -> Result<(), Flaw> {
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
    let mut gap = Gap::Inside(json.at());
    let tool = Record::walk(json, ["type", "max_uses", "cache_control"], |json, name| {
        if (name, json.next_byte()) == ("max_uses", Some(b'n')) {
            gap = Gap::Null(json.at()..json.at() + "null".len());
        }
        json.skip()
    })?;
    tools.note(tool.wrong);
    let [kind, max_uses, cache_control] = tool.values;
    tools.count += 1;
    tools.cache_markers |= cache_control.is_some();
    let calls = |tools: &mut Tools| tools.capped(json, max_uses, HostedCap { field: "max_uses", gap: gap.clone() });
    match kind.map(|kind| kind.string().ok_or(kind)) {
        Some(Err(_)) => tools.note(Some(Wrong::shape(json))),
        None => {}
        Some(Ok(kind)) if *kind == *b"custom" => {}
        Some(Ok(kind)) if kind.starts_with(b"web_search") => {
            let calls = calls(tools);
            tools.add_web_search(calls);
        }
        Some(Ok(kind)) if kind.starts_with(b"web_fetch") => {
            let calls = calls(tools);
            tools.add_hosted(calls);
        }
        Some(Ok(kind)) if RUN_BY_CALLER.iter().any(|known| kind.starts_with(known)) => tools.known_to_model += 1,
        Some(Ok(kind)) if kind.starts_with(b"advisor") => tools.note(Some(Wrong::priceless(json))),
        Some(Ok(_)) => tools.add_hosted(TOOL_CALLS_MAX),
    }
    Ok(())
}
