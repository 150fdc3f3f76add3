//! What attackers send, wherever the document says that text goes: paths, queries, headers, and every text of every body.
//!
//! Nothing of it may be an error of the server, change a row that was not asked to change, reach a header of an answer, or
//! come back as another text than the one that was sent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use cfr_server::openapi::description;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::sample::{Sampler, text_places};
use super::support::site::ADMIN_KEY;
use super::world::{Database, World};

/// Texts that mean something to a database, a header, a path, a spreadsheet or a log.
const HOSTILE: &[&str] = &[
    "' OR '1'='1",
    "'; DROP TABLE users; --",
    "\" OR \"\"=\"",
    "1); DELETE FROM tenants; --",
    "%' ESCAPE '\\",
    "$1 $$ :name ?",
    "x\r\nx-injected: yes",
    "x\u{85}x-injected: yes\u{2028}",
    "../../../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1+1)",
    "${jndi:ldap://x}{{7*7}}<script>",
    "\u{202e}\u{0}\u{1b}[31m",
    "\u{10ffff}\u{feff}",
];
/// What answers say of themselves; an injected header would be another one.
const HEADERS: &[&str] = &[
    "allow",
    "cache-control",
    "content-disposition",
    "content-length",
    "content-type",
    "date",
    "etag",
    "location",
    "retry-after",
    "transfer-encoding",
    "www-authenticate",
    "x-content-type-options",
    "x-request-id",
];
/// Lists whose rows are counted.
const LISTS: [&str; 8] =
    ["tenants", "users", "products", "keys", "budgets", "invitations", "provider-accounts", "oidc-clients"];
/// The header with the caller's name for a request.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// A formula that a client calls itself.
const FORMULA_AGENT: &str = "=HYPERLINK(\"https://evil.example\")";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_texts_are_texts_on_sqlite() {
    attack(&World::on(Database::Sqlite).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_texts_are_texts_on_postgres() {
    attack(&World::on(Database::Postgres).await).await;
}

async fn attack(world: &World) {
    let document = serde_json::to_value(description()).expect("JSON");
    let attacker = Attacker { world, client: client(), document: &document, sent: AtomicUsize::new(0) };
    let operations = attacker.operations();
    assert!(operations.len() > 50, "{} operations", operations.len());
    for operation in &operations {
        let before = attacker.rows().await;
        let mut made = 0;
        for request in attacker.requests(operation) {
            made += usize::from(attacker.send(operation, request).await);
        }
        let after = attacker.rows().await;
        let told = format!("{} {}", operation.method, operation.path);
        let (rows_before, rows_after) = (count(&before), count(&after));
        let (fewest, most) = match &operation.method {
            &Method::DELETE => (rows_before.saturating_sub(made), rows_before),
            _ => (rows_before, rows_before + made),
        };
        assert!((fewest..=most).contains(&rows_after), "{told}: {rows_before} rows, {made} changes, {rows_after} rows");
        assert!(made > 0 || before == after, "{told}: refused, but something changed");
    }
    attacker.tables_have_no_formulas().await;
    refuses_broken_headers(world).await;
}

/// One operation of the document.
struct Operation<'a> {
    method: Method,
    path: String,
    described: &'a Value,
}

impl Operation<'_> {
    /// Whether every request must have a name of its own.
    fn needs_a_name(&self) -> bool {
        let parameters = self.described["parameters"].as_array().into_iter().flatten();
        parameters.into_iter().any(|parameter| parameter["name"] == IDEMPOTENCY_KEY && parameter["required"] == true)
    }
}

