//! How many tokens a text can be at the most: no tokenizer makes more tokens than the text has bytes, before or after it
//! normalises them (providers.md §17.1).

use std::sync::LazyLock;

use unicode_normalization::char::decompose_compatible;

/// An upper bound on the tokens of raw JSON text: per character the larger of its own bytes and those of its
/// compatibility decomposition. Composition never lengthens, so this also bounds NFKC. An escape `\uXXXX` counts as the
/// larger of its six bytes and what it stands for.
pub(super) fn tokens_max(json: &str) -> u64 {
    let bytes = json.as_bytes();
    let plain = bytes.len();
    let growth = if bytes.is_ascii() { 0 } else { growth_of_characters(json) };
    as_u64(plain + growth + growth_of_escapes(bytes))
}

/// By how much a decomposition of the characters is longer than the text.
fn growth_of_characters(text: &str) -> usize {
    const CHUNK: usize = 32;
    let mut growth = 0;
    for (index, chunk) in text.as_bytes().chunks(CHUNK).enumerate() {
        if chunk.is_ascii() {
            continue;
        }
        let starts = chunk.iter().enumerate().filter(|(_, byte)| **byte >= 0xC0);
        for (offset, _) in starts {
            let first = text.get(index * CHUNK + offset..).and_then(|rest| rest.chars().next());
            growth += first.map_or(0, growth_of);
        }
    }
    growth
}

/// By how much what the escapes stand for is longer than the escapes. A surrogate pair has twelve bytes, and no
/// character beyond the basic plane decomposes to more. An escaped backslash before a `u` is taken for an escape as
/// well, which can only raise the bound.
fn growth_of_escapes(bytes: &[u8]) -> usize {
    static ESCAPE: LazyLock<memchr::memmem::Finder<'static>> = LazyLock::new(|| memchr::memmem::Finder::new(r"\u"));
    ESCAPE.find_iter(bytes).map(|at| growth_of_escape(bytes.get(at + 2..at + 6).unwrap_or_default())).sum()
}

fn growth_of_escape(digits: &[u8]) -> usize {
    let code = std::str::from_utf8(digits).ok().and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let Some(character) = code.and_then(char::from_u32) else { return 0 };
    (character.len_utf8() + growth_of(character)).saturating_sub(ESCAPE_BYTES)
}

const ESCAPE_BYTES: usize = 6;

/// By how many bytes a character's compatibility decomposition is longer than the character.
fn growth_of(character: char) -> usize {
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

fn decomposed_bytes(character: char) -> usize {
    let mut bytes = 0;
    decompose_compatible(character, |part| bytes += part.len_utf8());
    bytes
}

pub(super) fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_normalization::UnicodeNormalization;

    use super::*;

    #[track_caller]
    fn check(json: &str, expected: u64) {
        assert_eq!(tokens_max(json), expected, "{json}");
    }

    #[test]
    fn ascii_counts_its_bytes() {
        check("", 0);
        check(r#"{"model":"x"}"#, 13);
    }

    #[test]
    fn characters_count_their_decomposition_when_it_is_longer() {
        check("ü", 3); // u and a combining diaeresis
        check("漢", 3);
        check("\u{fdfa}", 33);
        check("각", 9);
    }

    #[test]
    fn escapes_count_what_they_stand_for_when_it_is_longer() {
        check(r"\u00fc", 6);
        check(r"\ufdfa", 33);
        check(r"\uFDFA\uFDFA", 66);
        check(r"\ud83d\ude00", 12);
        check(r"\\ufdfa", 34);
        check(r"\u12", 4);
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
        fn no_normal_form_is_longer_than_the_bound(text in "\\PC{0,200}") {
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
