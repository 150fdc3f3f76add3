//! The only retry loop of the project.

use std::sync::Arc;
use std::time::Duration;

use super::{Plan, Target};
use crate::ledger::Attempt;
use crate::upstream::{Retry, UpstreamError};

/// Attempts for one request, over all targets.
pub const ATTEMPTS_MAX: usize = 4;
/// The longest pause before the same target is tried again; a provider that asks for more is believed and not waited for.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// No target answered.
#[derive(Debug)]
pub struct Failure {
    /// What the last target said: the one that the caller hears.
    pub error: UpstreamError,
    /// What was tried.
    pub attempts: Vec<Attempt>,
}

/// Tries targets in order until one answers. All control flow of failover lives here.
///
/// Another target is tried at once; the same one again, when there is no other, after the pause that its error asks for.
///
/// # Errors
/// [`Failure`] with the last error, when none answered or an error is the caller's to mend.
pub async fn first_success<T, F>(
    plan: &Plan,
    mut attempt: impl FnMut(Arc<Target>) -> F,
) -> Result<(T, Vec<Attempt>), Failure>
where
    F: Future<Output = Result<T, UpstreamError>>,
{
    let mut attempts = Vec::new();
    let mut targets = plan.iter();
    let mut current = targets.next();
    while let Some(target) = current {
        let error = match attempt(Arc::clone(target)).await {
            Ok(answer) => return Ok((answer, attempts)),
            Err(error) => error,
        };
        attempts.push(failed(target, &error));
        let next = match error.retry() {
            Retry::Never => None,
            _ if attempts.len() >= ATTEMPTS_MAX => None,
            Retry::NextTarget => targets.next(),
            Retry::SameTarget { after } => match targets.next() {
                Some(other) => Some(other),
                None if after <= PAUSE_MAX => {
                    tokio::time::sleep(after).await;
                    Some(target)
                }
                None => None,
            },
        };
        if next.is_none() {
            return Err(Failure { error, attempts });
        }
        current = next;
    }
    Err(Failure { error: UpstreamError::Unreachable { message: "the model has no target".into() }, attempts })
}

fn failed(target: &Target, error: &UpstreamError) -> Attempt {
    Attempt { upstream: Arc::clone(&target.upstream), model: Arc::clone(&target.model), outcome: error.name().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(names: &[&str]) -> Plan {
        names.iter().map(|name| Arc::new(Target::new(*name, "p", "m"))).collect()
    }

    fn overloaded() -> UpstreamError {
        UpstreamError::Failed { status: http::StatusCode::SERVICE_UNAVAILABLE, retry_after: None, message: "".into() }
    }

    fn invalid() -> UpstreamError {
        let status = http::StatusCode::BAD_REQUEST;
        UpstreamError::Rejected { status, kind: crate::upstream::Rejection::Invalid, message: "".into(), body: None }
    }

    /// Runs a script of errors; an attempt beyond it succeeds. Returns who was asked.
    async fn run(names: &[&str], script: Vec<UpstreamError>) -> (Vec<String>, bool) {
        let mut asked = Vec::new();
        let mut script = script.into_iter();
        let outcome = first_success(&plan(names), |target| {
            asked.push(target.upstream.to_string());
            std::future::ready(script.next().map_or(Ok(()), Err))
        })
        .await;
        (asked, outcome.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_target_is_asked_when_one_fails() {
        assert_eq!(run(&["a", "b"], vec![overloaded()]).await, (vec!["a".into(), "b".into()], true));
    }

    #[tokio::test(start_paused = true)]
    async fn the_callers_mistake_is_not_tried_elsewhere() {
        assert_eq!(run(&["a", "b"], vec![invalid()]).await, (vec!["a".into()], false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lone_target_is_tried_again_up_to_the_limit() {
        let (asked, ok) = run(&["a"], vec![overloaded(); 10]).await;
        assert_eq!((asked.len(), ok), (ATTEMPTS_MAX, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_pause_is_left_to_the_caller() {
        let patience = UpstreamError::RateLimited {
            retry_after: Some(Duration::from_secs(30)),
            exhausted: false,
            message: "".into(),
        };
        assert_eq!(run(&["a"], vec![patience]).await.0.len(), 1);
    }

    #[tokio::test]
    async fn a_model_without_targets_fails() {
        assert_eq!(run(&[], Vec::new()).await, (Vec::new(), false));
    }
}
