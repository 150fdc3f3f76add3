//! AWS Signature Version 4 (providers.md §8.1).
//!
//! ```text
//! secret key ─ HMAC day ─ HMAC region ─ HMAC service ─ HMAC "aws4_request" ─┐
//! method, path, query, headers, hash of the body ─ SHA-256 ─ text to sign ── HMAC ─ signature
//! ```

use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use cfr_core::time::{Clock, Timestamp};
use cfr_core::upstream::UpstreamError;
use hmac::{Hmac, KeyInit, Mac};
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, StatusCode, Uri};
use sha2::{Digest as _, Sha256};

use super::Signer;
use super::aws::{AwsCredentials, AwsKeys};
use crate::transport::WireRequest;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
/// The headers that are signed where a request has them.
const SIGNED: [&str; 3] = ["content-type", "x-amz-date", "x-amz-security-token"];
/// Is signed too. The transport sets it.
const HOST: &str = "host";

/// Signs for one service in one region. The date and the signature are all that it adds.
#[derive(Debug, Clone)]
pub struct SigV4 {
    credentials: Arc<dyn AwsCredentials>,
    region: Box<str>,
    service: Box<str>,
    clock: Arc<dyn Clock>,
}

impl SigV4 {
    /// Signs with keys from `credentials`. `service` is the name that signatures use, such as `bedrock` for
    /// `bedrock-runtime.…amazonaws.com`. A clock that is five minutes wrong makes signatures that AWS refuses.
    #[must_use]
    pub fn new(credentials: Arc<dyn AwsCredentials>, region: &str, service: &str, clock: Arc<dyn Clock>) -> Self {
        Self { credentials, region: region.into(), service: service.into(), clock }
    }

    fn add(&self, keys: &AwsKeys, now: Timestamp, request: &mut WireRequest) -> Result<(), UpstreamError> {
        let date = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let (day, _) = date.split_once('T').unwrap_or((&date, ""));
        request.headers.insert(DATE, value(&date)?);
        if let Some(token) = &keys.session_token {
            request.headers.insert(SECURITY_TOKEN, secret_value(token.expose())?);
        }
        let (canonical, signed) = canonical_request(request);
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let signature = hex(&hmac(&self.key(keys, day), text_to_sign(&date, &scope, &canonical).as_bytes()));
        let credential = format!("Credential={}/{scope}", keys.access_key_id);
        let proof = format!("{ALGORITHM} {credential}, SignedHeaders={signed}, Signature={signature}");
        request.headers.insert(AUTHORIZATION, secret_value(&proof)?);
        Ok(())
    }

    /// The key of one day for this region and service.
    fn key(&self, keys: &AwsKeys, day: &str) -> [u8; 32] {
        let secret = format!("AWS4{}", keys.secret_access_key.expose());
        let steps = [day, &self.region, &self.service, "aws4_request"].map(str::as_bytes);
        let day = hmac(secret.as_bytes(), steps[0]);
        steps[1..].iter().fold(day, |key, step| hmac(&key, step))
    }
}

#[async_trait]
impl Signer for SigV4 {
    async fn sign(&self, request: &mut WireRequest) -> Result<(), UpstreamError> {
        let keys = self.credentials.keys().await?;
        self.add(&keys, self.clock.now(), request)
    }
}

/// What is signed of a request, and the names of the headers in it.
fn canonical_request(request: &WireRequest) -> (String, String) {
    let uri = request.endpoint.uri();
    let mut headers: Vec<(&str, String)> = vec![(HOST, host(uri))];
    for name in SIGNED {
        let value = request.headers.get(name).and_then(|value| value.to_str().ok());
        headers.extend(value.map(|value| (name, value.trim().to_owned())));
    }
    headers.sort_unstable();
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let (path, query, body) = (encoded_again(uri.path()), sorted_query(uri), hex(&Sha256::digest(&request.body)));
    (format!("{}\n{path}\n{query}\n{lines}\n{names}\n{body}", request.endpoint.method()), names)
}

/// As the transport writes it: without the port that the scheme has anyway.
fn host(uri: &Uri) -> String {
    let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let port = uri.port_u16().filter(|port| *port != usual).map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", uri.host().unwrap_or_default().to_ascii_lowercase())
}

/// AWS encodes the path once more than it goes over the wire: `%3A` is signed as `%253A`.
fn encoded_again(path: &str) -> String {
    path.split('/').map(crate::transport::path_segment).collect::<Vec<_>>().join("/")
}

