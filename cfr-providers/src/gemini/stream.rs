//! From Google's stream to pieces of an answer (providers.md §7.4). A stream has no end mark: it ends when the wire
//! does, and is complete when every answer has a finish reason.

use std::collections::BTreeMap;

use bytes::Bytes;
use cfr_core::upstream::{FinishReason, UpstreamError};
use http::HeaderMap;

use super::answer::{CallIds, blocked, refusal, said};
use super::finish::{self, Said};
use super::usage::Tally;
use super::wire::{Candidate, Response, str_of};
use super::{citation, error, logprobs};
use crate::adapter::WireEvent;
use crate::dialog::{Part, Piece, StreamReader};

/// Bytes of an answer's words that are kept to find the places of citations in them.
const CITED_TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Which answers began and which ended.
#[derive(Debug, Default)]
pub(super) struct Progress {
    seen: u128,
    finished: u128,
}

impl Progress {
    /// Notes a candidate.
    pub(super) fn note(&mut self, candidate: &Candidate<'_>) {
        let bit = 1_u128.checked_shl(candidate.index.unwrap_or(0)).unwrap_or(0);
        self.seen |= bit;
        if candidate.finish_reason().is_some() {
            self.finished |= bit;
        }
    }

    /// Notes that the prompt was blocked: nothing else comes.
    pub(super) const fn block(&mut self) {
        self.seen |= 1;
        self.finished |= 1;
    }

    pub(super) const fn has_begun(&self) -> bool {
        self.seen != 0
    }

    /// # Errors
    /// [`UpstreamError::Truncated`] when an answer has no finish reason.
    pub(super) fn ended(&self) -> Result<(), UpstreamError> {
        let complete = self.has_begun() && self.seen == self.finished;
        let message = "the stream ended before a finish reason";
        if complete { Ok(()) } else { Err(UpstreamError::Truncated { message: message.into() }) }
    }
}

/// Reads one stream.
#[derive(Debug, Default)]
pub(super) struct ChunkReader {
    progress: Progress,
    tally: Tally,
    begun: bool,
    candidates: BTreeMap<u32, Grown>,
}

/// One answer so far.
#[derive(Debug)]
struct Grown {
    calls: CallIds,
    something: bool,
    finished: bool,
    text: String,
}

impl ChunkReader {
    fn chunk(&mut self, data: &[u8], pieces: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        let chunk = crate::json::parse::<Response<'_>>(data)
            .map_err(|cause| UpstreamError::Malformed { message: format!("a chunk is not JSON: {cause}").into() })?;
        self.tell_usage(&chunk, pieces);
        if chunk.error.is_some() {
            return Err(self.failure(data));
        }
        for candidate in chunk.candidates() {
            self.candidate(&chunk, candidate, pieces)?;
        }
        if !self.progress.has_begun()
            && let Some(choice) = blocked(&chunk)
        {
            self.progress.block();
            self.begin(&chunk, pieces);
            pieces.extend(choice.parts.into_iter().filter_map(refusal_piece));
            pieces.push(Piece::Finish { choice: 0, finish: choice.finish, stop_sequence: None });
        }
        Ok(())
    }

    /// An error before the answer began is as good as an error status: another target may still answer.
    fn failure(&self, data: &[u8]) -> UpstreamError {
        if self.progress.has_begun() {
            return error::in_stream(data, false);
        }
        error::read_in_success(&HeaderMap::new(), &Bytes::copy_from_slice(data), false)
    }

    /// Usage counts from the beginning of the answer: the last one holds.
    fn tell_usage(&mut self, chunk: &Response<'_>, pieces: &mut Vec<Piece>) {
        let tier = self.tally.service_tier.clone();
        pieces.extend(self.tally.note(chunk).map(Piece::Usage));
        if self.tally.service_tier != tier {
            pieces.extend(self.tally.service_tier.clone().map(Piece::ServiceTier));
        }
    }

    fn begin(&mut self, chunk: &Response<'_>, pieces: &mut Vec<Piece>) {
        if !std::mem::replace(&mut self.begun, true) {
            let (id, model) = (str_of(chunk.response_id.as_ref()).into(), str_of(chunk.model_version.as_ref()).into());
            pieces.push(Piece::Start { id, model });
        }
    }

    fn candidate(
        &mut self,
        chunk: &Response<'_>,
        candidate: &Candidate<'_>,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), UpstreamError> {
        self.begin(chunk, pieces);
        self.progress.note(candidate);
        let choice = candidate.index.unwrap_or(0);
        let new = || Grown::new(str_of(chunk.response_id.as_ref()), choice);
        let grown = self.candidates.entry(choice).or_insert_with(new);
        if grown.finished {
            return Ok(()); // a finish reason said twice
        }
        grown.add(choice, candidate, pieces);
        match candidate.finish_reason() {
            Some(word) => grown.finish(choice, word, str_of(candidate.finish_message.as_ref()), pieces),
            None => Ok(()),
        }
    }
}

fn refusal_piece(part: Part) -> Option<Piece> {
    match part {
        Part::Refusal(text) => Some(Piece::Refusal { choice: 0, text }),
        _ => None,
    }
}

impl Grown {
    fn new(response: &str, choice: u32) -> Self {
        Self { calls: CallIds::new(response, choice), something: false, finished: false, text: String::new() }
    }

    fn add(&mut self, choice: u32, candidate: &Candidate<'_>, pieces: &mut Vec<Piece>) {
        for part in candidate.parts() {
            let call = self.calls.made;
            if let Some(part) = said(part, &mut self.calls) {
                self.something = true;
                self.keep(&part);
                part.pieces_into(choice, call, pieces);
            }
        }
        let texts = [self.text.as_str()];
        let citations = citation::of(candidate, &texts);
        pieces.extend(citations.into_iter().map(|citation| Piece::Citation { choice, citation }));
        let logprobs = candidate.logprobs_result.and_then(logprobs::read);
        pieces.extend(logprobs.map(|logprobs| Piece::Logprobs { choice, logprobs }));
    }

