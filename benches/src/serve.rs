//! The HTTP/1.1 server that the mock and the floors share.

use std::future::Future;
use std::io;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::Failure;

/// A body of one of several kinds.
pub type AnyBody = UnsyncBoxBody<Bytes, Failure>;

/// Hides which kind of body it is.
pub fn any<B>(body: B) -> AnyBody
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Failure>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// Answers requests until accepting fails. Dropping the future closes every connection.
///
/// # Errors
/// When the listener is gone.
pub async fn serve<H, F>(listener: TcpListener, handle: H) -> io::Result<()>
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<AnyBody>, Failure>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let service = service_fn(handle.clone());
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
        connections.spawn(connection);
        while connections.try_join_next().is_some() {} // a connection that broke is the client's to report
    }
}
