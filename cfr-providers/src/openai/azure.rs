//! Azure OpenAI: which of its two APIs an address means, and the addresses of the older one (providers.md §5).
//!
//! The v1 API is OpenAI's own at another address: a model is the name of a deployment. The older one has a path for each
//! deployment and a version in the query; it ignores the model in the body.

use std::sync::Arc;

use cfr_core::upstream::UpstreamError;

use super::OpenAi;
use super::host::{Host, Path};
use super::quirks::{AZURE, Quirks};
use crate::transport::{BadAddress, Endpoint, path_segment};

/// The version of the older API where nobody names one: the last of them, which knows all that v1 knows.
pub const API_VERSION: &str = "2025-04-01-preview";
/// Versions of earlier days have no `/responses`; callers of that dialect are served by chat completions then.
const RESPONSES_SINCE: &str = "2025-03-01";
static WITHOUT_RESPONSES: Quirks = Quirks { responses: false, counts_tokens: false, ..AZURE };
/// The longest text that can be a version.
const VERSION_CHARS_MAX: usize = 32;

/// An address of Azure's and a version that do not go together, or are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AzureAddressError {
    /// The address is not one.
    #[error(transparent)]
    Bad(#[from] BadAddress),
    /// Not a version of the API.
    #[error("`{version}` is no version of Azure's API, which is a day such as {API_VERSION}")]
    Version {
        /// The text.
        version: Box<str>,
    },
    /// The v1 API has no versions.
    #[error("`api_version` belongs to addresses of deployments; the v1 API has none")]
    VersionOfV1,
}

impl OpenAi {
    /// Azure OpenAI. The address says which API: `https://RESOURCE.openai.azure.com` and `…/openai/v1` are v1;
    /// `…/openai/deployments`, or a version beside the bare address, are the older one.
    ///
    /// # Errors
    /// When the address or the version is not one, or they contradict each other.
    pub fn azure(base_url: &str, api_version: Option<&str>) -> Result<Self, AzureAddressError> {
        let base = base_url.trim_end_matches('/');
        if base.ends_with("/v1") {
            let none = api_version.is_none();
            return if none { Ok(Self::new(&AZURE, Some(base))?) } else { Err(AzureAddressError::VersionOfV1) };
        }
        let deployments = base.strip_suffix("/deployments");
        let resource = deployments.unwrap_or(base).trim_end_matches("/openai");
        if deployments.is_none() && api_version.is_none() {
            return Ok(Self::new(&AZURE, Some(&format!("{resource}/openai/v1")))?);
        }
        let version = api_version.unwrap_or(API_VERSION);
        let quirks = if version < RESPONSES_SINCE { &WITHOUT_RESPONSES } else { &AZURE };
        Ok(Self::at(Host::of_deployments(quirks, Deployments::new(resource, version)?)))
    }
}

/// The deployments of one resource, each with an address of its own.
#[derive(Debug)]
pub(super) struct Deployments {
    base: Endpoint,
    api_version: Box<str>,
}

