//! The proxy does to a connection what it was told, and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cfr_testbed::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Longer than anything takes on the loopback.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that sends everything back, and counts what it got.
struct Echo {
    port: u16,
    received: Arc<AtomicUsize>,
    _server: JoinSet<()>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let received = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&received);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(echo(stream, Arc::clone(&count)));
            }
        });
        Self { port, received, _server: server }
    }

    async fn proxy(&self) -> Proxy {
        Proxy::start(([127, 0, 0, 1], self.port).into()).await
    }

    async fn has_received(&self, bytes: usize) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while self.received.load(Ordering::Relaxed) < bytes {
                tokio::task::yield_now().await;
            }
        });
        waited.await.expect("the server gets what was forwarded");
        assert_eq!(self.received.load(Ordering::Relaxed), bytes);
    }
}

async fn echo(mut stream: TcpStream, count: Arc<AtomicUsize>) {
    let mut buffer = [0; 1024];
    while let Ok(bytes @ 1..) = stream.read(&mut buffer).await {
        count.fetch_add(bytes, Ordering::Relaxed);
        if stream.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
    }
}

/// Sends a text and waits for it to come back.
async fn round(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    stream.write_all(text.as_bytes()).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    assert_eq!(answer, text.as_bytes());
    Ok(())
}

/// A new connection for one round.
async fn visit(proxy: &Proxy, text: &str) -> std::io::Result<()> {
    round(&mut TcpStream::connect(proxy.address()).await?, text).await
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

#[tokio::test]
async fn what_is_sent_arrives_and_comes_back() {
    let server = Echo::start().await;
    let proxy = server.proxy().await;
    let mut stream = connect(&proxy).await;
    round(&mut stream, "hello").await.unwrap();
    round(&mut stream, "again").await.unwrap();
}

#[tokio::test]
async fn a_cut_breaks_old_and_new_connections_until_it_is_healed() {
    let server = Echo::start().await;
    let proxy = server.proxy().await;
    let mut old = connect(&proxy).await;
    round(&mut old, "hello").await.unwrap();
    proxy.cut();
    assert!(round(&mut old, "lost").await.is_err());
    assert!(visit(&proxy, "lost").await.is_err());
    proxy.heal();
    visit(&proxy, "hello").await.unwrap();
}

#[tokio::test]
async fn a_reset_breaks_only_what_is_there() {
    let server = Echo::start().await;
    let proxy = server.proxy().await;
    let mut old = connect(&proxy).await;
    round(&mut old, "hello").await.unwrap();
    proxy.reset();
    assert!(round(&mut old, "lost").await.is_err());
    visit(&proxy, "hello").await.unwrap();
}

#[tokio::test]
async fn a_stalled_network_forwards_nothing_and_loses_nothing() {
    let server = Echo::start().await;
    let proxy = server.proxy().await;
    let mut stream = connect(&proxy).await;
    round(&mut stream, "hello").await.unwrap();
    proxy.stall();
    let waiting = tokio::time::timeout(Duration::from_millis(50), round(&mut stream, "held")).await;
    assert!(waiting.is_err(), "nothing comes back");
    server.has_received(5).await;
    proxy.heal();
    let mut answer = [0; 4];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"held");
}

#[tokio::test]
async fn a_delay_holds_both_directions_back() {
    let server = Echo::start().await;
    let proxy = server.proxy().await;
    let mut stream = connect(&proxy).await;
    proxy.delay(Duration::from_millis(60));
    let early = tokio::time::timeout(Duration::from_millis(100), round(&mut stream, "slow")).await;
    assert!(early.is_err(), "there and back takes two delays");
}

#[tokio::test]
async fn a_connection_is_cut_in_the_middle_of_a_message_once() {
    let server = Echo::start().await;
    let proxy = server.proxy().await;
    let mut stream = connect(&proxy).await;
    round(&mut stream, "hello").await.unwrap();
    proxy.cut_after(7);
    round(&mut stream, "one").await.unwrap();
    assert!(round(&mut stream, "two, three").await.is_err());
    assert!(!proxy.is_armed());
    server.has_received(5 + 7).await;
    visit(&proxy, "hello").await.unwrap();
}

#[tokio::test]
async fn an_answer_is_lost_after_the_server_heard_the_question() {
    let server = Echo::start().await;
    let proxy = server.proxy().await;
    let mut stream = connect(&proxy).await;
    proxy.lose_answer_to(b"COMMIT");
    round(&mut stream, "BEGIN").await.unwrap();
    assert!(round(&mut stream, "now COMMIT").await.is_err());
    server.has_received(15).await;
    visit(&proxy, "COMMIT").await.expect("only once");
}
