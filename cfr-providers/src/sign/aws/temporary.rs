//! Keys that end: kept, and asked for again before they do.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cfr_core::secret::Secret;
use cfr_core::time::{Clock, Timestamp};
use cfr_core::upstream::UpstreamError;
use http::StatusCode;
use serde::Deserialize;

use super::{AwsCredentials, AwsKeys};
use crate::sign::kept::Kept;
use crate::sign::token::exchanged;
use crate::transport::{Transport, WireRequest};

/// Where keys come from that end after some hours.
#[async_trait]
pub trait AwsKeySource: Debug + Send + Sync + 'static {
    /// Keys as new as they are to be had, with their end. Nothing is kept here: [`TemporaryKeys`] does that.
    ///
    /// # Errors
    /// When there are none to be had.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: another call asks again.
    async fn keys(&self) -> Result<(AwsKeys, Timestamp), UpstreamError>;
}

const _: fn(&dyn AwsKeySource) = |_| {};

/// Keys of a source, asked for once however many calls wait, and again five minutes before they end.
#[derive(Debug)]
pub struct TemporaryKeys {
    source: Arc<dyn AwsKeySource>,
    clock: Arc<dyn Clock>,
    kept: Kept<Arc<AwsKeys>>,
}

impl TemporaryKeys {
    /// Keys of `source`.
    #[must_use]
    pub fn new(source: Arc<dyn AwsKeySource>, clock: Arc<dyn Clock>) -> Self {
        Self { source, kept: Kept::new(Arc::clone(&clock)), clock }
    }
}

#[async_trait]
impl AwsCredentials for TemporaryKeys {
    async fn keys(&self) -> Result<Arc<AwsKeys>, UpstreamError> {
        let question = async {
            let (keys, end) = self.source.keys().await?;
            let left = end.duration_since(self.clock.now());
            Ok((Arc::new(keys), Duration::try_from(left).unwrap_or(Duration::ZERO)))
        };
        self.kept.get(question).await
    }
}

/// Keys as Amazon's own servers of keys write them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    access_key_id: String,
    secret_access_key: Secret,
    token: Option<Secret>,
    expiration: Timestamp,
}

/// Keys in the answer to `request`.
pub(super) async fn given(
    transport: &dyn Transport,
    request: WireRequest,
) -> Result<(AwsKeys, Timestamp), UpstreamError> {
    let body = answered(transport, request).await?;
    let given: Given = serde_json::from_slice(&body).map_err(|_| none("the answer has none"))?;
    let keys = AwsKeys {
        access_key_id: given.access_key_id.into(),
        secret_access_key: given.secret_access_key,
        session_token: given.token,
    };
    Ok((keys, given.expiration))
}

/// The body of a good answer. A body of any other is not repeated: it may be anything.
pub(super) async fn answered(transport: &dyn Transport, request: WireRequest) -> Result<bytes::Bytes, UpstreamError> {
    let (status, body) = exchanged(transport, request).await?;
    match status.as_u16() {
        200..=299 => Ok(body),
        400..=407 => Err(refused(status)),
        _ => Err(UpstreamError::Failed { status, retry_after: None, message: "no keys".into() }),
    }
}

fn refused(status: StatusCode) -> UpstreamError {
    UpstreamError::Account { status, message: "no keys: the server of keys refuses us".into() }
}

/// There are no keys.
pub(super) fn none(why: &str) -> UpstreamError {
    UpstreamError::Account { status: StatusCode::UNAUTHORIZED, message: format!("no keys: {why}").into() }
}
