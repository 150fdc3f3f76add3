//! How clients and other providers are called. Their addresses come from whoever registered them, or from the providers
//! themselves: nobody reaches what is inside the network by way of us.

use std::sync::Arc;
use std::time::Duration;

use cfr_providers::transport::guard::{AddressGuard, GuardError};
use reqwest::redirect::Policy;

use super::Issuer;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// This machine, by all of its names.
const HERE: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Calls public hosts over TLS, and those inside that the operator names.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    http: reqwest::Client,
    guard: AddressGuard,
}

/// Why a call was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// It is not called.
    #[error("{address} is not called: {source}")]
    Guarded {
        /// Where.
        address: String,
        /// Why.
        source: GuardError,
    },
    /// The connection failed.
    #[error("it cannot be reached: {0}")]
    Unreached(#[from] reqwest::Error),
}

impl Outgoing {
    /// Calls these hosts wherever they are. A server that is itself called on its own machine alone, as for a demonstration,
    /// calls others there.
    pub(crate) fn new(issuer: &Issuer, inside: impl IntoIterator<Item = String>) -> Result<Self, reqwest::Error> {
        let _ = rustls::crypto::ring::default_provider().install_default(); // an error says that there is one already
        let here = HERE.into_iter().filter(|_| issuer.is_here()).map(str::to_owned);
        let guard = AddressGuard::allowing(inside.into_iter().chain(here));
        let http = reqwest::Client::builder().timeout(PATIENCE).redirect(Policy::none());
        let http = http.no_proxy().dns_resolver(Arc::new(guard.clone())).build()?; // a proxy would look the names up itself
        Ok(Self { http, guard })
    }

    /// Sends one request. Redirects are not followed.
    pub(crate) async fn send(&self, request: reqwest::Request) -> Result<reqwest::Response, CallError> {
        let url = request.url();
        self.guard.check_url(url).map_err(|source| CallError::Guarded { address: url.to_string(), source })?;
        Ok(self.http.execute(request).await?)
    }

    /// Posts a form.
    pub(crate) async fn post_form(&self, address: &str, form: String) -> Result<reqwest::Response, CallError> {
        let request = self.http.post(address).header("content-type", "application/x-www-form-urlencoded").body(form);
        self.send(request.build()?).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(issuer: &str, inside: &[&str], address: &str) -> Option<GuardError> {
        let issuer = Issuer::parse(issuer).expect("an address");
        let outgoing = Outgoing::new(&issuer, inside.iter().map(|host| (*host).to_owned())).expect("a client");
        match outgoing.post_form(address, String::new()).await {
            Err(CallError::Guarded { source, .. }) => Some(source),
            Err(CallError::Unreached(_)) => None,
            Ok(answer) => panic!("{answer:?}"),
        }
    }

    #[tokio::test]
    async fn what_is_inside_is_called_only_when_the_operator_names_it() {
        // Nobody listens on port 1: what is not refused is not reached.
        for inside in
            ["https://127.0.0.1:1/x", "https://10.0.0.7:1/x?p=1", "https://[::1]:1/", "https://169.254.169.254/"]
        {
            assert_eq!(refused("https://ai.example.com", &[], inside).await, Some(GuardError::NotPublic), "{inside}");
        }
        assert_eq!(refused("https://ai.example.com", &["127.0.0.1"], "https://127.0.0.1:1/x").await, None);
        assert_eq!(refused("http://localhost:4000", &[], "http://127.0.0.1:1/x").await, None, "a demonstration");
        let elsewhere = refused("http://localhost:4000", &[], "http://10.0.0.7:1/x").await;
        assert_eq!(elsewhere, Some(GuardError::NotEncrypted));
    }
}
