//! The floors are proxies that work: what they pass on is what the mock provider said.
#![expect(clippy::expect_used, reason = "a test that cannot be set up fails")]

use bytes::Bytes;
use cfr_benches::body::{Wish, chat};
use cfr_benches::floor::{Depth, Floor};
use cfr_benches::load::{Plan, run};
use cfr_benches::{mock, serve};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A mock provider and a floor before it. They end with the set.
async fn floor(depth: Depth) -> (JoinSet<std::io::Result<()>>, SocketAddr, SocketAddr) {
    let mut servers = JoinSet::new();
    let provider = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let provider_address = provider.local_addr().expect("bound");
    servers.spawn(serve::serve(provider, mock::answer));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let proxy = Floor::new(depth, &provider_address.to_string()).expect("an address");
    servers.spawn(serve::serve(listener, move |request| proxy.clone().pass(request)));
    (servers, provider_address, address)
}

async fn post(target: SocketAddr, body: &str) -> Bytes {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let request = Request::post(format!("http://{target}/v1/chat/completions"))
        .body(Full::from(body.to_owned()))
        .expect("a request");
    let response = client.request(request).await.expect("an answer");
    assert_eq!(response.status(), 200);
    response.into_body().collect().await.expect("a whole answer").to_bytes()
}

#[tokio::test]
async fn every_floor_passes_answers_and_streams_on() {
    for depth in Depth::ALL {
        let (_servers, provider, address) = floor(depth).await;
        for wish in [Wish::default(), Wish { delay_ms: 0, chunks: 50 }] {
            let body = chat(4_000, wish).expect("JSON");
            let direct = post(provider, &body).await;
            let passed = post(address, &body).await;
            if depth == Depth::Json {
                assert_eq!(events(&passed), events(&direct), "{}", depth.name());
            } else {
                assert_eq!(passed, direct, "{}", depth.name());
            }
        }
    }
}

/// Field order is the one thing that a rebuilt body may change.
fn events(body: &[u8]) -> Vec<serde_json::Value> {
    let text = std::str::from_utf8(body).expect("UTF-8");
    let values = text.lines().map(|line| line.strip_prefix("data: ").unwrap_or(line));
    values.filter(|line| !line.is_empty() && *line != "[DONE]").map(|line| line.parse().expect("JSON")).collect()
}

#[tokio::test]
async fn the_load_counts_complete_answers_and_keeps_the_first_failure() {
    let (_servers, _, address) = floor(Depth::Raw).await;
    let plan = Plan {
        target: address,
        key: "none".into(),
        connections: 4,
        run_ms: 200,
        body_bytes: 1_000,
        pause_ms: 0,
        wish: Wish { delay_ms: 1, chunks: 3 },
    };
    let report = run(&plan).await.expect("a run");
    assert!(report.answers >= 4 && report.failures == 0, "{report:?}");
    assert!(report.first_byte.p50_us <= report.whole.p50_us && report.whole.p50_us >= 1_000, "{report:?}");
    assert!(report.per_second() > 0);
}
