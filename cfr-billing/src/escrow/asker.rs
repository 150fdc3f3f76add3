//! Questions to the store about rights, several in one conversation.
//!
//! A question goes out at once while few conversations are under way. Else it waits until one of them ends, and goes out
//! together with everybody who waits: the busier the store, the more it answers in one transaction.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cfr_core::time::{Clock, Timestamp};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::book::Asks;
use super::committer::caught;
use super::engine::Engine;
use crate::store::{AcquireError, StoreError};

/// Conversations that are under way at a time, as long as they are quick. Each shares the row of this life while it lasts,
/// and a renewal has to find a moment between them; more of them would only be smaller.
const CONVERSATIONS_MAX: usize = 2;
/// Questions in one conversation, at most: it locks their accounts until it ends.
const QUESTIONS_MAX: usize = 128;
/// Nobody waits longer than this for the end of somebody else's conversation: it makes way for another one.
const SLOW_AFTER: Duration = Duration::from_millis(250);

/// Those who wait for a conversation.
#[derive(Debug, Default)]
pub(super) struct Asker(Mutex<Line>);

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Question>,
    conversations: usize,
}

/// What one decision needs: all of it or nothing.
#[derive(Debug)]
struct Question {
    asks: Asks,
    at: Timestamp,
    answer: oneshot::Sender<Result<(), AcquireError>>,
}

/// Waits until the store answered and its grants are in the book. A caller who leaves takes nothing along: the question is
/// asked without it.
pub(super) async fn ask(engine: &Arc<Engine>, asks: &Asks, at: Timestamp) -> Result<(), AcquireError> {
    let (answer, answered) = oneshot::channel();
    let begins = engine.asker.line().stand_in(Question { asks: asks.clone(), at, answer });
    if begins {
        engine.spawn(converse(Arc::clone(engine)));
    }
    answered.await.unwrap_or_else(|_| Err(StoreError::unavailable("the ledger ended meanwhile").into()))
}

/// Holds one conversation after the other until nobody waits. One that is slow goes on beside the next.
async fn converse(engine: Arc<Engine>) {
    loop {
        let questions = engine.asker.line().next(engine.clock.now());
        if questions.is_empty() {
            return;
        }
        let mut conversation = Box::pin(caught(answer(Arc::clone(&engine), questions)));
        if timeout(SLOW_AFTER, &mut conversation).await.is_err() {
            engine.spawn(async { conversation.await.unwrap_or_default() });
        }
    }
}

async fn answer(engine: Arc<Engine>, questions: Vec<Question>) {
    let at = questions.iter().map(|question| question.at).max().unwrap_or(Timestamp::MIN);
    let groups: Vec<Asks> = questions.iter().map(|question| question.asks.clone()).collect();
    let answers = engine.ask_store(&groups, at).await;
    for (question, answer) in questions.into_iter().zip(answers) {
        let _ = question.answer.send(answer); // who left needs none
    }
}

impl Asker {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Whether another conversation begins for it.
    fn stand_in(&mut self, question: Question) -> bool {
        self.waiting.push_back(question);
        let begins = self.conversations < CONVERSATIONS_MAX;
        self.conversations += usize::from(begins);
        begins
    }

    /// The questions of the next conversation; none when nobody waits, and then there is one conversation less. Who asks
    /// for a moment that is not yet is alone, so that nobody else gets a period that has not begun.
    fn next(&mut self, now: Timestamp) -> Vec<Question> {
        let due = self.waiting.iter().take(QUESTIONS_MAX).take_while(|question| question.at <= now).count();
        let questions: Vec<Question> = self.waiting.drain(..due.max(1).min(self.waiting.len())).collect();
        if questions.is_empty() {
            self.conversations -= 1;
        }
        questions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(moments: &[i64]) -> Line {
        let mut line = Line::default();
        for second in moments {
            let at = Timestamp::from_second(*second).expect("inside the calendar");
            line.stand_in(Question { asks: Asks::new(), at, answer: oneshot::channel().0 });
        }
        line
    }

    #[track_caller]
    fn check(moments: &[i64], now: i64, expected: &[usize]) {
        let mut line = line(moments);
        let now = Timestamp::from_second(now).expect("inside the calendar");
        let conversations: Vec<usize> =
            std::iter::repeat_with(|| line.next(now).len()).take_while(|questions| *questions > 0).collect();
        assert_eq!(conversations, expected);
    }

    #[test]
    fn all_who_wait_go_out_together() {
        check(&[7, 8, 9], 9, &[3]);
    }

    #[test]
    fn who_asks_for_a_moment_to_come_asks_alone() {
        check(&[7, 99, 98, 8, 9], 9, &[1, 1, 1, 2]);
    }

    #[test]
    fn a_conversation_begins_as_long_as_there_are_few() {
        let mut line = line(&[1; CONVERSATIONS_MAX]);
        assert_eq!(line.conversations, CONVERSATIONS_MAX);
        assert!(!line.stand_in(Question { asks: Asks::new(), at: Timestamp::MIN, answer: oneshot::channel().0 }));
        assert_eq!(line.next(Timestamp::MAX).len(), CONVERSATIONS_MAX + 1);
        assert!(line.next(Timestamp::MAX).is_empty());
        assert_eq!(line.conversations, CONVERSATIONS_MAX - 1, "whoever found nobody gave its place up");
    }
}
