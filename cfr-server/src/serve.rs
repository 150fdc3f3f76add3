//! Listens, serves connections, and drains.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use http::Extensions;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tower::util::MapRequest;

mod proxies;

pub use proxies::Proxies;

/// A client that takes longer to send its next request head is cut off; the pause before it counts. Longer than clients
/// keep idle connections, so that they do not send into one that is being closed.
const HEAD_READ_TIMEOUT: Duration = Duration::from_secs(75);
/// Connections at the same time; more wait in the system's queue. Each may hold a body, and each running call needs a
/// second file descriptor towards its provider.
const CONNECTIONS_MAX: usize = 10_000;
/// How often a silent HTTP/2 client is asked whether it is still there.
const H2_PING_INTERVAL: Duration = Duration::from_secs(30);
/// Pause after an accept that failed for lack of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Streams of one HTTP/2 connection at the same time.
const H2_STREAMS_MAX: u32 = 1_000;

/// Opens the listening socket.
///
/// # Errors
/// One line that names the address, when it is taken or not ours.
pub async fn listen(address: &str) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { address: address.into(), source })
}

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}", why(.source))]
pub struct ListenError {
    address: Box<str>,
    source: io::Error,
}

fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is taken by another process (choose another with --listen)".into(),
        io::ErrorKind::PermissionDenied => "not permitted; ports below 1024 need privileges".into(),
        io::ErrorKind::InvalidInput => "not an address and a port, as in 127.0.0.1:4000".into(),
        _ => error.to_string(),
    }
}

/// Serves connections until `stop`, then finishes the calls that run, for at most `drain`.
/// Returns how many connections were cut off at the end of that time.
///
/// # Cancel safety
/// Dropping the future cuts every connection off.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken, drain: Duration) -> usize {
    serve_within(Limits::DEFAULT, listener, router, stop, drain).await
}

/// What goes on over a connection after its HTTP has ended: a WebSocket. It counts as the connection that it was, and is
/// waited for at the end.
#[derive(Debug, Clone)]
pub struct Lasting {
    stop: CancellationToken,
    kill: CancellationToken,
    _running: TaskTrackerToken,
    _place: Arc<OwnedSemaphorePermit>,
}

impl Lasting {
    /// Runs until its own end, which it hurries to when the token that it gets is cancelled; cut off when the time to drain
    /// is over.
    pub async fn run<F: Future<Output = ()>>(self, work: impl FnOnce(CancellationToken) -> F) {
        let cut_off = self.kill.run_until_cancelled(work(self.stop.clone())).await.is_none();
        if cut_off {
            tracing::debug!("a WebSocket was cut off");
        }
    }
}

/// What one client may take from the others.
#[derive(Debug, Clone, Copy)]
struct Limits {
    connections_max: usize,
    head_timeout: Duration,
}

impl Limits {
    const DEFAULT: Self = Self { connections_max: CONNECTIONS_MAX, head_timeout: HEAD_READ_TIMEOUT };
}

async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    drain: Duration,
) -> usize {
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let connections = TaskTracker::new();
    let kill = CancellationToken::new();
    let _cut_all = kill.clone().drop_guard();
    let server = builder(limits.head_timeout);
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((socket, peer, place)) => {
                let kill = kill.clone();
                let (running, place) = (connections.token(), Arc::new(place));
                let lasting = Lasting { stop: stop.clone(), kill: kill.clone(), _running: running, _place: place };
                let connection = converse(server.clone(), limits.head_timeout, socket, peer, router.clone(), lasting);
                connections.spawn(async move { kill.run_until_cancelled(connection).await });
            }
            Err(error) => pause_after(&error).await,
        }
    }
    drop(listener);
    connections.close();
    let drained = tokio::time::timeout(drain, connections.wait()).await;
    let cut_off = if drained.is_ok() { 0 } else { connections.len() };
    kill.cancel();
    connections.wait().await; // a dropped answer settles its hold: nobody may close the books before that
    cut_off
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (socket, peer) = listener.accept().await?;
    Ok((socket, peer, place))
}

fn builder(head_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(head_timeout);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .keep_alive_interval(H2_PING_INTERVAL);
    server
}

