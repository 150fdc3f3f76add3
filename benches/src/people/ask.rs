//! One connection that asks one question after the other, and what the answers took.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use cfr_core::time::{Clock as _, SystemClock};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Failure;

/// A question is asked this often, unless that takes longer than [`ASKING_MAX`].
const ASKED_MAX: u64 = 200;
/// But at least this often.
const ASKED_MIN: u64 = 5;
/// After this long a question is not asked again.
const ASKING_MAX: Duration = Duration::from_secs(4);

/// A client with a key.
#[derive(Debug)]
pub struct Asker {
    sender: SendRequest<Full<Bytes>>,
    key: String,
    clock: SystemClock,
    _driver: JoinSet<Result<(), hyper::Error>>,
}

/// How long answers took, and how long they were.
#[derive(Debug)]
pub struct Measured {
    /// Until the first byte of the body, in microseconds, sorted.
    pub first_byte_us: Vec<u64>,
    /// Until the last one, in microseconds, sorted.
    pub whole_us: Vec<u64>,
    /// Bytes of the last answer.
    pub bytes: u64,
}

impl Measured {
    /// What this many percent of the answers took at most, whole, in microseconds.
    #[must_use]
    pub fn whole(&self, percent: usize) -> u64 {
        percentile(&self.whole_us, percent)
    }

    /// What this many percent of the answers took at most until their first byte, in microseconds.
    #[must_use]
    pub fn first_byte(&self, percent: usize) -> u64 {
        percentile(&self.first_byte_us, percent)
    }
}

fn percentile(sorted: &[u64], percent: usize) -> u64 {
    sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or(0)
}

impl Asker {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(address: SocketAddr, key: &str) -> Result<Self, Failure> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let (sender, driver) = handshake(TokioIo::new(socket)).await?;
        let mut drivers = JoinSet::new();
        drivers.spawn(driver);
        Ok(Self { sender, key: key.to_owned(), clock: SystemClock::new(), _driver: drivers })
    }

    /// Sends JSON to make something, and returns it.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn create(&mut self, path: &str, body: Value) -> Result<Value, Failure> {
        let mut answer = Vec::new();
        self.exchange(Method::POST, path, body.to_string().into(), |data| answer.extend_from_slice(data)).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Asks a question again and again, `path` saying how it is asked the n-th time.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn measure(&mut self, path: fn(u64) -> String) -> Result<Measured, Failure> {
        self.ask(&path(0)).await?; // warm
        let (mut first_byte_us, mut whole_us, mut bytes) = (Vec::new(), Vec::new(), 0);
        let end = self.clock.uptime() + ASKING_MAX;
        for round in 1..=ASKED_MAX {
            let answer = self.ask(&path(round)).await?;
            first_byte_us.push(micros(answer.first_byte));
            whole_us.push(micros(answer.whole));
            bytes = answer.bytes;
            if round >= ASKED_MIN && self.clock.uptime() > end {
                break;
            }
        }
        first_byte_us.sort_unstable();
        whole_us.sort_unstable();
        Ok(Measured { first_byte_us, whole_us, bytes })
    }

    /// Asks once.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn ask(&mut self, path: &str) -> Result<Took, Failure> {
        self.exchange(Method::GET, path, Bytes::new(), |_| ()).await
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        mut read: impl FnMut(&[u8]),
    ) -> Result<Took, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "bench")
            .header(AUTHORIZATION, format!("Bearer {}", self.key))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let start = self.clock.uptime();
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let (mut body, mut bytes, mut first_byte, mut refusal) = (response.into_body(), 0, None, Vec::new());
        while let Some(frame) = body.frame().await {
            first_byte.get_or_insert_with(|| self.clock.uptime());
            let frame = frame?;
            let data = frame.data_ref().map_or(&[][..], |data| data);
            bytes += data.len() as u64;
            if status.is_success() { read(data) } else { refusal.extend_from_slice(data) }
        }
        let end = self.clock.uptime();
        if !status.is_success() {
            return Err(format!("{path}: {status} {}", String::from_utf8_lossy(&refusal)).into());
        }
        Ok(Took {
            first_byte: first_byte.unwrap_or(end).saturating_sub(start),
            whole: end.saturating_sub(start),
            bytes,
        })
    }
}

/// What one answer took.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// Until the first byte of its body.
    pub first_byte: Duration,
    /// Until the last one.
    pub whole: Duration,
    /// How long the body is.
    pub bytes: u64,
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
