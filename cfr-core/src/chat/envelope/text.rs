//! How many tokens a text can be at the most: no tokenizer makes more tokens than the text has bytes, before or after it
//! normalises them (providers.md §17.1). So a character counts the largest of its own bytes and those of its canonical and
//! its compatibility decomposition, an escape the larger of its six bytes and what it stands for. Composition never
//! lengthens, so this also bounds NFC and NFKC.

use std::sync::LazyLock;

use unicode_normalization::char::{decompose_canonical, decompose_compatible};

/// By how many bytes what an escape `\uXXXX` stands for is longer than its six bytes. A surrogate pair has twelve bytes,
/// and no character beyond the basic plane decomposes to more.
pub(super) fn growth_of_escape(code: u16) -> usize {
    let Some(character) = char::from_u32(code.into()) else { return 0 };
    (character.len_utf8() + growth_of(character)).saturating_sub(ESCAPE_BYTES)
}

const ESCAPE_BYTES: usize = r"\uXXXX".len();

/// By how many bytes the longer decomposition of a character is longer than the character.
pub(super) fn growth_of(character: char) -> usize {
    let code = character as usize;
    match character {
        '\0'..='\u{7f}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' => 0, // ASCII, unified ideographs
        '\u{80}'..TABLE_END => usize::from(TABLE.get(code).copied().unwrap_or(u8::MAX)),
        _ => decomposed_bytes(character).saturating_sub(character.len_utf8()),
    }
}

const TABLE_END: char = '\u{3000}';

/// The growth of every character below [`TABLE_END`]: most European and many Asian scripts.
static TABLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let growth = |character: char| decomposed_bytes(character).saturating_sub(character.len_utf8());
    ('\0'..TABLE_END).map(|character| u8::try_from(growth(character)).unwrap_or(u8::MAX)).collect()
});

/// The compatibility decomposition is not always the longer one: a long s with a dot above loses a byte by it.
fn decomposed_bytes(character: char) -> usize {
    let (mut canonical, mut compatible) = (0, 0);
    decompose_canonical(character, |part| canonical += part.len_utf8());
    decompose_compatible(character, |part| compatible += part.len_utf8());
    canonical.max(compatible)
}

pub(super) fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_normalization::UnicodeNormalization;

    use super::*;
    use crate::chat::envelope::json::Json;

    fn tokens_max(string: &str) -> u64 {
        let quoted = format!("\"{string}\"");
        let mut json = Json::new(quoted.as_bytes());
        json.skip().and_then(|()| json.end()).unwrap();
        as_u64(string.len() + json.growth())
    }

    #[track_caller]
    fn check(string: &str, expected: u64) {
        assert_eq!(tokens_max(string), expected, "{string}");
    }

    #[test]
    fn ascii_counts_its_bytes() {
        check("", 0);
        check("{model: x}", 10);
    }

    #[test]
    fn characters_count_their_decomposition_when_it_is_longer() {
        check("ü", 3); // u and a combining diaeresis
        check("漢", 3);
        check("\u{1e9b}", 4); // canonically a long s and a dot, of two bytes each
        check("\u{fdfa}", 33);
        check("각", 9);
    }

    #[test]
    fn escapes_count_what_they_stand_for_when_it_is_longer() {
        check(r"\u00fc", 6);
        check(r"\ufdfa", 33);
        check(r"\uFDFA\uFDFA", 66);
        check(r"\ud83d\ude00", 12);
        check(r"\\ufdfa", 34); // what was escaped twice may be undone twice
    }

    #[test]
    fn no_character_beyond_the_basic_plane_outgrows_a_surrogate_pair() {
        let longest = ('\u{10000}'..=char::MAX).map(decomposed_bytes).max();
        assert!(longest.is_some_and(|bytes| bytes <= 2 * ESCAPE_BYTES));
    }

    #[test]
    fn the_table_and_the_ideographs_agree_with_the_decomposition() {
        for character in '\0'..='\u{ffff}' {
            let expected = decomposed_bytes(character).saturating_sub(character.len_utf8());
            assert_eq!(growth_of(character), expected, "{character:?}");
        }
    }

    proptest! {
        #[test]
        fn no_normal_form_is_longer_than_the_bound(text in "[\\PC--[\"\\\\]]{0,200}") {
            let bound = tokens_max(&text);
            let longest = [text.len(), text.nfc().map(char::len_utf8).sum(), text.nfd().map(char::len_utf8).sum(),
                text.nfkc().map(char::len_utf8).sum(), text.nfkd().map(char::len_utf8).sum()];
            prop_assert!(longest.into_iter().all(|bytes: usize| as_u64(bytes) <= bound));
        }

        #[test]
        fn an_escaped_text_counts_no_less_than_the_text(text in "\\PC{0,60}") {
            let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            let nfkd: usize = text.nfkd().map(char::len_utf8).sum();
            prop_assert!(tokens_max(&escaped) >= as_u64(nfkd.max(text.len())));
        }
    }
}
