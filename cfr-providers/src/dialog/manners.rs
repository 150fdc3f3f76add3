//! What a provider demands of the order of turns. Applied once, before its request is written (providers.md §13.1).

use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cfr_core::upstream::{Rejection, UpstreamError};
use http::StatusCode;

use super::drops::Drops;
use super::part::{Part, Role, Text, ToolCall, ToolResult, Turn};
use super::request::Dialog;

/// Stands where a provider wants words and there are none.
const EMPTY: &str = "(empty)";
/// Stands before a conversation that the model began.
const START: &str = "(start)";
/// The person's words after an answer that the model is to go on with, where it cannot be begun for it.
const GO_ON: &str = "Continue.";
/// The result of a call that has none.
const NO_RESULT: &str = "no result";
/// The length of an id that is made for a provider that does not take the caller's.
const MADE_ID_BYTES: usize = 24;

/// What a provider demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manners {
    /// Where the operator may speak.
    pub system_turns: SystemTurns,
    /// The first turn must be the user's.
    pub begins_with_user: bool,
    /// Turns of one side that follow each other must be one turn.
    pub merges_turns: bool,
    /// The answer may be begun for the model: a last turn of the assistant's is gone on with.
    pub prefill: bool,
    /// The results of all calls must follow them at once, in their order.
    pub answers_every_call: bool,
    /// What ids of calls may look like.
    pub tool_ids: ToolIds,
}

/// Where the operator may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemTurns {
    /// Anywhere.
    Anywhere,
    /// At the beginning only: later words are put into the user's mouth, marked.
    First,
}

/// What ids of calls may look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolIds {
    /// As they like.
    Any,
    /// Letters, digits, `_` and `-`: Anthropic.
    Word,
    /// Letters, digits, `_`, `.`, `:` and `-`, up to 64: Bedrock.
    Word64,
    /// Nine letters and digits: Mistral.
    Nine,
}

impl Manners {
    /// A provider that takes turns as they come.
    pub const NONE: Self = Self {
        system_turns: SystemTurns::Anywhere,
        begins_with_user: false,
        merges_turns: false,
        prefill: true,
        answers_every_call: false,
        tool_ids: ToolIds::Any,
    };
    /// A provider with strictly alternating turns that the user begins.
    pub const STRICT: Self = Self {
        system_turns: SystemTurns::First,
        begins_with_user: true,
        merges_turns: true,
        prefill: false,
        answers_every_call: true,
        tool_ids: ToolIds::Any,
    };

    /// Brings a conversation into the order that the provider demands.
    ///
    /// # Errors
    /// When the conversation cannot be: a result without a call, or a beginning of the answer where the provider takes
    /// none and the caller did not allow to leave it out.
    pub fn apply(&self, dialog: &mut Dialog, drops: &mut Drops) -> Result<(), UpstreamError> {
        name_results(&mut dialog.turns)?;
        if self.system_turns == SystemTurns::First {
            fold_system(&mut dialog.turns);
        }
        if self.merges_turns {
            drop_empty(&mut dialog.turns);
            merge(&mut dialog.turns);
        }
        if self.answers_every_call {
            answer_every_call(&mut dialog.turns);
        }
        if self.begins_with_user && dialog.turns.first().is_none_or(|turn| turn.role != Role::User) {
            dialog.turns.insert(0, Turn { role: Role::User, parts: vec![Part::text(START)] });
        }
        if !self.prefill && dialog.turns.last().is_some_and(|turn| turn.role == Role::Assistant) {
            drops.essential("messages: an answer that is begun by the caller")?;
            dialog.turns.push(Turn { role: Role::User, parts: vec![Part::text(GO_ON)] });
        }
        self.rename_calls(&mut dialog.turns);
        Ok(())
    }

    fn rename_calls(&self, turns: &mut [Turn]) {
        let ids = turns.iter_mut().flat_map(|turn| &mut turn.parts).filter_map(|part| match part {
            Part::ToolCall(ToolCall { id, .. }) | Part::ToolResult(ToolResult { id, .. }) => Some(id),
            _ => None,
        });
        ids.filter(|id| !self.tool_ids.takes(id)).for_each(|id| *id = self.tool_ids.made_of(id));
    }
}

impl ToolIds {
    fn takes(self, id: &str) -> bool {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        match self {
            Self::Any => true,
            Self::Word => !id.is_empty() && id.bytes().all(word),
            Self::Word64 => {
                (1..=64).contains(&id.len()) && id.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b':'))
            }
            Self::Nine => id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        }
    }

    /// An id that the provider takes: always the same for the same one.
    fn made_of(self, id: &str) -> String {
        let digest = URL_SAFE_NO_PAD.encode(digest(id));
        let letters = digest.chars().filter(char::is_ascii_alphanumeric);
        match self {
            Self::Nine => letters.take(9).collect(),
            Self::Any | Self::Word | Self::Word64 => letters.take(MADE_ID_BYTES).collect(),
        }
    }
}