/// Who sends a request: the client, or a proxy in front of us that nobody told us to [look through](Proxies).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// The network that an address is in, as far as one customer of a provider goes: an IPv4 address alone, half an IPv6 one.
#[must_use]
pub fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
    }
}

/// The address that a request comes from; none where it came over no connection.
#[must_use]
pub fn address(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<Peer>().map(|peer| peer.0)
}

/// One connection from its first request to its last.
async fn converse(
    server: auto::Builder<TokioExecutor>,
    head_timeout: Duration,
    socket: TcpStream,
    peer: SocketAddr,
    router: Router,
    lasting: Lasting,
) {
    // Without it, an answer on a busy connection waits for the client's delayed acknowledgement: 40 ms.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot switch off Nagle's algorithm");
    }
    let (stop, asked) = (lasting.stop.clone(), Arc::new(AtomicBool::new(false)));
    let service = MapRequest::new(router, {
        let asked = Arc::clone(&asked);
        let peer = Peer(peer.ip());
        move |mut request: http::Request<_>| {
            asked.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(lasting.clone());
            request
        }
    });
    let connection = server.serve_connection_with_upgrades(TokioIo::new(socket), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = nothing_asked(&asked, head_timeout) => Ok(()),
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "connection ended early");
    }
}

/// Ends when a client has asked for nothing in all of its first `timeout`: the server knows whether it speaks HTTP/1
/// or 2, and so which of its own timeouts holds, only after the first bytes.
async fn nothing_asked(asked: &AtomicBool, timeout: Duration) {
    tokio::time::sleep(timeout).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}

async fn pause_after(error: &io::Error) {
    let gone = matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset);
    if !gone {
        tracing::error!(%error, "cannot accept connections");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Ctrl-C and SIGTERM, watched from the moment of its making: one that comes before somebody waits is not lost.
#[derive(Debug)]
pub struct StopSignals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl StopSignals {
    /// Watches from now on; the signals no longer end the process by themselves.
    ///
    /// # Errors
    /// When the system does not let us watch.
    pub fn watch() -> io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinSet;

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    const ANSWER: &[u8] = b"here";

    /// A server that answers `/`, until the set is dropped.
    async fn server(limits: Limits) -> (SocketAddr, JoinSet<usize>) {
        let listener = listen("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().route("/", get(async || ANSWER));
        let mut running = JoinSet::new();
        running.spawn(serve_within(limits, listener, router, CancellationToken::new(), Duration::ZERO));
        (address, running)
    }

    #[tokio::test]
    async fn a_client_that_asks_for_nothing_is_cut_off() {
        let limits = Limits { head_timeout: Duration::from_millis(50), ..Limits::DEFAULT };
        let (address, _running) = server(limits).await;
        for beginning in [&b""[..], b"PRI * HT", b"GET / HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let mut socket = TcpStream::connect(address).await.expect("a connection");
            socket.write_all(beginning).await.expect("sent");
            let mut rest = Vec::new();
            socket.read_to_end(&mut rest).await.expect("the server closes it");
        }
    }

    #[tokio::test]
    async fn a_connection_too_many_waits_for_a_place() {
        let (address, _running) = server(Limits { connections_max: 1, ..Limits::DEFAULT }).await;
        let mut first = TcpStream::connect(address).await.expect("a connection");
        ask(&mut first).await;
        let mut second = TcpStream::connect(address).await.expect("the system's queue takes it");
        second.write_all(REQUEST).await.expect("sent");
        ask(&mut first).await;
        assert_eq!(second.try_read(&mut [0]).expect_err("nobody reads it").kind(), io::ErrorKind::WouldBlock);
        drop(first);
        answered(&mut second).await;
    }

    async fn ask(socket: &mut TcpStream) {
        socket.write_all(REQUEST).await.expect("sent");
        answered(socket).await;
    }

    async fn answered(socket: &mut TcpStream) {
        let mut answer = Vec::new();
        while !answer.ends_with(ANSWER) {
            assert_ne!(socket.read_buf(&mut answer).await.expect("an answer"), 0);
        }
    }
}
