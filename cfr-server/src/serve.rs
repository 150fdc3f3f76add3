//! Listens, serves connections, and drains.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A client that takes longer to send its next request head is cut off; the pause before it counts. Longer than clients
/// keep idle connections, so that they do not send into one that is being closed.
const HEAD_READ_TIMEOUT: Duration = Duration::from_secs(75);
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
    let connections = TaskTracker::new();
    let kill = CancellationToken::new();
    let _cut_all = kill.clone().drop_guard();
    let server = builder();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                let connection = converse(server.clone(), socket, peer, router.clone(), stop.clone());
                let kill = kill.clone();
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

fn builder() -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_READ_TIMEOUT);
    server.http2().timer(TokioTimer::new()).max_concurrent_streams(H2_STREAMS_MAX);
    server
}

/// One connection from its first request to its last.
async fn converse(
    server: auto::Builder<TokioExecutor>,
    socket: TcpStream,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
) {
    // Without it, an answer on a busy connection waits for the client's delayed acknowledgement: 40 ms.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot switch off Nagle's algorithm");
    }
    let connection = server.serve_connection(TokioIo::new(socket), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "connection ended early");
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