/// 256 bits of a text, for ids that must not collide.
fn digest(text: &str) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(text.as_bytes()).into()
}

/// Every result gets the name of its tool, and must have a call.
fn name_results(turns: &mut [Turn]) -> Result<(), UpstreamError> {
    let mut names = HashMap::<String, String>::new();
    for turn in turns {
        for part in &mut turn.parts {
            match part {
                Part::ToolCall(call) => drop(names.insert(call.id.clone(), call.name.clone())),
                Part::ToolResult(result) => match names.get(&result.id) {
                    Some(name) => result.name.clone_from(name),
                    None => return Err(invalid(format!("tool_call_id: no call has the id `{}`", result.id))),
                },
                _ => {}
            }
        }
    }
    Ok(())
}

/// What the operator says in the middle becomes the first words of the user's next turn.
fn fold_system(turns: &mut Vec<Turn>) {
    let mut folded = Vec::with_capacity(turns.len());
    let mut waiting = Vec::new();
    for mut turn in turns.drain(..) {
        match turn.role {
            Role::System => waiting.extend(turn.parts.into_iter().map(marked)),
            Role::User => {
                // Results of tools stay first: they belong to the calls before.
                let at = turn.parts.iter().take_while(|part| matches!(part, Part::ToolResult(_))).count();
                turn.parts.splice(at..at, waiting.drain(..));
                folded.push(turn);
            }
            Role::Assistant => folded.push(turn),
        }
    }
    if !waiting.is_empty() {
        folded.push(Turn { role: Role::User, parts: waiting });
    }
    *turns = folded;
}

fn marked(part: Part) -> Part {
    match part {
        Part::Text(text) => Part::Text(Text { text: format!("<system>\n{}\n</system>", text.text), ..text }),
        part => part,
    }
}

fn drop_empty(turns: &mut Vec<Turn>) {
    for turn in turns.iter_mut() {
        turn.parts.retain(|part| !matches!(part, Part::Text(text) if text.text.is_empty()));
        if turn.parts.is_empty() && turn.role == Role::User {
            turn.parts.push(Part::text(EMPTY));
        }
    }
    turns.retain(|turn| !turn.parts.is_empty());
}

fn merge(turns: &mut Vec<Turn>) {
    turns.dedup_by(|later, earlier| {
        let same = later.role == earlier.role;
        if same {
            earlier.parts.append(&mut later.parts);
        }
        same
    });
}

/// Behind each turn with calls stands a user's turn that begins with their results, in the order of the calls.
fn answer_every_call(turns: &mut Vec<Turn>) {
    let mut at = 0;
    while at < turns.len() {
        let calls = calls_of(&turns[at]);
        at += 1;
        if calls.is_empty() {
            continue;
        }
        if turns.get(at).is_none_or(|turn| turn.role != Role::User) {
            turns.insert(at, Turn { role: Role::User, parts: Vec::new() });
        }
        results_first(&mut turns[at].parts, calls);
    }
}

fn calls_of(turn: &Turn) -> Vec<ToolCall> {
    let calls = turn.parts.iter().filter_map(|part| match part {
        Part::ToolCall(call) if turn.role == Role::Assistant => Some(call.clone()),
        _ => None,
    });
    calls.collect()
}

fn results_first(parts: &mut Vec<Part>, calls: Vec<ToolCall>) {
    let wanted: HashSet<&str> = calls.iter().map(|call| call.id.as_str()).collect();
    let is_result = |part: &Part| matches!(part, Part::ToolResult(result) if wanted.contains(result.id.as_str()));
    let (mut results, rest): (Vec<Part>, Vec<Part>) = std::mem::take(parts).into_iter().partition(is_result);
    for call in calls {
        let found = results.iter().position(|part| matches!(part, Part::ToolResult(result) if result.id == call.id));
        parts.push(found.map_or_else(|| missing(call), |at| results.remove(at)));
    }
    parts.extend(results);
    parts.extend(rest);
}

fn missing(call: ToolCall) -> Part {
    Part::ToolResult(ToolResult {
        id: call.id,
        name: call.name,
        content: vec![Part::text(NO_RESULT)],
        is_error: true,
        custom: call.custom,
        cache: None,
    })
}