/// One hostile request.
#[derive(Default)]
struct Request {
    target: String,
    headers: Vec<(String, &'static str)>,
    body: Option<Value>,
    /// Where in the body the hostile text is, and the text.
    planted: Option<(String, &'static str)>,
}

/// Somebody with an administrator's key, so that nothing is refused for lack of permission.
struct Attacker<'a> {
    world: &'a World,
    client: reqwest::Client,
    document: &'a Value,
    sent: AtomicUsize,
}

impl Attacker<'_> {
    /// Every operation but a stream that does not end by itself.
    fn operations(&self) -> Vec<Operation<'_>> {
        let mut all = Vec::new();
        for (path, item) in self.document["paths"].as_object().expect("paths") {
            for (method, described) in item.as_object().expect("operations") {
                let streams = described["responses"]["200"]["content"].get("text/event-stream").is_some();
                if path.starts_with("/api/v1/") && !streams {
                    let method = method.to_uppercase().parse().expect("a method");
                    all.push(Operation { method, path: path.clone(), described });
                }
            }
        }
        all
    }

    fn requests(&self, operation: &Operation<'_>) -> Vec<Request> {
        let parameters = operation.described["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        let schema = &operation.described["requestBody"]["content"]["application/json"]["schema"];
        let places = if schema.is_null() { Vec::new() } else { text_places(self.document, schema) };
        let mut sampler = Sampler::new(self.document);
        let mut requests = Vec::new();
        for &text in HOSTILE {
            let sample = |sampler: &mut Sampler<'_>| (!schema.is_null()).then(|| sampler.sample(schema));
            for parameter in parameters {
                let name = parameter["name"].as_str().expect("a name");
                let (body, target) = (sample(&mut sampler), self.target(&operation.path, None));
                let request = Request { body, ..Request::default() };
                requests.extend(match parameter["in"].as_str() {
                    Some("path") => {
                        Some(Request { target: self.target(&operation.path, Some((name, text))), ..request })
                    }
                    Some("query") => Some(Request { target: format!("{target}?{name}={}", encoded(text)), ..request }),
                    _ if HeaderValue::from_str(text).is_ok() => {
                        Some(Request { target, headers: vec![(name.to_owned(), text)], ..request })
                    }
                    _ => None, // no client can send it; see `refuses_broken_headers`
                });
            }
            for place in &places {
                let mut body = sampler.sample(schema);
                plant(&mut body, place, text);
                let (target, planted) = (self.target(&operation.path, None), Some((place.clone(), text)));
                requests.push(Request { target, body: Some(body), planted, ..Request::default() });
            }
        }
        requests
    }

    /// The path with things that are there in it, but for one parameter.
    fn target(&self, path: &str, hostile: Option<(&str, &str)>) -> String {
        let mut target = path.to_owned();
        while let (Some(from), Some(to)) = (target.find('{'), target.find('}')) {
            let name = target[from + 1..to].to_owned();
            let value = match hostile {
                Some((parameter, text)) if parameter == name => encoded(text),
                _ => self.world.things.get(name.as_str()).cloned().unwrap_or_else(|| "nothing".to_owned()),
            };
            target.replace_range(from..=to, &value);
        }
        target
    }

    /// Sends one request and judges the answer; returns whether something may have changed.
    async fn send(&self, operation: &Operation<'_>, request: Request) -> bool {
        let Request { target, headers, body, planted } = request;
        let url = format!("{}{target}", self.world.base());
        let mut call = self.client.request(operation.method.clone(), url).header(AUTHORIZATION, bearer());
        let needs_name = operation.needs_a_name() && headers.is_empty();
        for (name, value) in headers {
            call = call.header(name, value);
        }
        if needs_name {
            call = call.header(IDEMPOTENCY_KEY, format!("request-{}", self.sent.fetch_add(1, Ordering::Relaxed)));
        }
        if let Some(body) = &body {
            call = call.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let answer = call.send().await.expect("an answer");
        let (status, heads) = (answer.status(), answer.headers().clone());
        let told = format!("{} {target} {}: {status}", operation.method, body.unwrap_or_default());
        check_headers(&heads, &told);
        let bytes = answer.bytes().await.expect("a whole body");
        assert!(!status.is_server_error(), "{told} {}", String::from_utf8_lossy(&bytes));
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if status.is_client_error() {
            assert_eq!(answer["status"], status.as_u16(), "{told}: no problem details: {answer}");
        } else if let Some((place, text)) = planted
            && let Some(shown) = answer.pointer(&place).filter(|shown| shown.is_string())
        {
            assert_eq!(shown, text, "{told}: it came back as something else");
        }
        status.is_success() && operation.method != Method::GET
    }

    /// What is there, without what reading and calling changes by itself.
    async fn rows(&self) -> BTreeMap<&'static str, Value> {
        let mut rows = BTreeMap::new();
        for list in LISTS {
            let url = format!("{}/api/v1/{list}?limit=1000", self.world.base());
            let answer = self.client.get(url).header(AUTHORIZATION, bearer()).send().await.expect("an answer");
            let mut page: Value = serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("JSON");
            assert!(page["next_cursor"].is_null(), "{list}: more rows than a page");
            for row in page["items"].as_array_mut().expect("items") {
                row.as_object_mut().expect("a row").retain(|field, _| field != "used_at" && field != "balance");
            }
            rows.insert(list, page["items"].take());
        }
        rows
    }

    /// The files that spreadsheets open: what strangers wrote is never a formula in them (OWASP, CSV injection).
    async fn tables_have_no_formulas(&self) {
        let mut seen = 0;
        for file in ["audit-events/export?format=csv", "usage/export?format=csv", "reports/usage?by=model&format=csv"] {
            let url = format!("{}/api/v1/{file}", self.world.base());
            let answer = self.client.get(url).header(AUTHORIZATION, bearer()).send().await.expect("an answer");
            let bytes = answer.bytes().await.expect("a whole file");
            for row in csv::Reader::from_reader(&bytes[..]).records() {
                for cell in &row.expect("a row") {
                    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
                    let number = cell.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
                    assert!(!formula || number, "{file}: {cell}");
                    seen += usize::from(cell == format!("'{FORMULA_AGENT}"));
                }
            }
        }
        assert!(seen > 0, "what the client calls itself is in the audit log");
    }
}

