//! How other providers are asked.

use std::pin::Pin;

use http_body_util::{BodyExt as _, Limited};
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};

use crate::oidc::{CallError, Outgoing};

/// Bytes of an answer: a description, keys, or tokens.
const ANSWER_BYTES_MAX: usize = 512 * 1024;

/// Asks providers.
#[derive(Debug)]
pub(super) struct Exchange(Outgoing);

/// Why a provider did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error("it cannot be asked: {0}")]
    Unwritten(#[from] reqwest::Error),
    #[error(transparent)]
    Uncalled(#[from] CallError),
    #[error("its answer cannot be read: {0}")]
    Unreadable(Box<dyn std::error::Error + Send + Sync>),
}

impl Exchange {
    pub(super) const fn new(outgoing: Outgoing) -> Self {
        Self(outgoing)
    }

    /// Sends one request and reads the whole answer, up to a limit.
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, ExchangeError> {
        let response = self.0.send(request.try_into()?).await?;
        let (head, body) = http::Response::<reqwest::Body>::from(response).into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(ExchangeError::Unreadable)?;
        Ok(HttpResponse::from_parts(head, body.to_bytes().to_vec()))
    }
}

impl<'c> AsyncHttpClient<'c> for Exchange {
    type Error = ExchangeError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, ExchangeError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}
