//! Google's access tokens: of a service account's key, or of the machine that we run on (providers.md §7.1).

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use cfr_core::secret::Secret;
use cfr_core::time::Clock;
use cfr_core::upstream::UpstreamError;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde::Deserialize;
use serde_json::{Value, json};

use super::token::{Token, TokenBearer, TokenSource, fetch, form};
use super::{KeyError, Signer};
use crate::transport::{BadAddress, Endpoint, Transport, WireRequest};

/// What the tokens are for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Where keys that name no other place ask.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
/// How long an assertion holds, in seconds; Google takes no longer ones.
const ASSERTION_SECONDS: i64 = 3_600;
/// The server that machines of Google's ask.
const METADATA: &str = "http://metadata.google.internal";
const METADATA_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

/// Signs for Vertex, with the project that pays for quota where it is not the account's own.
#[derive(Debug)]
pub struct GoogleToken {
    tokens: TokenBearer,
    quota_project: Option<HeaderValue>,
}

impl GoogleToken {
    /// Signs with tokens of `source`.
    ///
    /// # Errors
    /// When no header can carry the project's name.
    pub fn new(
        source: Arc<dyn TokenSource>,
        clock: Arc<dyn Clock>,
        quota_project: Option<&str>,
    ) -> Result<Self, KeyError> {
        let quota_project = quota_project.map(HeaderValue::from_str).transpose().map_err(|_| KeyError)?;
        Ok(Self { tokens: TokenBearer::new(source, clock), quota_project })
    }
}

#[async_trait]
impl Signer for GoogleToken {
    async fn sign(&self, request: &mut WireRequest) -> Result<(), UpstreamError> {
        if let Some(project) = &self.quota_project {
            request.headers.insert(HeaderName::from_static("x-goog-user-project"), project.clone());
        }
        self.tokens.sign(request).await
    }
}

