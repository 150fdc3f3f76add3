//! How many bytes of an answer a reader sees: text, reasoning, refusals, names and arguments of tools.

use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Bytes of visible answer in a message, a delta, or a part of one. Reading it builds nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Visible(pub(crate) u64);

/// The members that hold visible text, directly or deeper.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Member {
    /// Two names for one text; servers in transition send both.
    #[serde(alias = "reasoning_content")]
    Reasoning,
    #[serde(
        alias = "refusal",
        alias = "summary",
        alias = "text",
        alias = "thinking",
        alias = "tool_calls",
        alias = "function_call",
        alias = "function",
        alias = "custom",
        alias = "name",
        alias = "arguments",
        alias = "input"
    )]
    Content,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Visible {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Count)
    }
}

struct Count;

impl<'de> Visitor<'de> for Count {
    type Value = Visible;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part of an answer")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Visible, E> {
        Ok(Visible(text.len() as u64))
    }

    fn visit_unit<E: Error>(self) -> Result<Visible, E> {
        Ok(Visible(0))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Visible, E> {
        Ok(Visible(0))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Visible, E> {
        Ok(Visible(0))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Visible, E> {
        Ok(Visible(0))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Visible, E> {
        Ok(Visible(0))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Visible, A::Error> {
        let mut bytes = 0;
        while let Some(part) = parts.next_element::<Visible>()? {
            bytes += part.0;
        }
        Ok(Visible(bytes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Visible, A::Error> {
        let (mut bytes, mut reasoning) = (0, 0);
        while let Some(member) = members.next_key::<Member>()? {
            match member {
                Member::Content => bytes += members.next_value::<Visible>()?.0,
                Member::Reasoning => reasoning = members.next_value::<Visible>()?.0.max(reasoning),
                Member::Other => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Visible(bytes + reasoning))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, bytes: u64) {
        assert_eq!(serde_json::from_str::<Visible>(json).unwrap(), Visible(bytes));
    }

    #[test]
    fn text_is_counted_after_unescaping() {
        check(r#"{"role":"assistant","content":"a\n\u00e4\"","refusal":null}"#, 5);
    }

    #[test]
    fn reasoning_under_two_names_counts_once() {
        check(r#"{"reasoning":"abc","reasoning_content":"abc","reasoning_details":[{"text":"abc"}],"content":"d"}"#, 4);
    }

    #[test]
    fn parts_are_added_up() {
        check(
            r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"Add."}],"closed":true},{"type":"text","text":"4"}]}"#,
            5,
        );
    }

    #[test]
    fn names_and_arguments_of_tools_count_and_their_ids_do_not() {
        check(
            r#"{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}]}"#,
            3,
        );
    }
}