    fn keep(&mut self, part: &Part) {
        if let Part::Text(text) = part
            && self.text.len() + text.text.len() <= CITED_TEXT_BYTES_MAX
        {
            self.text.push_str(&text.text);
        }
    }

    fn finish(&mut self, choice: u32, word: &str, message: &str, pieces: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        self.finished = true;
        let said = Said { something: self.something, calls: self.calls.made > 0 };
        let finish = finish::read(word, said);
        if finish == FinishReason::Error {
            let message = format!("{word} {message}").trim_end().into();
            return Err(UpstreamError::InStream { message, frame: None });
        }
        if finish == FinishReason::ContentFilter && !self.something {
            pieces.push(Piece::Refusal { choice, text: refusal(message) });
        }
        pieces.push(Piece::Finish { choice, finish, stop_sequence: None });
        Ok(())
    }
}

impl StreamReader for ChunkReader {
    fn read(&mut self, event: &WireEvent<'_>, pieces: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        match event.data.trim_ascii() {
            b"" => Ok(()),
            data => self.chunk(data, pieces),
        }
    }

    /// Never before the wire ends: usage may follow a finish reason.
    fn is_done(&self) -> bool {
        false
    }

    fn finish(&mut self, _: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        self.progress.ended()
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use cfr_core::chat::Usage;

    use super::*;
    use crate::dialog::Seal;

    fn read(chunks: &[&str]) -> (Vec<Piece>, Result<(), UpstreamError>) {
        let (mut reader, mut pieces) = (ChunkReader::default(), Vec::new());
        for chunk in chunks {
            let event = WireEvent { name: Cow::Borrowed(b""), data: Cow::Borrowed(chunk.as_bytes()) };
            if let Err(error) = reader.read(&event, &mut pieces) {
                return (pieces, Err(error));
            }
        }
        let end = reader.finish(&mut pieces);
        (pieces, end)
    }

    #[test]
    fn a_call_is_whole_and_its_signature_follows_it() {
        let call = r#"{"responseId":"r","candidates":[{"content":{"parts":[{"functionCall":{"id":"1","name":"f","args":{}},
            "thoughtSignature":"c2ln"}]},"finishReason":"STOP"}]}"#;
        let (pieces, end) = read(&[call]);
        end.expect("a complete stream");
        let expected = [
            Piece::Start { id: "r".into(), model: String::new() },
            Piece::ToolCall { choice: 0, call: 0, id: "1".into(), name: "f".into(), custom: false },
            Piece::Arguments { choice: 0, call: 0, fragment: "{}".into() },
            Piece::Seal { choice: 0, seal: Seal::Gemini("c2ln".into()) },
            Piece::Finish { choice: 0, finish: FinishReason::ToolCalls, stop_sequence: None },
        ];
        assert_eq!(pieces, expected);
    }

    #[test]
    fn a_stream_without_a_finish_reason_of_every_answer_is_cut() {
        let one = r#"{"candidates":[{"index":0,"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}]}"#;
        let other = r#"{"candidates":[{"index":1,"content":{"parts":[{"text":"b"}]}}]}"#;
        assert!(read(&[one]).1.is_ok());
        for chunks in [&[][..], &[other], &[one, other]] {
            assert!(matches!(read(chunks).1, Err(UpstreamError::Truncated { .. })), "{chunks:?}");
        }
    }

    #[test]
    fn an_error_before_the_answer_is_one_of_its_status_and_later_one_in_the_stream() {
        let error = r#"{"error":{"code":503,"message":"overloaded"},"usageMetadata":{"promptTokenCount":3}}"#;
        let text = r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#;
        assert_eq!(read(&[error]).1.expect_err("an error").name(), "failed");
        let (pieces, end) = read(&[text, error]);
        assert!(matches!(end, Err(UpstreamError::InStream { frame: None, .. })));
        assert!(pieces.contains(&Piece::Usage(Usage::text(3, 0))), "{pieces:?}");
    }

    #[test]
    fn an_answer_that_the_model_spoilt_ends_badly_with_its_usage() {
        let spoilt = r#"{"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL","finishMessage":"f("}],
            "usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":5}}"#;
        let (pieces, end) = read(&[spoilt]);
        assert!(matches!(end, Err(UpstreamError::InStream { .. })), "{end:?}");
        assert!(pieces.contains(&Piece::Usage(Usage::text(3, 5))));
    }

    #[test]
    fn a_blocked_prompt_refuses() {
        let (pieces, end) =
            read(&[r#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":3}}"#]);
        end.expect("a complete answer");
        assert!(pieces.contains(&Piece::Refusal { choice: 0, text: "the prompt was blocked: SAFETY".into() }));
        let finish = FinishReason::ContentFilter;
        assert_eq!(pieces.last(), Some(&Piece::Finish { choice: 0, finish, stop_sequence: None }));
    }

    #[test]
    fn what_we_do_not_know_does_no_harm() {
        let odd = r#"{"new":1,"candidates":[{"new":{},"content":{"parts":[{"new":[]},{"text":"a"}]},"finishReason":"NEW_REASON"}]}"#;
        let (pieces, end) = read(&["", odd, odd]);
        end.expect("a complete answer");
        let finish = FinishReason::Other("NEW_REASON".into());
        assert_eq!(pieces.last(), Some(&Piece::Finish { choice: 0, finish, stop_sequence: None }));
        assert_eq!(pieces.len(), 3, "{pieces:?}");
    }
}
