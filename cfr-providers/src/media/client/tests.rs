//! Against a real server on loopback, which these tests alone may reach, and names that say what a test wants.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PRIVATE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and so on";

fn is_here(address: IpAddr) -> bool {
    address == HERE
}

/// Answers each question with the next of these, and the last one for ever.
#[derive(Debug)]
struct Told {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

#[async_trait]
impl Names for Told {
    async fn addresses(&self, _: &str) -> Vec<IpAddr> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().expect("not poisoned");
        if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }.unwrap_or_default()
    }
}

fn told(answers: &[&[IpAddr]]) -> Arc<Told> {
    let answers = answers.iter().map(|answer| answer.to_vec()).collect();
    Arc::new(Told { answers: Mutex::new(answers), asked: AtomicUsize::new(0) })
}

/// A server that answers each path in its own way, until it is dropped.
struct Host {
    port: u16,
    hits: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Host {
    async fn start() -> Self {
        let listener = TcpListener::bind((HERE, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (hits, mut serving) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        let counted = Arc::clone(&hits);
        serving.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                open.spawn(answer(stream, port));
            }
        });
        Self { port, hits, _serving: serving }
    }

    fn url(&self, path: &str) -> String {
        format!("http://pictures.example:{}{path}", self.port)
    }

    async fn fetch_with(&self, names: Arc<Told>, path: &str, kind: MediaKind) -> Result<Media, FetchError> {
        let client = MediaClient::over(MediaRules { http: true, hosts: Vec::new() }, is_here, names);
        client.fetch(&Wanted { kind, address: self.url(path) }).await
    }

    async fn picture(&self, path: &str) -> Result<Media, FetchError> {
        self.fetch_with(told(&[&[HERE]]), path, MediaKind::Image).await
    }
}

async fn answer(mut stream: TcpStream, port: u16) {
    let mut request = vec![0; 4_096];
    let read = stream.read(&mut request).await.expect("a request");
    let request = String::from_utf8_lossy(&request[..read]).to_ascii_lowercase();
    assert!(request.contains("accept-encoding: identity") && !request.contains("authorization"), "{request}");
    let path = request.split(' ').nth(1).expect("a path").to_owned();
    let whole = |kind: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let sent_to = |to: &str| format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes();
    let bytes = match path.as_str() {
        "/picture" => whole("image/png", PNG),
        "/bytes" => whole("application/octet-stream", PNG),
        "/pdf" => whole("application/pdf", b"%PDF-1.7"),
        "/page" => whole("text/html", PNG),
        "/lies" => whole("image/png", b"<html>"),
        "/moved" => sent_to("/picture"),
        "/round" => sent_to("/round"),
        "/inside" => sent_to(&format!("http://127.0.0.2:{port}/picture")),
        "/inside-v6" => sent_to("http://[::ffff:127.0.0.1]/"),
        "/file" => sent_to("file:///etc/passwd"),
        "/user" => sent_to("http://a:b@pictures.example/"),
        "/nowhere" => b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
        "/large" => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", MEDIA_BYTES_MAX + 1).into_bytes(),
        "/endless" => return endless(stream).await,
        "/drip" => return drip(stream).await,
        _ => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
    };
    stream.write_all(&bytes).await.expect("written");
}

/// More than is taken, without a word about how much it is.
async fn endless(mut stream: TcpStream) {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\nconnection: close\r\n\r\n";
    stream.write_all(head).await.expect("written");
    let chunk = vec![b'x'; 1024 * 1024];
    while stream.write_all(&chunk).await.is_ok() {} // until the reader has had enough
}

