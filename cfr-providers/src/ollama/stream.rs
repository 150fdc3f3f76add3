//! From lines to pieces (providers.md §9.1, §13.5). Calls of tools come whole; what was used is on the last line.

use cfr_core::upstream::UpstreamError;

use super::answer::Line;
use super::error;
use crate::adapter::WireEvent;
use crate::dialog::{Piece, StreamReader, ToolCall};

/// An answer of Ollama has one choice.
const CHOICE: u32 = 0;

/// Reads one answer.
#[derive(Debug, Default)]
pub(super) struct LineReader {
    begun: bool,
    calls: usize,
    done: bool,
}

impl LineReader {
    fn line(&mut self, mut line: Line, pieces: &mut Vec<Piece>) {
        if !std::mem::replace(&mut self.begun, true) {
            pieces.push(Piece::Start { id: String::new(), model: std::mem::take(&mut line.model) });
        }
        let mut message = line.message.take().unwrap_or_default();
        let calls = line.calls(&mut message, self.calls);
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        pieces.extend(said(message.thinking).map(|text| Piece::Thought { choice: CHOICE, text }));
        pieces.extend(said(message.content).map(|text| Piece::Text { choice: CHOICE, text }));
        calls.into_iter().for_each(|call| self.call(call, pieces));
        pieces.extend(line.take_logprobs().map(|logprobs| Piece::Logprobs { choice: CHOICE, logprobs }));
        if line.done {
            self.done = true;
            let finish = line.finish(self.calls > 0);
            pieces.push(Piece::Finish { choice: CHOICE, finish, stop_sequence: None });
            pieces.extend(line.usage().map(Piece::Usage));
        }
    }

    fn call(&mut self, whole: ToolCall, pieces: &mut Vec<Piece>) {
        let call = u32::try_from(self.calls).unwrap_or(u32::MAX);
        self.calls += 1;
        let ToolCall { id, name, arguments, custom, .. } = whole;
        pieces.push(Piece::ToolCall { choice: CHOICE, call, id, name, custom });
        pieces.push(Piece::Arguments { choice: CHOICE, call, fragment: arguments });
    }
}

impl StreamReader for LineReader {
    fn read(&mut self, event: &WireEvent<'_>, pieces: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        let mut line = Line::parse(&event.data)?;
        match line.error.take() {
            Some(message) if self.begun => return Err(error::in_stream(message)),
            Some(message) => return Err(error::at_first(&message, line.status.as_u64())),
            None => self.line(line, pieces),
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn finish(&mut self, _pieces: &mut Vec<Piece>) -> Result<(), UpstreamError> {
        Err(UpstreamError::Truncated { message: "the stream ended before its last line".into() })
    }
}
