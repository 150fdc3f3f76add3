//! Moderations and reranks: lists of results, handed on untouched and read from the side for what was used.

use bytes::Bytes;
use cfr_core::chat::{Meter, Usage};
use cfr_core::upstream::{Report, UpstreamError, WholeReply};
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::decode::malformed;
use super::error;
use super::usage::{self, Count};
use super::wire::Word;

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    model: Word<'a>,
    #[serde(default)]
    results: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    usage: Option<Counted>,
    #[serde(default)]
    meta: Option<Meta>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// Tokens by the names that servers have for them; a few only say how many there are in all. OpenRouter puts searches here.
#[derive(Deserialize)]
struct Counted {
    #[serde(default)]
    search_units: Option<Count>,
    #[serde(default)]
    prompt_tokens: Option<Count>,
    #[serde(default)]
    input_tokens: Option<Count>,
    #[serde(default)]
    total_tokens: Option<Count>,
}

/// Where Cohere says what it charges, and servers that answer like it.
#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    billed_units: Option<BilledUnits>,
}

#[derive(Deserialize)]
struct BilledUnits {
    #[serde(default)]
    search_units: Option<Count>,
}

/// The meaning of a complete answer.
pub(super) fn whole(headers: &HeaderMap, body: Bytes) -> Result<WholeReply, UpstreamError> {
    let answer = crate::json::parse::<Answer<'_>>(&body).map_err(|cause| malformed(headers, &cause))?;
    if answer.error.is_some() && answer.results.is_none() {
        return Err(error::read_in_success(headers, &body));
    }
    if answer.results.as_ref().is_none_or(Vec::is_empty) {
        return Err(UpstreamError::Malformed { message: "the answer has no results".into() });
    }
    let report = Report { usage: answer.used(), model: answer.model.boxed(), ..Report::default() };
    let content_type = headers.get(header::CONTENT_TYPE).cloned();
    let content_type = content_type.unwrap_or_else(|| HeaderValue::from_static("application/json"));
    Ok(WholeReply { content_type, report, upstream_id: None, body, dropped: Vec::new() })
}

impl Answer<'_> {
    /// `None` where nothing is said, which is not the same as nothing.
    fn used(&self) -> Option<Usage> {
        let billed = self.meta.as_ref().and_then(|meta| meta.billed_units.as_ref()?.search_units);
        let searches = billed.or_else(|| self.usage.as_ref()?.search_units);
        let tokens = self.usage.as_ref().and_then(Counted::tokens);
        searches.or(tokens)?;
        let usage = Usage::text(usage::count(tokens), 0).with(Meter::RerankQueries, usage::count(searches));
        usage::plausible(usage)
    }
}

impl Counted {
    /// The largest figure: none of them leaves out what is charged.
    fn tokens(&self) -> Option<Count> {
        let all = [self.prompt_tokens, self.input_tokens, self.total_tokens];
        all.into_iter().flatten().max_by_key(|count| count.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &'static str, expected: Option<Usage>) {
        let reply = whole(&HeaderMap::new(), Bytes::from_static(body.as_bytes())).unwrap();
        assert_eq!((reply.report.usage, reply.body), (expected, Bytes::from_static(body.as_bytes())));
    }

    #[test]
    fn what_was_used_is_read_under_every_name() {
        check(r#"{"results":[{}],"usage":{"total_tokens":56}}"#, Some(Usage::text(56, 0)));
        let both = r#"{"results":[{}],"usage":{"prompt_tokens":50,"total_tokens":56,"completion_tokens":6}}"#;
        check(both, Some(Usage::text(56, 0)));
        let searches = Usage::default().with(Meter::RerankQueries, 1);
        check(r#"{"results":[{}],"meta":{"billed_units":{"search_units":1}}}"#, Some(searches));
        let here = r#"{"results":[{}],"usage":{"search_units":1,"total_tokens":150}}"#;
        check(here, Some(searches.with(Meter::InputTokens, 150)));
        check(r#"{"results":[{}],"meta":{"billed_units":{}},"usage":{}}"#, None);
        check(r#"{"results":[{}],"usage":{"total_tokens":99999999999}}"#, None);
        check(r#"{"results":[{}]}"#, None);
    }

    #[test]
    fn an_answer_without_results_is_none() {
        for body in [r#"{"results":[]}"#, r#"{"data":[]}"#, "[]", "<html>"] {
            let error = whole(&HeaderMap::new(), Bytes::from_static(body.as_bytes())).unwrap_err();
            assert_eq!(error.name(), "malformed", "{body}");
        }
        let error = br#"{"error":{"message":"busy","code":503}}"#;
        whole(&HeaderMap::new(), Bytes::from_static(error)).unwrap_err();
    }
}
