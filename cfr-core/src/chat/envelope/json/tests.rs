//! The walk beside another parser: both accept and refuse the same texts.

use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

fn accepts(text: &[u8]) -> bool {
    let mut json = Json::new(text);
    json.skip().and_then(|()| json.end()).is_ok()
}

fn serde_accepts(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// As JSON and inside a string, where more bytes are welcome, at every distance from the end of a block.
#[track_caller]
fn check(text: &[u8]) {
    for padding in 0..18 {
        let quoted = [b"\"", &*b"x".repeat(padding), text, b"yyyyyyyyyyyyyyyyyyy\""].concat();
        assert_eq!(accepts(&quoted), serde_accepts(&quoted), "{quoted:?}");
    }
    assert_eq!(accepts(text), serde_accepts(text), "{text:?}");
}

#[test]
fn numbers_and_words_are_those_of_the_standard() {
    let values = "0 -0 - 01 -01 1. 1.0 .5 1e 1e5 1E+5 1e- 1.5e-07 +1 0x1 1_0 1e999 NaN true tru truest false null nul";
    let structures = r#"[1,] [,1] [ ] [} {] {,} {} {"a"} {"a":} {"a":1,} {"a":1} {1:1} {a:1} {"a":1,"a":2} {}{}"#;
    for text in values.split(' ').chain(structures.split(' ')).chain(["", " ", " 1 ", "1 2", "[1 2]", "\u{b}1"]) {
        check(text.as_bytes());
    }
}

#[test]
fn every_pair_of_bytes_is_judged_as_another_parser_judges_it() {
    for pair in 0..=u16::MAX {
        let [first, second] = pair.to_be_bytes();
        for text in [&[b'"', first, second, b'"'][..], &[b'"', b'\\', first, second, b'"'], &[first, second]] {
            assert_eq!(accepts(text), serde_accepts(text), "{text:?}");
        }
    }
}

#[test]
fn characters_are_judged_at_the_ends_of_their_ranges() {
    let follow = [0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0];
    for first in 0xC0..=0xFF {
        for (second, third) in follow.iter().flat_map(|second| follow.map(|third| (*second, third))) {
            for text in [[b'"', first, second, third, b'"'].as_slice(), &[b'"', first, second, third, 0x80, b'"']] {
                assert_eq!(accepts(text), serde_accepts(text), "{text:?}");
            }
        }
    }
}

#[test]
fn escapes_need_four_digits_of_any_case() {
    for text in [r"\u", r"\u1", r"\u12", r"\u123", r"\u12fA", r"\uFFFF", r"\u00g0", r"\u+123", r"\ud800", r"\x00"] {
        check(text.as_bytes());
    }
}

#[test]
fn levels_are_limited() {
    let nested = |levels: usize| [b"[".repeat(levels), b"]".repeat(levels)].concat();
    assert!(accepts(&nested(DEPTH_MAX)) && !accepts(&nested(DEPTH_MAX + 1)));
    let many = format!("[{}0]", "[{}],".repeat(DEPTH_MAX));
    assert!(accepts(many.as_bytes()));
}

fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<i32>().prop_map(|number| number.to_string()),
        any::<f32>().prop_map(|number| serde_json::json!(number).to_string()),
        "\\PC{0,40}".prop_map(|text| serde_json::json!(text).to_string()),
        "[\\PC\n\"\\\\]{0,40}".prop_map(|text| serde_json::json!(text).to_string()),
        "[a-zäß漢😀]{0,20}".prop_map(|text| {
            let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
            format!("\"{escaped}{text}\"")
        }),
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        let pair = ("[a-zü\\\\\"]{0,20}", inner.clone())
            .prop_map(|(name, value)| format!("{}: {value}", serde_json::json!(name)));
        prop_oneof![
            proptest::collection::vec(inner, 0..6).prop_map(|all| format!("[{}]", all.join(" ,"))),
            proptest::collection::vec(pair, 0..6).prop_map(|all| format!("{{\n{}\t}}", all.join(","))),
        ]
    })
}

proptest! {
    #[test]
    fn what_another_parser_accepts_is_accepted(text in any_json()) {
        prop_assert!(serde_accepts(text.as_bytes()));
        prop_assert!(accepts(text.as_bytes()), "{text}");
    }

    #[test]
    fn damaged_text_is_judged_as_another_parser_judges_it(
        text in any_json(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        syntax in prop::sample::select(&b"{}[]\",:\\u0e.-+tn \x00\x1f\x7f\x80\xc3\xed\xff"[..]), kind in 0..5_u8,
    ) {
        let mut text = text.into_bytes();
        let at = at.index(text.len());
        match kind {
            0 => text[at] = byte,
            1 => text[at] = syntax,
            2 => text.insert(at, syntax),
            3 => { text.remove(at); }
            _ => text.truncate(at),
        }
        prop_assert_eq!(accepts(&text), serde_accepts(&text), "{:?}", String::from_utf8_lossy(&text));
    }

    #[test]
    fn bytes_in_a_string_are_judged_as_another_parser_judges_them(
        text in proptest::collection::vec(any::<u8>(), 0..60), prefix in 0..40_usize,
    ) {
        let quoted = [b"\"", &*b"x".repeat(prefix), &*text, b"\""].concat();
        prop_assert_eq!(accepts(&quoted), serde_accepts(&quoted));
    }
}
