//! Places to cache up to: Anthropic takes four, and those for an hour must come first (providers.md §6.1).

use serde_json::{Map, Value, json};

use crate::dialog::{CacheMark, Dialog, Drops, File, Image, Part, Text, Tool, ToolCall, ToolResult};

/// Places in one request.
const MARKS_MAX: usize = 4;

/// Hands out the marks of a dialog in the order in which the provider reads them: tools, system, turns. Of too many the
/// first are left out, because a later one covers what an earlier one does.
#[derive(Debug)]
pub(crate) struct Marks {
    surplus: usize,
    left_out: bool,
    /// A shorter mark has been set, so that a longer one may not follow.
    short: bool,
}

impl Marks {
    pub(crate) fn of(dialog: &Dialog) -> Self {
        let tools = dialog.tools.iter().filter(|tool| matches!(tool, Tool::Function { cache: Some(_), .. })).count();
        let system = dialog.system.iter().filter(|text| text.cache.is_some() && !text.text.trim().is_empty()).count();
        let turns: usize = dialog.turns.iter().flat_map(|turn| &turn.parts).map(count).sum();
        Self { surplus: (tools + system + turns).saturating_sub(MARKS_MAX), left_out: false, short: false }
    }

    /// Sets the next mark on the block that has it.
    pub(crate) fn set(&mut self, block: &mut Map<String, Value>, mark: Option<CacheMark>) {
        let Some(mark) = mark else { return };
        if self.surplus > 0 {
            self.surplus -= 1;
            self.left_out = true;
            return;
        }
        let hour = mark != CacheMark::Usual && !self.short;
        self.short |= !hour;
        let control = if hour { json!({"type": "ephemeral", "ttl": "1h"}) } else { json!({"type": "ephemeral"}) };
        block.insert("cache_control".into(), control);
    }

    /// Says what was left out.
    pub(crate) fn report(&self, drops: &mut Drops) {
        if self.left_out {
            drops.harmless("cache_control");
        }
    }
}

fn count(part: &Part) -> usize {
    let own = match part {
        Part::Text(Text { text, cache, .. }) => cache.filter(|_| !text.trim().is_empty()),
        Part::Image(Image { cache, .. })
        | Part::File(File { cache, .. })
        | Part::ToolCall(ToolCall { cache, .. })
        | Part::ToolResult(ToolResult { cache, .. }) => *cache,
        _ => None,
    };
    let inner = match part {
        Part::ToolResult(result) => result.content.iter().map(count).sum(),
        _ => 0,
    };
    usize::from(own.is_some()) + inner
}