/// The file of a service account is not one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceAccountError {
    /// Not JSON, or a member is missing.
    #[error("not the key file of a service account: {reason}")]
    File {
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// The private key is not one.
    #[error("the private key of the service account cannot be read: {reason}")]
    Key {
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// It asks for tokens where nobody can be asked.
    #[error(transparent)]
    Address(#[from] BadAddress),
}

/// Tokens for the key of a service account.
#[derive(Debug)]
pub struct ServiceAccount {
    email: String,
    key_id: Option<String>,
    project: Option<String>,
    audience: String,
    key: RsaKeyPair,
    endpoint: Arc<Endpoint>,
    clock: Arc<dyn Clock>,
    transport: Arc<dyn Transport>,
}

#[derive(Deserialize)]
struct KeyFile {
    client_email: String,
    private_key: String,
    private_key_id: Option<String>,
    project_id: Option<String>,
    token_uri: Option<String>,
}

impl ServiceAccount {
    /// Reads the text of a key file as Google's console gives it.
    ///
    /// # Errors
    /// When it is none. The text itself is in no error.
    pub fn parse(
        file: &Secret,
        clock: Arc<dyn Clock>,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, ServiceAccountError> {
        let file: KeyFile = serde_json::from_str(file.expose()).map_err(|cause| ServiceAccountError::File {
            reason: format!("line {}, column {}", cause.line(), cause.column()).into(),
        })?;
        let audience = file.token_uri.unwrap_or_else(|| TOKEN_URI.to_owned());
        Ok(Self {
            email: file.client_email,
            key_id: file.private_key_id,
            project: file.project_id,
            key: private_key(&file.private_key)?,
            endpoint: Arc::new(Endpoint::below(&audience, "")?),
            audience,
            clock,
            transport,
        })
    }

    /// The project that the account belongs to.
    #[must_use]
    pub fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    /// What proves that we have the key, without showing it: a JWT that the key signed.
    fn assertion(&self) -> Result<String, UpstreamError> {
        let now = self.clock.now().as_second();
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.key_id});
        let until = now.saturating_add(ASSERTION_SECONDS);
        let claims = json!({"iss": self.email, "scope": SCOPE, "aud": self.audience, "iat": now, "exp": until});
        let signed = format!("{}.{}", encoded(&header), encoded(&claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        let random = SystemRandom::new();
        let made = self.key.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature);
        made.map_err(|_| UpstreamError::Unreachable { message: "no access token: the key cannot sign".into() })?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A key in PEM, as PKCS#8 or in the older form.
fn private_key(pem: &str) -> Result<RsaKeyPair, ServiceAccountError> {
    let wrong = |reason: &str| ServiceAccountError::Key { reason: reason.into() };
    let body: String = pem.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(body).map_err(|_| wrong("it is not PEM"))?;
    let key =
        if pem.contains("BEGIN RSA PRIVATE KEY") { RsaKeyPair::from_der(&der) } else { RsaKeyPair::from_pkcs8(&der) };
    key.map_err(|cause| wrong(&cause.to_string()))
}

#[async_trait]
impl TokenSource for ServiceAccount {
    async fn token(&self) -> Result<Token, UpstreamError> {
        let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
        let question = form(&self.endpoint, format!("{grant}&assertion={}", self.assertion()?));
        fetch(self.transport.as_ref(), question).await
    }
}

/// Tokens for the account of the machine that we run on, if it is Google's.
#[derive(Debug)]
pub struct MetadataServer {
    endpoint: Arc<Endpoint>,
    transport: Arc<dyn Transport>,
}

impl MetadataServer {
    /// The server at its usual address, or at another.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn new(base_url: Option<&str>, transport: Arc<dyn Transport>) -> Result<Self, BadAddress> {
        let endpoint = Endpoint::below(base_url.unwrap_or(METADATA), METADATA_PATH)?.with_method(Method::GET);
        Ok(Self { endpoint: Arc::new(endpoint), transport })
    }
}

#[async_trait]
impl TokenSource for MetadataServer {
    async fn token(&self) -> Result<Token, UpstreamError> {
        let flavor = (HeaderName::from_static("metadata-flavor"), HeaderValue::from_static("Google"));
        let (endpoint, headers) = (Arc::clone(&self.endpoint), HeaderMap::from_iter([flavor]));
        let request = WireRequest { endpoint, headers, body: Bytes::new(), dropped: Vec::new() };
        fetch(self.transport.as_ref(), request).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use cfr_core::time::{ManualClock, Timestamp};
    use futures_util::{StreamExt, stream};
    use http::{Response, StatusCode};
    use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;
    use crate::transport::{Body, TransportError};

    /// Made for these tests; it opens nothing.
    const KEY: &str = concat!(
        "MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQCvLADDNIxXxG3T2YDK7LoMwQSbJ19sAOFiBVmq7EFyPSyrWDcm",
        "3+FaFdKMHD+HBKfjQWjEijkZIg0fN6BuHK0HMiSiBlXApj2O5bxuGZgu5MpwAIK9HGBl8etkLRgXHT9v2hnD4rpZh/Gzeb+KsF2I",
        "xekNVJUKJ0oiatpZOZ0E5WYKh8vgSj9xy8wpUjkD27D0Sxuvvzxt6M0XvOcru3JhStHI6I1Xj7ePKaJ2GzthemlsI9UoDE/To/ia",
        "npqe/4RYyBdpikerjFHoRlAIX91Zw1bhKo30UnPla1A1qVZH7Uk26zMdgt1ceHRa9Ku/E3K3BR1Dybm+xma/e1FhL+qDAgMBAAEC",
        "ggEARG+ojJsHCXMQhWfATYdW2IzAQ+2J9iQR6b21XnWWzA7iWL7KLUHiRNOpwlt25kUHYl23lLF7xTnsbnnJD7vcTadlcHeRIQbR",
        "nfZbO5h8QDXacQ+CBGgFsU5mbGjBtKYUlppa3pDBxSC7aSbzkjd9E2ZeunqFD8ZxzCh6zckYc0SWpAFEdIpdproxLov81jDuqFLn",
        "KYLf6fux5waUB4j2ks8aG4v7QINUCCEJF90JJfalGAkBGh8W7Pop+D/sN258Dr8YEiSHz2dzFHnmFC/EC+4Qs1MOzDADmiJYtk6c",
        "MXRHPjb4X1dF4HRUkEpA6sZVBStHZiVg99cfFDnL4Y3GAQKBgQDZ+TMVba9PZ67+5MaVS3VeZ+c7d2RzBJgieuAgWpcCOrvYasuG",
        "76gzZjJzHI2YH7oACUuaGK8EfZhoYOdOQS6floumZC3nxkDT7gzD6ujUUvG+3El6rR/Zyi3LVBzm3DDggH9hFaRbVVy3T6BFKskK",
        "pXiH42+AwIp2bJOQ12IAwQKBgQDNu0PpJETt3nDenh6pqFgyOIwx196NSs3EnxjljRAj4oMqsYT7FSvmbhqlrq2+Gkej1Iah0A1q",
        "khCc9ZZ1ck5Hc3T26Fv+wGNX8bJDTj0pdvCppHTpNlUJ6E8MQNxHG0OKe3z967eU8pHKMizqMDvZ0NYWGh2Z2ITl7peagr+4QwKB",
        "gQDTJuJjebN/2lLdPMVaTpTN9R08r/WwrdyqWhnPfbIXSMo7ZYjvmC16TR/F/vzzRpip/FcuWYcBdKE1S9oGJoKBuhZiA12szpJy",
        "OoJHL8KIHClu2HqdyiO2mHIwK7UrtlXqxM+gPpTOnSyJryr0lfPWymCuUpXrRZlcCuYQQ3T+gQKBgDLlMf66V0cVcYzRRzqnh/Ic",
        "pSorgkYoDFGpHkqjpCuMfPCR7BkFes/Ny0/Tr+3IqJJyIEBlrPwBWJTL+MXjWlQ4zuXKQ//47lqyU2xtLZpVb2I4aifLpiwGSY/5",
        "d8UrjID03c4fg1IY1FJWKWBiQFw5Ws0q9sm5k98iMGUsFWvrAoGBAMVqDc0qUTj+y0Z7Ts9WbQ8WP/VTyKdqAnPTR+xvljC0D1rq",
        "4gOdwmnNuVceyLj0Y9fKWPhQYTOelZoV5p0h2lGujVv2Al4Jewk9dve47sBN9fiJCb9vHpHoR6dU5E6KsWxnT2bgPf/YhxDZ8kTD",
        "dpRRo0IZPSbzMK0kDjV3pe+L",
    );

    /// Answers every request alike and keeps the last one.
    #[derive(Debug)]
    struct Server {
        answer: (u16, &'static str),
        asked: Mutex<Option<WireRequest>>,
    }

    #[async_trait]
    impl Transport for Server {
        async fn send(&self, request: WireRequest, _: Duration) -> Result<Response<Body>, TransportError> {
            *self.asked.lock().expect("a lock") = Some(request);
            let body = Bytes::from_static(self.answer.1.as_bytes());
            let mut response = Response::new(stream::iter([Ok(body)]).boxed() as Body);
            *response.status_mut() = StatusCode::from_u16(self.answer.0).expect("a status");
            Ok(response)
        }
    }

    const GRANTED: (u16, &str) = (200, r#"{"access_token":"ya29.x","expires_in":3599,"token_type":"Bearer"}"#);

    fn server(answer: (u16, &'static str)) -> Arc<Server> {
        Arc::new(Server { answer, asked: Mutex::default() })
    }

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::new(Timestamp::from_second(1_700_000_000).expect("a time")))
    }

    fn file(key: &str) -> Secret {
        let file = json!({
            "type": "service_account", "project_id": "p", "private_key_id": "k1", "client_email": "a@p.example",
            "private_key": format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n"),
            "token_uri": "http://127.0.0.1:9/token",
        });
        Secret::new(file.to_string())
    }

    fn account(server: &Arc<Server>) -> ServiceAccount {
        ServiceAccount::parse(&file(KEY), clock(), server.clone()).expect("a key file")
    }

    fn decoded(part: &str) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON")
    }

    #[tokio::test]
    async fn the_key_signs_an_assertion_that_is_exchanged_for_a_token() {
        let server = server(GRANTED);
        let account = account(&server);
        let token = account.token().await.expect("a token");
        assert_eq!((token.secret.expose(), token.valid_for), ("ya29.x", Duration::from_secs(3_599)));
        let asked = server.asked.lock().expect("a lock").take().expect("a question");
        assert_eq!(asked.endpoint.uri().to_string(), "http://127.0.0.1:9/token");
        let body = str::from_utf8(&asked.body).expect("text");
        let (grant, assertion) = body.split_once("&assertion=").expect("a form");
        assert_eq!(grant, "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer");
        let (signed, signature) = assertion.rsplit_once('.').expect("a JWT");
        let (header, claims) = signed.split_once('.').expect("a JWT");
        assert_eq!(decoded(header), json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
        let expected = json!({"iss": "a@p.example", "scope": SCOPE, "aud": "http://127.0.0.1:9/token",
            "iat": 1_700_000_000, "exp": 1_700_003_600});
        assert_eq!(decoded(claims), expected);
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, account.key.public_key());
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64");
        public.verify(signed.as_bytes(), &signature).expect("a signature of the key");
    }

    #[tokio::test]
    async fn a_machine_of_googles_asks_its_metadata_server() {
        let server = server(GRANTED);
        let source = MetadataServer::new(None, server.clone()).expect("an address");
        assert_eq!(source.token().await.expect("a token").secret.expose(), "ya29.x");
        let asked = server.asked.lock().expect("a lock").take().expect("a question");
        assert_eq!(
            (asked.endpoint.method(), &asked.headers["metadata-flavor"]),
            (&Method::GET, &HeaderValue::from_static("Google"))
        );
    }

    #[tokio::test]
    async fn a_call_is_signed_with_the_token_and_the_project_that_pays() {
        let signer = GoogleToken::new(Arc::new(account(&server(GRANTED))), clock(), Some("payer")).expect("a signer");
        let endpoint = Arc::new(Endpoint::below("http://127.0.0.1", "/").expect("an address"));
        let mut request = WireRequest { endpoint, headers: HeaderMap::new(), body: Bytes::new(), dropped: Vec::new() };
        signer.sign(&mut request).await.expect("a token");
        assert_eq!(request.headers["authorization"], "Bearer ya29.x");
        assert_eq!(request.headers["x-goog-user-project"], "payer");
        assert!(!format!("{request:?}").contains("ya29"), "the token prints");
    }

    #[tokio::test]
    async fn a_refused_key_is_our_accounts_trouble_and_a_broken_server_a_failure() {
        let refused = (400, r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#);
        let error = account(&server(refused)).token().await.expect_err("a refusal");
        assert_eq!(error.name(), "account");
        assert_eq!(account(&server((503, ""))).token().await.expect_err("a failure").name(), "failed");
        assert_eq!(account(&server((200, "{}"))).token().await.expect_err("no token").name(), "malformed");
    }

    #[test]
    fn a_file_that_is_none_is_refused_and_shows_nothing() {
        for text in ["", "{}", r#"{"client_email":"e","private_key":5}"#] {
            let error = ServiceAccount::parse(&Secret::new(text), clock(), server(GRANTED)).expect_err("no key file");
            assert!(matches!(error, ServiceAccountError::File { .. }), "{error}");
        }
        for key in ["no base64!", "AAAA"] {
            let error = ServiceAccount::parse(&file(key), clock(), server(GRANTED)).expect_err("no key");
            assert!(matches!(error, ServiceAccountError::Key { .. }) && !error.to_string().contains(key), "{error}");
        }
        assert!(!format!("{:?}", account(&server(GRANTED))).contains(&KEY[..40]));
    }
}
