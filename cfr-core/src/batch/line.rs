//! One line of a file: a request, or its answer.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{endpoint, operation};
use crate::chat::Operation;

/// Bytes of a caller's name for a line.
pub const CUSTOM_ID_BYTES_MAX: usize = 512;

/// Why a line cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LineError(Box<str>);

/// A line of a file of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLine {
    /// The caller's name for it.
    pub custom_id: Box<str>,
    /// What it asks for.
    pub operation: Operation,
    /// The body of the request.
    pub body: Bytes,
}

#[derive(Deserialize, Serialize)]
struct WireRequest<'a> {
    #[serde(borrow)]
    custom_id: Cow<'a, str>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    url: Cow<'a, str>,
    #[serde(borrow)]
    body: &'a RawValue,
}

const METHOD: &str = "POST";

impl RequestLine {
    /// Reads a line.
    ///
    /// # Errors
    /// When it is not a request, or asks for something that goes into no batch.
    pub fn parse(line: &Bytes) -> Result<Self, LineError> {
        let wire: WireRequest<'_> =
            serde_json::from_slice(line).map_err(|error| LineError(error.to_string().into()))?;
        if wire.custom_id.is_empty() || wire.custom_id.len() > CUSTOM_ID_BYTES_MAX {
            return Err(LineError(format!("custom_id: 1 to {CUSTOM_ID_BYTES_MAX} bytes are expected").into()));
        }
        if wire.method != METHOD {
            return Err(LineError("method: `POST` is expected".into()));
        }
        let unknown = || LineError(format!("url: `{}` cannot be asked in a batch", wire.url).into());
        let operation = operation(&wire.url).ok_or_else(unknown)?;
        let body = line.slice_ref(wire.body.get().as_bytes());
        Ok(Self { custom_id: wire.custom_id.into(), operation, body })
    }

    /// The line with another body, and its end.
    ///
    /// # Errors
    /// When the body is no JSON, or has more than one line.
    pub fn with_body(&self, body: &[u8]) -> Result<Bytes, LineError> {
        let wrong = |error: serde_json::Error| LineError(format!("body: {error}").into());
        let line = WireRequest {
            custom_id: (&*self.custom_id).into(),
            method: METHOD.into(),
            url: endpoint(self.operation).unwrap_or_default().into(),
            body: serde_json::from_slice(body).map_err(wrong)?,
        };
        let mut json = serde_json::to_vec(&line).map_err(wrong)?;
        if json.contains(&b'\n') {
            return Err(LineError("body: one line is expected".into()));
        }
        json.push(b'\n');
        Ok(json.into())
    }
}

/// A line of a file of answers, or of errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerLine {
    /// The caller's name for it.
    pub custom_id: Box<str>,
    /// The status of the answer; none when the request was never sent.
    pub status: Option<u16>,
    /// The provider's id of the request.
    pub request_id: Option<Box<str>>,
    /// The body of the answer; empty when there is none.
    pub body: Bytes,
}

#[derive(Deserialize)]
struct WireAnswer<'a> {
    #[serde(borrow)]
    custom_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    response: Option<WireResponse<'a>>,
}

#[derive(Deserialize)]
struct WireResponse<'a> {
    status_code: Option<u16>,
    #[serde(borrow)]
    request_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

impl AnswerLine {
    /// Reads a line.
    ///
    /// # Errors
    /// When it is no answer.
    pub fn parse(line: &Bytes) -> Result<Self, LineError> {
        let wire: WireAnswer<'_> = serde_json::from_slice(line).map_err(|error| LineError(error.to_string().into()))?;
        let response = wire.response.as_ref();
        let body = response.and_then(|response| response.body);
        Ok(Self {
            custom_id: wire.custom_id.as_deref().unwrap_or_default().into(),
            status: response.and_then(|response| response.status_code),
            request_id: response.and_then(|response| response.request_id.as_deref()).map(Into::into),
            body: body.map_or_else(Bytes::new, |body| line.slice_ref(body.get().as_bytes())),
        })
    }

    /// Whether the provider answered, so that it charges.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    #[test]
    fn a_request_is_read_and_written_with_another_body() {
        let read = line(r#"{"custom_id":"a\n1","method":"POST","url":"/v1/embeddings","body":{"model": "m"},"x":1}"#);
        let read = RequestLine::parse(&read).unwrap();
        assert_eq!(
            (&*read.custom_id, read.operation, &*read.body),
            ("a\n1", Operation::Embeddings, &br#"{"model": "m"}"#[..])
        );
        let written = read.with_body(br#"{"model":"n"}"#).unwrap();
        let expected = r#"{"custom_id":"a\n1","method":"POST","url":"/v1/embeddings","body":{"model":"n"}}"#;
        assert_eq!(written, format!("{expected}\n"));
        assert!(read.with_body(b"{\n}").is_err());
    }

    #[test]
    fn what_is_no_request_is_refused_by_name() {
        let refused = |text: &str| RequestLine::parse(&line(text)).unwrap_err().to_string();
        assert!(refused("[]").contains("line 1"));
        assert!(
            refused(r#"{"custom_id":"","method":"POST","url":"/v1/embeddings","body":{}}"#).starts_with("custom_id")
        );
        assert!(refused(r#"{"custom_id":"a","method":"GET","url":"/v1/embeddings","body":{}}"#).starts_with("method"));
        assert!(refused(r#"{"custom_id":"a","method":"POST","url":"/v1/files","body":{}}"#).starts_with("url"));
        let twice = r#"{"custom_id":"a","custom_id":"b","method":"POST","url":"/v1/embeddings","body":{}}"#;
        assert!(refused(twice).contains("duplicate"));
    }

    #[test]
    fn an_answer_says_what_came_of_a_request() {
        let text = r#"{"id":"x","custom_id":"a","response":{"status_code":200,"request_id":"r","body":{"usage":{}}},"error":null}"#;
        let answer = AnswerLine::parse(&line(text)).unwrap();
        assert!(answer.is_answered());
        assert_eq!((&*answer.body, answer.request_id.as_deref()), (&br#"{"usage":{}}"#[..], Some("r")));
        let expired = r#"{"custom_id":"a","response":null,"error":{"code":"batch_expired"}}"#;
        let expired = AnswerLine::parse(&line(expired)).unwrap();
        assert!(!expired.is_answered() && expired.status.is_none() && expired.body.is_empty());
    }
}
