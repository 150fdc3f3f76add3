//! Rerank.

use super::*;

fn rerank(body: &Value) -> Envelope {
    parse(Operation::Rerank, &body.to_string()).unwrap()
}

fn units(query: usize, documents: &[usize], more: &Value) -> SearchUnits {
    let texts: Vec<String> = documents.iter().map(|bytes| "d".repeat(*bytes)).collect();
    let mut body = json!({"model": "m", "query": "q".repeat(query), "documents": texts});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    rerank(&body).input.search_units
}

#[test]
fn the_model_the_documents_and_the_tags_are_read() {
    let body = r#"{"query":"q","documents":["a",{"text":"b"}],"model":"rerank-v3.5","top_n":1,"user":"anna"}"#;
    let envelope = parse(Operation::Rerank, body).unwrap();
    assert_eq!(&body[envelope.model_span.clone().unwrap()], r#""rerank-v3.5""#);
    assert_eq!((envelope.choices, envelope.stream, envelope.user.as_deref()), (2, false, Some("anna")));
}

#[test]
fn a_hundred_short_documents_are_one_search() {
    for (documents, expected) in [(100, 1), (101, 2)] {
        let searches = Searches { max: expected, estimated: expected };
        let expected = SearchUnits { whole: searches, cut: searches };
        assert_eq!(units(20, &vec![100; documents], &json!({})), expected);
    }
}

#[test]
fn a_long_document_counts_as_several_up_to_where_it_is_cut() {
    let query = 98; // with its quotes a hundred tokens at the most: 400 are left in each piece
    assert_eq!(units(query, &[398; 100], &json!({})).whole.max, 1);
    assert_eq!(units(query, &[399; 100], &json!({})).whole.max, 2);
    let long = units(query, &[39_998; 100], &json!({}));
    assert_eq!((long.whole.max, long.cut.max), (100, 11)); // 4 096 tokens are 11 pieces
    assert_eq!((long.whole.estimated, long.cut.estimated), (35, 9)); // 16 000 and 4 096 tokens in pieces of 460
    assert_eq!(units(query, &[39_998; 100], &json!({"max_tokens_per_doc": 400})).cut.max, 1);
}

#[test]
fn a_query_as_long_as_a_piece_leaves_one_token_for_each() {
    assert_eq!(units(1_000, &[98], &json!({})).whole.max, 1);
    assert_eq!(units(1_000, &[9_998], &json!({})).whole.max, 100);
    assert_eq!(units(1_000, &[9_998], &json!({"max_tokens_per_doc": 200})).cut.max, 2);
}

#[test]
fn the_query_is_read_with_each_document() {
    let (query, document) = ("q".repeat(50), "d".repeat(70));
    let input = rerank(&json!({"model": "m", "query": query, "documents": vec![document; 30]})).input;
    assert!(input.text_tokens >= 30 * (50 + 70), "{input:?}");
}

#[test]
fn only_texts_can_be_ranked() {
    let refuses = |documents: &str, reason: &str| {
        let body = format!(r#"{{"model":"m","query":"q","documents":{documents}}}"#);
        refuses_body(Operation::Rerank, &body, "documents", reason);
    };
    for documents in [r#""a""#, "[7]", "[null]", "[[]]", "[{}]", r#"[{"text":7}]"#, r#"[{"text":"a","image":"b"}]"#] {
        refuses(documents, "must be an array of strings, or of objects with a `text`");
    }
    refuses(r#"[{"text":"a","text":"b"}]"#, "names a field twice");
    refuses("[]", "is empty");
    refuses("null", "is missing");
    refuses(&json!(vec!["a"; 10_001]).to_string(), "has more than 10000 documents");
}

#[test]
fn a_query_is_a_text_and_counts_are_counts() {
    for (more, param, reason) in [
        (r#""query":7"#, "query", "must be a string"),
        (r#""query":null"#, "query", "is missing"),
        (r#""query":"a","Query":"b""#, "query", "letter case"),
        (r#""query":"a","top_n":0"#, "top_n", "must be an integer"),
        (r#""query":"a","max_tokens_per_doc":1.5"#, "max_tokens_per_doc", "must be an integer"),
    ] {
        refuses_body(Operation::Rerank, &format!(r#"{{"model":"m","documents":["a"],{more}}}"#), param, reason);
    }
    refuses_body(Operation::Rerank, r#"{"query":"a","documents":["a"]}"#, "model", "is missing");
}
