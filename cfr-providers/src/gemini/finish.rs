//! Why an answer ended, in Google's words (providers.md §15).

use cfr_core::upstream::FinishReason;

/// A filter stopped the answer.
const FILTERED: [&str; 10] = [
    "SAFETY",
    "RECITATION",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "LANGUAGE",
    "MODEL_ARMOR",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION",
];
/// The model said something that nobody can use.
const FAILED: [&str; 8] = [
    "MALFORMED_FUNCTION_CALL",
    "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS",
    "MISSING_THOUGHT_SIGNATURE",
    "MALFORMED_RESPONSE",
    "NO_IMAGE",
    "IMAGE_OTHER",
    "NO_CANDIDATES",
];

/// What the answer had said when it ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Anything at all.
    pub(super) something: bool,
    /// Calls of tools.
    pub(super) calls: bool,
}

/// The reason behind Google's word. A wish to call tools ends with `STOP` like any other answer.
pub(super) fn read(word: &str, said: Said) -> FinishReason {
    match word {
        "STOP" if said.calls => FinishReason::ToolCalls,
        "STOP" => FinishReason::Stop,
        "MAX_TOKENS" | "CONTINUATION" => FinishReason::Length,
        "OTHER" if said.something => FinishReason::Stop,
        "OTHER" => FinishReason::Error,
        word if FILTERED.contains(&word) => FinishReason::ContentFilter,
        word if FAILED.contains(&word) => FinishReason::Error,
        word => FinishReason::Other(word.into()),
    }
}

/// Google's word for a reason.
pub(super) fn word(finish: &FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop | FinishReason::ToolCalls => "STOP",
        FinishReason::Length => "MAX_TOKENS",
        FinishReason::ContentFilter => "SAFETY",
        _ => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(word: &str, something: bool, calls: bool, expected: &str) {
        assert_eq!(read(word, Said { something, calls }).name(), expected, "{word}");
    }

    #[test]
    fn every_word_has_one_of_openais_or_is_handed_on() {
        check("STOP", true, false, "stop");
        check("STOP", true, true, "tool_calls");
        check("MAX_TOKENS", false, false, "length");
        check("CONTINUATION", true, false, "length");
        check("OTHER", true, false, "stop");
        check("OTHER", false, false, "error");
        check("SOMETHING_NEW", true, false, "SOMETHING_NEW");
        FILTERED.iter().for_each(|word| check(word, true, true, "content_filter"));
        FAILED.iter().for_each(|word| check(word, true, true, "error"));
    }
}