/// The query as it goes over the wire, its members in order.
fn sorted_query(uri: &Uri) -> String {
    let members = uri.query().unwrap_or_default().split('&').filter(|member| !member.is_empty());
    let mut members: Vec<(&str, &str)> = members.map(|one| one.split_once('=').unwrap_or((one, ""))).collect();
    members.sort_unstable();
    members.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn text_to_sign(date: &str, scope: &str, canonical: &str) -> String {
    format!("{ALGORITHM}\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())))
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    // A key of any length will do: one that is longer than a block is hashed first.
    Hmac::<Sha256>::new_from_slice(key).map_or([0; 32], |mac| mac.chain_update(text).finalize().into_bytes().into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn secret_value(text: &str) -> Result<HeaderValue, UpstreamError> {
    let mut secret = value(text)?;
    secret.set_sensitive(true);
    Ok(secret)
}

fn value(text: &str) -> Result<HeaderValue, UpstreamError> {
    let bad = "the keys of the account have characters that no HTTP header can carry";
    HeaderValue::from_str(text)
        .map_err(|_| UpstreamError::Account { status: StatusCode::UNAUTHORIZED, message: bad.into() })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use cfr_core::secret::Secret;
    use cfr_core::time::ManualClock;
    use http::HeaderMap;
    use http::header::CONTENT_TYPE;
    use serde::Deserialize;

    use super::super::aws::StaticKeys;
    use super::*;
    use crate::transport::Endpoint;

    const VECTORS: &str = include_str!("../../tests/fixtures/bedrock/sigv4_vectors.json");

    #[derive(Deserialize)]
    struct Vectors {
        vectors: Vec<Vector>,
    }

    #[derive(Deserialize)]
    struct Vector {
        case: String,
        method: String,
        host: String,
        path_on_the_wire: String,
        region: String,
        service: String,
        access_key: String,
        secret_key: String,
        session_token: Option<String>,
        amz_date: String,
        body: String,
        canonical_request: String,
        string_to_sign: String,
        authorization: String,
    }

    impl Vector {
        fn request(&self) -> WireRequest {
            let base = Endpoint::below(&format!("https://{}", self.host), "").expect("an address");
            let endpoint = base.join(&self.path_on_the_wire).expect("a path");
            let endpoint = Arc::new(endpoint.with_method(self.method.parse().expect("a method")));
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
            WireRequest { endpoint, headers, body: Bytes::from(self.body.clone()), dropped: Vec::new() }
        }

        fn signer(&self) -> SigV4 {
            let keys = AwsKeys {
                access_key_id: self.access_key.as_str().into(),
                secret_access_key: Secret::new(&self.secret_key),
                session_token: self.session_token.as_ref().map(Secret::new),
            };
            let now = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", &self.amz_date);
            let now = now.ok().and_then(|time| time.to_datetime().ok()).expect("a date");
            let now = now.to_zoned(jiff::tz::TimeZone::UTC).expect("a time").timestamp();
            SigV4::new(Arc::new(StaticKeys::new(keys)), &self.region, &self.service, Arc::new(ManualClock::new(now)))
        }
    }

    #[tokio::test]
    async fn signatures_are_those_of_amazons_own_signer() {
        let vectors: Vectors = serde_json::from_str(VECTORS).expect("vectors");
        assert!(!vectors.vectors.is_empty());
        for vector in vectors.vectors {
            let (mut request, case) = (vector.request(), &vector.case);
            vector.signer().sign(&mut request).await.expect("a signature");
            let (canonical, _) = canonical_request(&request);
            assert_eq!(canonical, vector.canonical_request, "{case}");
            let scope = format!("{}/{}/{}/aws4_request", &vector.amz_date[..8], vector.region, vector.service);
            assert_eq!(text_to_sign(&vector.amz_date, &scope, &canonical), vector.string_to_sign, "{case}");
            assert_eq!(request.headers[AUTHORIZATION], vector.authorization, "{case}");
        }
    }

    #[tokio::test]
    async fn neither_keys_nor_proof_print() {
        let vectors: Vectors = serde_json::from_str(VECTORS).expect("vectors");
        for vector in vectors.vectors {
            let (mut request, signer) = (vector.request(), vector.signer());
            signer.sign(&mut request).await.expect("a signature");
            let printed = format!("{signer:?} {:?}", request.headers);
            assert!(!printed.contains(&vector.secret_key) && !printed.contains("Signature="), "{printed}");
            assert!(vector.session_token.is_none_or(|token| !printed.contains(&token)), "{printed}");
        }
    }

    #[tokio::test]
    async fn keys_that_no_header_can_carry_are_the_accounts_trouble() {
        let vectors: Vectors = serde_json::from_str(VECTORS).expect("vectors");
        for vector in vectors.vectors {
            let broken = Vector { access_key: "two\nlines".into(), ..vector };
            let error = broken.signer().sign(&mut broken.request()).await.expect_err("a line break");
            assert_eq!(error.name(), "account");
        }
    }

    #[test]
    fn hosts_ports_and_queries_are_signed_as_they_are_sent() {
        let host_of = |address: &str| host(&address.parse().expect("an address"));
        assert_eq!(host_of("https://Example.COM:443/x"), "example.com");
        assert_eq!(host_of("http://127.0.0.1:8080/x"), "127.0.0.1:8080");
        assert_eq!(sorted_query(&"http://h/p?b=2&a&a=%2F&b=1".parse().expect("an address")), "a=&a=%2F&b=1&b=2");
    }
}
