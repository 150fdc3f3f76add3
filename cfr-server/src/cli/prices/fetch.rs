//! Reads a price table from a file or an address.

use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cfr_core::price::PRICE_TABLE_BYTES_MAX;
use reqwest::Url;

use crate::cli::error::CliError;

/// For the whole file.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads what `from` names: an address when it begins like one, else a file.
///
/// # Errors
/// When it cannot be read, or is larger than a price table.
pub(super) async fn read(from: &str, allow_http: bool) -> Result<Bytes, CliError> {
    if from.contains("://") { fetch(from, allow_http).await } else { open(Path::new(from)) }
}

/// Reads a file.
///
/// # Errors
/// When it cannot be read.
pub(super) fn open(file: &Path) -> Result<Bytes, CliError> {
    let what = format!("cannot read {}", file.display());
    let body = std::fs::read(file).map_err(|source| CliError::Io { what: what.into(), source })?;
    Ok(Bytes::from(body))
}

/// Whoever can change the answer on its way decides what customers pay: only an encrypted way is taken unasked.
async fn fetch(from: &str, allow_http: bool) -> Result<Bytes, CliError> {
    let unclear = |_| CliError::misused(format_args!("{from} is neither an https address nor a file"));
    let url = Url::parse(from).map_err(unclear)?;
    let here = is_loopback(&url);
    if url.scheme() != "https" && !here && !allow_http {
        return Err(CliError::misused("prices over http can be changed on their way: use https, or add --allow-http"));
    }
    let _ = rustls::crypto::ring::default_provider().install_default(); // an error says that there is one already
    let builder = reqwest::Client::builder().timeout(FETCH_TIMEOUT).https_only(url.scheme() == "https");
    let builder = if here { builder.no_proxy() } else { builder };
    let lost = |error: reqwest::Error| CliError::Unreachable(format!("no price table from {from}: {error}").into());
    let answer = builder.build().map_err(lost)?.get(url).send().await.map_err(lost)?;
    let mut answer = answer.error_for_status().map_err(lost)?;
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(lost)? {
        if body.len() + chunk.len() > PRICE_TABLE_BYTES_MAX {
            return Err(CliError::misused(format_args!("{from} is larger than any price table")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_this_machine() {
        let here = |text: &str| is_loopback(&Url::parse(text).expect("an address"));
        assert!(here("http://localhost:1/x") && here("http://127.0.0.1/") && here("http://[::1]:80/"));
        assert!(!here("http://localhost.example/") && !here("http://127.0.0.1.example/") && !here("http://10.0.0.1/"));
    }
}
