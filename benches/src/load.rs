//! The client side: a number of connections that each send the next request when the answer to the last one is complete.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use cfr_core::time::{Clock, SystemClock};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Failure;
use crate::body::{Wish, chat};

/// What to send.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Where to.
    pub target: SocketAddr,
    /// The bearer key; targets without keys do not look at it.
    pub key: String,
    /// Connections, each with one request at a time.
    pub connections: u32,
    /// For how long, in milliseconds. Requests that are under way at the end are completed and counted.
    pub run_ms: u64,
    /// Size of a request.
    pub body_bytes: usize,
    /// The time between two requests of a connection; zero sends the next at once.
    pub pause_ms: u64,
    /// How the provider shall answer.
    pub wish: Wish,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// Complete answers with status 200.
    pub answers: u64,
    /// Everything else.
    pub failures: u64,
    /// What the first failure was.
    pub first_failure: Option<String>,
    /// From the first request to the last answer.
    pub elapsed_us: u64,
    /// Time to the complete answer, by percentile.
    pub whole: Percentiles,
    /// Time to the first byte of the answer's body, by percentile.
    pub first_byte: Percentiles,
}

/// A sorted sample at its telling places, in microseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of the requests took at most this.
    pub p50_us: u64,
    /// 99 of 100 took at most this.
    pub p99_us: u64,
}

impl Percentiles {
    fn of(mut sample: Vec<u64>) -> Self {
        sample.sort_unstable();
        let at = |percent: usize| sample.get((sample.len() * percent / 100).min(sample.len().saturating_sub(1)));
        Self { p50_us: at(50).copied().unwrap_or(0), p99_us: at(99).copied().unwrap_or(0) }
    }
}

impl Report {
    /// Answers per second.
    #[must_use]
    pub fn per_second(&self) -> u64 {
        self.answers.saturating_mul(1_000_000).checked_div(self.elapsed_us).unwrap_or(0)
    }
}

/// The times of one connection.
#[derive(Default)]
struct Sample {
    whole_us: Vec<u64>,
    first_byte_us: Vec<u64>,
    failures: Vec<String>,
}

/// Runs a plan.
///
/// # Errors
/// When a connection cannot be made. A request that fails is counted instead.
pub async fn run(plan: &Plan) -> Result<Report, Failure> {
    let clock = std::sync::Arc::new(SystemClock::new());
    let body = Bytes::from(chat(plan.body_bytes, plan.wish)?);
    let mut connections = JoinSet::new();
    for number in 0..plan.connections {
        let (plan, body, clock) = (plan.clone(), body.clone(), clock.clone());
        connections.spawn(async move { drive(&plan, number, body, &*clock).await });
    }
    let mut all = Sample::default();
    while let Some(sample) = connections.join_next().await {
        let sample = sample??;
        all.whole_us.extend(sample.whole_us);
        all.first_byte_us.extend(sample.first_byte_us);
        all.failures.extend(sample.failures);
    }
    Ok(Report {
        answers: all.whole_us.len() as u64,
        failures: all.failures.len() as u64,
        first_failure: all.failures.into_iter().next(),
        elapsed_us: micros(clock.uptime()),
        whole: Percentiles::of(all.whole_us),
        first_byte: Percentiles::of(all.first_byte_us),
    })
}

/// One connection, until the plan's time is over.
async fn drive(plan: &Plan, number: u32, body: Bytes, clock: &dyn Clock) -> Result<Sample, Failure> {
    let mut connection = Connection::open(plan).await?;
    let mut sample = Sample::default();
    let end = Duration::from_millis(plan.run_ms);
    let mut next = Duration::from_millis(plan.pause_ms) * number / plan.connections.max(1);
    while clock.uptime() < end {
        if plan.pause_ms > 0 {
            tokio::time::sleep(next.saturating_sub(clock.uptime())).await;
            next += Duration::from_millis(plan.pause_ms);
        }
        match connection.exchange(plan, body.clone(), clock).await {
            Ok((first_byte_us, whole_us)) => {
                sample.first_byte_us.push(first_byte_us);
                sample.whole_us.push(whole_us);
            }
            Err(failure) => {
                sample.failures.push(failure.to_string());
                connection = Connection::open(plan).await?;
            }
        }
    }
    Ok(sample)
}

/// One keep-alive connection; its driver ends with it.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: JoinSet<Result<(), hyper::Error>>,
}

impl Connection {
    async fn open(plan: &Plan) -> Result<Self, Failure> {
        let socket = TcpStream::connect(plan.target).await?;
        socket.set_nodelay(true)?;
        let (sender, driver) = handshake(TokioIo::new(socket)).await?;
        let mut drivers = JoinSet::new();
        drivers.spawn(driver);
        Ok(Self { sender, _driver: drivers })
    }

    /// Sends one request and reads the whole answer: the time to its first byte and to its last, in microseconds.
    async fn exchange(&mut self, plan: &Plan, body: Bytes, clock: &dyn Clock) -> Result<(u64, u64), Failure> {
        let request = Request::post("/v1/chat/completions")
            .header(HOST, "bench")
            .header(AUTHORIZATION, format!("Bearer {}", plan.key))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let start = clock.uptime();
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let mut body = response.into_body();
        let mut first_byte = None;
        let mut tail = Tail::default();
        while let Some(frame) = body.frame().await {
            first_byte.get_or_insert_with(|| clock.uptime());
            if let Some(data) = frame?.data_ref() {
                tail.push(data);
            }
        }
        let end = clock.uptime();
        if status != 200 || (plan.wish.chunks > 0 && !tail.ends_with(STREAM_END)) {
            return Err(format!("status {status}, an answer that ends in {:?}", tail.text()).into());
        }
        Ok((micros(first_byte.unwrap_or(end).saturating_sub(start)), micros(end.saturating_sub(start))))
    }
}

const STREAM_END: &[u8] = b"data: [DONE]\n\n";
/// What is kept of an answer to judge its end.
const TAIL_BYTES: usize = 200;

/// The last bytes of an answer.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn push(&mut self, data: &[u8]) {
        self.0.extend_from_slice(&data[data.len().saturating_sub(TAIL_BYTES)..]);
        let surplus = self.0.len().saturating_sub(TAIL_BYTES);
        self.0.drain(..surplus);
    }

    fn ends_with(&self, end: &[u8]) -> bool {
        self.0.ends_with(end)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_name_a_value_of_the_sample() {
        let of = Percentiles::of((1..=200).rev().collect());
        assert_eq!((of.p50_us, of.p99_us), (101, 199));
        let empty = Percentiles::of(Vec::new());
        assert_eq!((empty.p50_us, empty.p99_us), (0, 0));
    }

    #[test]
    fn the_tail_of_an_answer_survives_any_cut() {
        let mut tail = Tail::default();
        for piece in [&[b'x'; 1_000][..], b"data: [DO", b"NE]\n", b"\n"] {
            tail.push(piece);
        }
        assert!(tail.ends_with(STREAM_END) && tail.0.len() == TAIL_BYTES);
    }
}
