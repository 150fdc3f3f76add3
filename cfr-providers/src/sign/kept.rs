//! What a server gives for a while: kept, and asked for again before it ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cfr_core::time::Clock;
use cfr_core::upstream::UpstreamError;

/// How long before its end a thing is asked for again.
pub const REFRESH_BEFORE: Duration = Duration::from_secs(300);
/// A thing that ends sooner than this is not used: it might end on its way.
pub const VALID_AT_LEAST: Duration = Duration::from_secs(10);
/// How long after one question the next is asked at the earliest, whatever came of it.
pub const ASK_PAUSE: Duration = Duration::from_secs(5);

/// Keeps a token, or keys. However many calls wait for it, one question is asked; while an old one holds, nobody waits
/// but the call that asks for the next.
#[derive(Debug)]
pub(super) struct Kept<T> {
    clock: Arc<dyn Clock>,
    state: Mutex<State<T>>,
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State<T> {
    /// With the uptime until which it can be used.
    held: Option<(T, Duration)>,
    /// Why there was none the last time.
    refused: Option<UpstreamError>,
    /// The uptime from which on to ask again.
    ask_at: Duration,
}

/// What to do for a call that wants it.
enum Known<T> {
    Good(T),
    /// Good, and to be asked for again.
    Ageing(T),
    /// There was none a moment ago.
    Refused(UpstreamError),
    Nothing,
}

impl<T: Clone> Kept<T> {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let state = State { held: None, refused: None, ask_at: Duration::ZERO };
        Self { clock, state: Mutex::new(state), asking: tokio::sync::Mutex::default() }
    }

    /// What is held, or what `question` gives with the time for which it holds. The question is often not asked.
    pub(super) async fn get(
        &self,
        question: impl Future<Output = Result<(T, Duration), UpstreamError>> + Send,
    ) -> Result<T, UpstreamError> {
        match self.known() {
            Known::Good(held) => Ok(held),
            Known::Refused(error) => Err(error),
            Known::Ageing(held) => match self.asking.try_lock() {
                Ok(_turn) => Ok(self.ask(question).await.unwrap_or(held)),
                Err(_) => Ok(held),
            },
            Known::Nothing => {
                let _turn = self.asking.lock().await;
                match self.known() {
                    Known::Good(held) | Known::Ageing(held) => Ok(held),
                    Known::Refused(error) => Err(error),
                    Known::Nothing => self.ask(question).await,
                }
            }
        }
    }

    fn known(&self) -> Known<T> {
        let (now, state) = (self.clock.uptime(), self.state());
        let early = now < state.ask_at;
        match (&state.held, &state.refused) {
            (Some((held, ends)), _) if now < *ends && early => Known::Good(held.clone()),
            (Some((held, ends)), _) if now < *ends => Known::Ageing(held.clone()),
            (_, Some(error)) if early => Known::Refused(error.clone()),
            _ => Known::Nothing,
        }
    }

    /// One question. Whoever calls this has the turn to ask.
    async fn ask(
        &self,
        question: impl Future<Output = Result<(T, Duration), UpstreamError>> + Send,
    ) -> Result<T, UpstreamError> {
        let answer = question.await;
        let now = self.clock.uptime();
        let mut state = self.state();
        state.ask_at = now + ASK_PAUSE;
        match answer {
            Ok((given, valid_for)) => {
                state.ask_at = state.ask_at.max(now + valid_for.saturating_sub(REFRESH_BEFORE));
                state.held = Some((given.clone(), now + valid_for.saturating_sub(VALID_AT_LEAST)));
                state.refused = None;
                Ok(given)
            }
            Err(error) => {
                tracing::warn!(%error, "nothing new to sign with");
                state.refused = Some(error.clone());
                Err(error)
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