impl Deployments {
    fn new(resource: &str, api_version: &str) -> Result<Self, AzureAddressError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if api_version.is_empty() || api_version.len() > VERSION_CHARS_MAX || !api_version.bytes().all(plain) {
            return Err(AzureAddressError::Version { version: api_version.into() });
        }
        Ok(Self { base: Endpoint::below(resource, "/openai")?, api_version: api_version.into() })
    }

    /// Responses are the resource's; every other operation is a deployment's.
    pub(super) fn endpoint(&self, path: Path, model: &str) -> Result<Arc<Endpoint>, UpstreamError> {
        let (operation, version) = (path.text(), &self.api_version);
        let path = match path {
            Path::Responses | Path::InputTokens => format!("{operation}?api-version={version}"),
            _ => format!("/deployments/{}{operation}?api-version={version}", path_segment(model)),
        };
        let unsupported = |_| UpstreamError::Unsupported { message: format!("the deployment `{model}`").into() };
        self.base.join(&path).map(Arc::new).map_err(unsupported)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use cfr_core::chat::{Call, Operation};
    use cfr_core::time::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::adapter::Adapter;
    use crate::testing::{call, order};

    const RESOURCE: &str = "https://res.openai.azure.com";

    /// Where a chat with the model `model` goes.
    fn address(base_url: &str, api_version: Option<&str>, model: &str) -> String {
        let adapter = OpenAi::azure(base_url, api_version).expect("an address");
        let call = call(&json!({"model": "public", "messages": []}));
        let request = adapter.encode(&order(&call, model)).expect("a request");
        assert_eq!(request.body, Bytes::from(json!({"model": model, "messages": []}).to_string()));
        request.endpoint.uri().to_string()
    }

    #[test]
    fn the_address_says_which_api() {
        let v1 = format!("{RESOURCE}/openai/v1/chat/completions");
        for base in ["", "/", "/openai", "/openai/v1", "/openai/v1/"] {
            assert_eq!(address(&format!("{RESOURCE}{base}"), None, "my-gpt"), v1, "{base}");
        }
        let older =
            |version: &str| format!("{RESOURCE}/openai/deployments/my-gpt/chat/completions?api-version={version}");
        assert_eq!(address(&format!("{RESOURCE}/openai/deployments/"), None, "my-gpt"), older(API_VERSION));
        for base in ["", "/openai", "/openai/deployments"] {
            assert_eq!(address(&format!("{RESOURCE}{base}"), Some("2024-10-21"), "my-gpt"), older("2024-10-21"));
        }
    }

    #[test]
    fn versions_and_addresses_that_contradict_each_other_are_refused() {
        let refused = |base: &str, version| OpenAi::azure(base, version).expect_err(base);
        let v1 = refused(&format!("{RESOURCE}/openai/v1"), Some("2024-10-21"));
        assert_eq!(v1, AzureAddressError::VersionOfV1);
        for version in
            ["", "2024-10-21&x=y", "a/b"].map(str::to_owned).into_iter().chain(["1".repeat(VERSION_CHARS_MAX + 1)])
        {
            let error = OpenAi::azure(RESOURCE, Some(&version)).expect_err(&version);
            assert!(matches!(error, AzureAddressError::Version { .. }), "{version}");
        }
        assert!(matches!(refused("res.openai.azure.com", None), AzureAddressError::Bad(_)));
    }

    #[test]
    fn a_response_is_asked_for_where_the_version_has_them() {
        let body = json!({"model": "public", "input": "Hi"}).to_string().into();
        let call = Call::parse(Operation::Responses, body, Timestamp::UNIX_EPOCH).expect("a call");
        let path = |version| {
            let adapter = OpenAi::azure(RESOURCE, Some(version)).expect("an address");
            adapter.encode(&order(&call, "my-gpt")).expect("a request").endpoint.uri().path().to_owned()
        };
        assert_eq!(path("2025-03-01-preview"), "/openai/responses");
        assert_eq!(path("2024-10-21"), "/openai/deployments/my-gpt/chat/completions");
    }

    #[test]
    fn a_deployment_is_one_segment_of_the_path() {
        let name = "a/b?c#d \u{e4}";
        let expected =
            format!("{RESOURCE}/openai/deployments/a%2Fb%3Fc%23d%20%C3%A4/chat/completions?api-version={API_VERSION}");
        assert_eq!(address(&format!("{RESOURCE}/openai/deployments"), None, name), expected);
        let adapter = OpenAi::azure(RESOURCE, Some(API_VERSION)).expect("an address");
        let call = call(&json!({"model": "public", "messages": []}));
        let error = adapter.encode(&order(&call, "..")).expect_err("leads elsewhere");
        assert!(matches!(error, UpstreamError::Unsupported { .. }), "{error}");
    }
}