/// An answer has the headers that it always has, once each, and nothing of the attack in them.
#[track_caller]
fn check_headers(headers: &HeaderMap, told: &str) {
    for name in headers.keys() {
        assert!(HEADERS.contains(&name.as_str()), "{told}: {name}");
        assert_eq!(headers.get_all(name).iter().count(), 1, "{told}: {name} twice");
    }
    let values: Vec<_> = headers.values().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    assert!(!values.iter().any(|value| value.contains("injected")), "{told}: {headers:?}");
}

/// Bytes that no header may have end the request, and the connection, with 400.
async fn refuses_broken_headers(world: &World) {
    for name in ["authorization", "idempotency-key", "if-match", "x-request-id", "cookie", "last-event-id"] {
        for broken in ["a\rx-injected: yes", "a\0b", "a\u{b}b"] {
            let mut socket = TcpStream::connect(world.server.address()).await.expect("it listens");
            let request = format!("GET /api/v1/tenants HTTP/1.1\r\nhost: cfr.example\r\n{name}: {broken}\r\n\r\n");
            socket.write_all(request.as_bytes()).await.expect("it reads");
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.expect("it ends the connection");
            assert!(answer.starts_with("HTTP/1.1 400 "), "{name} {broken:?}: {answer}");
            assert!(!answer.contains("x-injected"), "{name} {broken:?}: {answer}");
        }
    }
}

/// Puts a text where the pointer says, and makes what is missing on the way.
fn plant(body: &mut Value, place: &str, text: &str) {
    let mut here = body;
    for step in place.split('/').skip(1) {
        here = match step {
            "0" => {
                *here = json!([null]);
                &mut here[0]
            }
            field if here.is_object() || here.is_null() => &mut here[field],
            _ => return, // the sample chose another variant
        };
    }
    *here = json!(text);
}

fn count(rows: &BTreeMap<&'static str, Value>) -> usize {
    rows.values().filter_map(Value::as_array).map(Vec::len).sum()
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn bearer() -> String {
    format!("Bearer {ADMIN_KEY}")
}

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default(); // an error says that there is one already
    let agent = HeaderMap::from_iter([(USER_AGENT, HeaderValue::from_static(FORMULA_AGENT))]);
    reqwest::Client::builder().no_proxy().default_headers(agent).build().expect("a client")
}
