//! The bundled [`FetchMedia`]: HTTPS to public addresses, within limits.
//!
//! A name is resolved by us, every address that it has is checked, and the connection is made to one of these: there is no
//! second look-up that could answer otherwise. Redirects are followed by hand through the same checks. No proxy is used,
//! because it would look names up by itself.

use std::error::Error as _;
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderValue};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Response, Url, redirect};

use super::{FetchError, FetchMedia, Media, MediaKind, Wanted, is_public};

/// How long everything about one address may take, redirects included.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes at one address. Providers take less.
pub const MEDIA_BYTES_MAX: usize = 20 * 1024 * 1024;
/// Redirects that are followed.
pub const REDIRECTS_MAX: usize = 3;

/// What an operator allows to be fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MediaRules {
    /// Also by HTTP without encryption.
    pub http: bool,
    /// From these hosts only, each a name or `*.` and a name for everything below it. Empty: from every public host.
    pub hosts: Vec<String>,
}

/// Fetches over HTTPS from public addresses.
#[derive(Debug)]
pub struct MediaClient {
    rules: MediaRules,
    may_reach: fn(IpAddr) -> bool,
    names: Arc<dyn Names>,
    /// Made when it is first needed: most deployments never fetch. None where TLS cannot be set up.
    client: OnceLock<Option<Client>>,
}

impl MediaClient {
    /// A client that keeps these rules.
    #[must_use]
    pub fn new(rules: MediaRules) -> Self {
        Self::over(rules, is_public, Arc::new(SystemNames))
    }

    fn over(rules: MediaRules, may_reach: fn(IpAddr) -> bool, names: Arc<dyn Names>) -> Self {
        Self { rules, may_reach, names, client: OnceLock::new() }
    }

    fn client(&self) -> Result<&Client, FetchError> {
        let made = || {
            let names = CheckedNames { names: Arc::clone(&self.names), may_reach: self.may_reach };
            client(names).inspect_err(|error| tracing::error!(%error, "nothing can be fetched")).ok()
        };
        self.client.get_or_init(made).as_ref().ok_or(FetchError::Unreachable)
    }

    async fn follow(&self, wanted: &Wanted) -> Result<Media, FetchError> {
        let mut url = self.checked(Url::parse(&wanted.address).map_err(|_| self.wrong_scheme())?)?;
        for _ in 0..=REDIRECTS_MAX {
            let response = self.client()?.get(url.clone()).send().await.map_err(|error| failed(&error))?;
            if !response.remote_addr().is_some_and(|peer| (self.may_reach)(peer.ip())) {
                return Err(FetchError::NotPublic);
            }
            if !response.status().is_redirection() {
                return read(response, wanted.kind).await;
            }
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok()).ok_or(FetchError::Redirects)?;
            url = self.checked(next)?;
        }
        Err(FetchError::Redirects)
    }

    /// An address that may be asked. A host that is a number passes no resolver, so that it is looked at here.
    fn checked(&self, url: Url) -> Result<Url, FetchError> {
        let scheme = url.scheme() == "https" || (self.rules.http && url.scheme() == "http");
        if !scheme || !url.username().is_empty() || url.password().is_some() {
            return Err(self.wrong_scheme());
        }
        let host = url.host_str().ok_or(FetchError::Host)?;
        if !self.rules.hosts.is_empty() && !self.rules.hosts.iter().any(|rule| covers(rule, host)) {
            return Err(FetchError::Host);
        }
        let number = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match number {
            Ok(address) if !(self.may_reach)(address) => Err(FetchError::NotPublic),
            _ => Ok(url),
        }
    }

    const fn wrong_scheme(&self) -> FetchError {
        FetchError::Scheme(if self.rules.http { "an https or http address" } else { "an https address" })
    }
}

#[async_trait]
impl FetchMedia for MediaClient {
    async fn fetch(&self, wanted: &Wanted) -> Result<Media, FetchError> {
        let fetched = tokio::time::timeout(FETCH_TIMEOUT, self.follow(wanted)).await;
        fetched.unwrap_or(Err(FetchError::TooSlow(FETCH_TIMEOUT)))
    }
}

fn client(names: CheckedNames) -> reqwest::Result<Client> {
    // A provider that the application chose before stays in force; an error here says just that.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .dns_resolver(Arc::new(names))
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        .pool_max_idle_per_host(0)
        .connect_timeout(CONNECT_TIMEOUT)
        .default_headers(headers())
        .build()
}

/// Bytes come as they are: what is packed could unpack to more than anybody has room for.
fn headers() -> HeaderMap {
    HeaderMap::from_iter([
        (ACCEPT, HeaderValue::from_static("image/*, application/pdf")),
        (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        (USER_AGENT, HeaderValue::from_static(concat!("cfr/", env!("CARGO_PKG_VERSION")))),
    ])
}

/// Whether a host is meant by a rule: the name itself, or one below the name that follows `*.`.
fn covers(rule: &str, host: &str) -> bool {
    let below = |parent: &str| host.strip_suffix(parent).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'));
    rule.strip_prefix("*.")
        .map_or_else(|| rule.eq_ignore_ascii_case(host), |parent| below(&parent.to_ascii_lowercase()))
}

async fn read(mut response: Response, kind: MediaKind) -> Result<Media, FetchError> {
    if !response.status().is_success() {
        return Err(FetchError::Status(response.status().as_u16()));
    }
    let said = response.headers().get(CONTENT_TYPE).and_then(|said| said.to_str().ok()).unwrap_or_default();
    if !kind.may_be(said) {
        return Err(FetchError::Kind(kind));
    }
    if response.content_length().is_some_and(|bytes| bytes > MEDIA_BYTES_MAX as u64) {
        return Err(FetchError::TooLarge(MEDIA_BYTES_MAX));
    }
    let mut bytes = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MEDIA_BYTES_MAX {
            return Err(FetchError::TooLarge(MEDIA_BYTES_MAX));
        }
    }
    let bytes: Bytes = bytes.freeze();
    let media_type = kind.media_type(&bytes).ok_or(FetchError::Kind(kind))?;
    Ok(Media { media_type, bytes })
}

/// What a caller may know of a failed exchange.
fn failed(error: &reqwest::Error) -> FetchError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.is::<NoPublicAddress>() {
            return FetchError::NotPublic;
        }
        cause = inner.source();
    }
    FetchError::Unreachable
}

/// Looks names up.
#[async_trait]
trait Names: Debug + Send + Sync + 'static {
    /// Every address of a host; none when it does not exist.
    async fn addresses(&self, host: &str) -> Vec<IpAddr>;
}

/// Names as the system knows them.
#[derive(Debug)]
struct SystemNames;

#[async_trait]
impl Names for SystemNames {
    async fn addresses(&self, host: &str) -> Vec<IpAddr> {
        let found = tokio::net::lookup_host((host, 0)).await;
        found.map(|found| found.map(|address| address.ip()).collect()).unwrap_or_default()
    }
}

/// Names of which every address may be reached: one that is here and there is a trick.
#[derive(Debug)]
struct CheckedNames {
    names: Arc<dyn Names>,
    may_reach: fn(IpAddr) -> bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the host has no public address")]
struct NoPublicAddress;

impl Resolve for CheckedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, may_reach) = (Arc::clone(&self.names), self.may_reach);
        Box::pin(async move {
            let found = names.addresses(name.as_str()).await;
            if found.is_empty() || !found.iter().all(|address| may_reach(*address)) {
                return Err(NoPublicAddress.into());
            }
            let addresses = found.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests;