/// The caller's own mistake. The message begins with the field.
#[must_use]
pub fn invalid(message: impl Into<Box<str>>) -> UpstreamError {
    let (status, kind) = (StatusCode::BAD_REQUEST, Rejection::Invalid);
    UpstreamError::Rejected { status, kind, message: message.into(), body: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> Turn {
        Turn { role: Role::User, parts: vec![Part::text(text)] }
    }

    fn assistant(text: &str) -> Turn {
        Turn { role: Role::Assistant, parts: vec![Part::text(text)] }
    }

    fn call(id: &str) -> Part {
        let (id, name, arguments) = (id.to_owned(), format!("tool of {id}"), "{}".to_owned());
        Part::ToolCall(ToolCall { id, name, arguments, custom: false, seal: None, cache: None })
    }

    fn result(id: &str, text: &str) -> Part {
        let (id, name, content) = (id.to_owned(), String::new(), vec![Part::text(text)]);
        Part::ToolResult(ToolResult { id, name, content, is_error: false, custom: false, cache: None })
    }

    #[track_caller]
    fn applied(manners: Manners, turns: Vec<Turn>) -> Vec<Turn> {
        let mut dialog = Dialog { turns, ..Dialog::default() };
        manners.apply(&mut dialog, &mut Drops::default()).expect("a conversation that can be brought into order");
        dialog.turns
    }

    #[test]
    fn what_the_operator_says_in_the_middle_is_put_before_the_next_words_of_the_user() {
        let system = Turn { role: Role::System, parts: vec![Part::text("In French.")] };
        let turns = applied(Manners::STRICT, vec![user("1"), assistant("2"), system.clone(), user("3")]);
        let expected = vec![Part::text("<system>\nIn French.\n</system>"), Part::text("3")];
        assert_eq!(turns[2].parts, expected);
        let turns = applied(Manners::STRICT, vec![user("1"), assistant("2"), system]);
        assert_eq!(turns[2], user("<system>\nIn French.\n</system>"));
    }

    #[test]
    fn turns_without_words_are_left_out_or_say_so() {
        let turns = applied(Manners::STRICT, vec![user("a"), assistant(""), user("")]);
        assert_eq!(turns, vec![Turn { role: Role::User, parts: vec![Part::text("a"), Part::text("(empty)")] }]);
    }

    #[test]
    fn a_conversation_that_the_model_began_begins_with_the_user() {
        let turns = applied(Manners::STRICT, vec![assistant("Hello!"), user("Hi")]);
        assert_eq!(turns[0], user("(start)"));
    }

    #[test]
    fn results_stand_in_the_order_of_their_calls_and_before_words() {
        let calls = Turn { role: Role::Assistant, parts: vec![call("a"), call("b"), call("c")] };
        let results = Turn { role: Role::User, parts: vec![result("b", "2"), Part::text("and?"), result("a", "1")] };
        let turns = applied(Manners::STRICT, vec![user("x"), calls, results]);
        let ids = turns[2].parts.iter().map(|part| match part {
            Part::ToolResult(result) => (result.id.as_str(), result.name.as_str(), result.is_error),
            _ => ("", "", false),
        });
        let ids: Vec<_> = ids.collect();
        assert_eq!(
            ids,
            [("a", "tool of a", false), ("b", "tool of b", false), ("c", "tool of c", true), ("", "", false)]
        );
    }

    #[test]
    fn a_result_without_a_call_is_the_callers_mistake() {
        let turns = vec![Turn { role: Role::User, parts: vec![result("a", "1")] }];
        let mut dialog = Dialog { turns, ..Dialog::default() };
        let error = Manners::NONE.apply(&mut dialog, &mut Drops::default()).expect_err("no call");
        assert!(
            matches!(error, UpstreamError::Rejected { .. }) && error.to_string().contains("tool_call_id"),
            "{error}"
        );
    }

    #[test]
    fn an_answer_that_was_begun_is_refused_or_gone_on_with() {
        let turns = vec![user("1"), assistant("2")];
        let mut dialog = Dialog { turns, ..Dialog::default() };
        Manners::STRICT.apply(&mut dialog.clone(), &mut Drops::default()).expect_err("a beginning of the answer");
        Manners::STRICT.apply(&mut dialog, &mut Drops::new(true)).expect("allowed");
        assert_eq!(dialog.turns[2], user("Continue."));
    }

    #[test]
    fn ids_that_a_provider_does_not_take_are_replaced_alike_in_call_and_result() {
        let calls = Turn { role: Role::Assistant, parts: vec![call("call with spaces"), call("abcDEF123")] };
        let results = vec![result("call with spaces", "1"), result("abcDEF123", "2")];
        let turns = vec![user("x"), calls, Turn { role: Role::User, parts: results }];
        let turns = applied(Manners { tool_ids: ToolIds::Nine, ..Manners::STRICT }, turns);
        let id = |part: &Part| match part {
            Part::ToolCall(ToolCall { id, .. }) | Part::ToolResult(ToolResult { id, .. }) => id.clone(),
            _ => String::new(),
        };
        assert_eq!(id(&turns[1].parts[0]), id(&turns[2].parts[0]));
        assert!(ToolIds::Nine.takes(&id(&turns[1].parts[0])));
        assert_eq!(id(&turns[1].parts[1]), "abcDEF123");
    }
}