/// A byte now and then, for ever.
async fn drip(mut stream: TcpStream) {
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n\r\n").await.expect("written");
    while stream.write_all(b"x").await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn pictures_and_documents_are_fetched_and_told_by_their_bytes() {
    let host = Host::start().await;
    for path in ["/picture", "/bytes", "/moved"] {
        let media = host.picture(path).await.expect("a picture");
        assert_eq!((media.media_type, media.bytes.as_ref()), ("image/png", PNG), "{path}");
    }
    let media = host.fetch_with(told(&[&[HERE]]), "/pdf", MediaKind::Pdf).await.expect("a document");
    assert_eq!(media.media_type, "application/pdf");
}

#[tokio::test]
async fn what_is_something_else_is_refused() {
    let host = Host::start().await;
    for path in ["/page", "/lies", "/pdf"] {
        assert_eq!(host.picture(path).await, Err(FetchError::Kind(MediaKind::Image)), "{path}");
    }
    assert_eq!(host.picture("/missing").await, Err(FetchError::Status(404)));
}

#[tokio::test]
async fn redirects_pass_the_same_checks() {
    let host = Host::start().await;
    for (path, expected) in [
        ("/inside", FetchError::NotPublic),
        ("/inside-v6", FetchError::NotPublic),
        ("/file", FetchError::Scheme("an https or http address")),
        ("/user", FetchError::Scheme("an https or http address")),
        ("/nowhere", FetchError::Redirects),
    ] {
        assert_eq!(host.picture(path).await, Err(expected), "{path}");
    }
    let before = host.hits.load(Ordering::SeqCst);
    assert_eq!(host.picture("/round").await, Err(FetchError::Redirects));
    assert_eq!(host.hits.load(Ordering::SeqCst) - before, REDIRECTS_MAX + 1);
}

#[tokio::test]
async fn a_name_that_is_also_here_or_is_nowhere_is_not_connected_to() {
    let host = Host::start().await;
    for answer in [&[PRIVATE][..], &[HERE, PRIVATE], &[]] {
        let refused = host.fetch_with(told(&[answer]), "/picture", MediaKind::Image).await;
        assert_eq!(refused, Err(FetchError::NotPublic), "{answer:?}");
    }
    assert_eq!(host.hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_asked_once_per_connection_and_checked_each_time() {
    let host = Host::start().await;
    let names = told(&[&[HERE], &[PRIVATE]]);
    host.fetch_with(Arc::clone(&names), "/picture", MediaKind::Image).await.expect("from what was checked");
    assert_eq!(names.asked.load(Ordering::SeqCst), 1);
    let refused = host.fetch_with(told(&[&[HERE], &[PRIVATE]]), "/moved", MediaKind::Image).await;
    assert_eq!(refused, Err(FetchError::NotPublic), "the second connection is to another address");
}

#[tokio::test]
async fn sizes_are_limited_whether_they_are_told_or_not() {
    let host = Host::start().await;
    for path in ["/large", "/endless"] {
        assert_eq!(host.picture(path).await, Err(FetchError::TooLarge(MEDIA_BYTES_MAX)), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_drip_is_not_waited_for() {
    let host = Host::start().await;
    assert_eq!(host.picture("/drip").await, Err(FetchError::TooSlow(FETCH_TIMEOUT)));
}

#[tokio::test]
async fn only_what_the_operator_allows_is_fetched() {
    let refused = async |rules: MediaRules, address: &str| {
        let client = MediaClient::new(rules);
        let wanted = Wanted { kind: MediaKind::Image, address: address.to_owned() };
        client.fetch(&wanted).await.expect_err("refused")
    };
    let https = FetchError::Scheme("an https address");
    for address in ["http://example.org/a.png", "ftp://example.org/", "data:,x", "no address", "https://u@example.org/"]
    {
        assert_eq!(refused(MediaRules::default(), address).await, https, "{address}");
    }
    let open = || MediaRules { http: true, hosts: Vec::new() };
    for address in
        ["http://127.0.0.1/", "http://2130706433/", "http://0x7f.1/", "http://[::1]/", "http://169.254.169.254/"]
    {
        assert_eq!(refused(open(), address).await, FetchError::NotPublic, "{address}");
    }
    assert_eq!(refused(open(), "http://localhost/").await, FetchError::NotPublic);
    let named = || MediaRules { hosts: vec!["cdn.example".into(), "*.images.example".into()], ..MediaRules::default() };
    for address in
        ["https://example.org/", "https://images.example/", "https://evilimages.example/", "https://1.1.1.1/"]
    {
        assert_eq!(refused(named(), address).await, FetchError::Host, "{address}");
    }
}

#[test]
fn hosts_are_named_alone_or_with_all_below_them() {
    assert!(covers("cdn.example", "cdn.example") && covers("CDN.example", "cdn.example"));
    assert!(covers("*.example", "a.example") && covers("*.Example", "a.b.example"));
    assert!(!covers("*.example", "example") && !covers("*.example", "badexample") && !covers("*.example", ".example"));
}
