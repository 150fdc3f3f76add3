//! A server of keys and tokens, for tests of those who ask it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Response, StatusCode};

use crate::transport::{Body, Transport, TransportError, WireRequest};

/// Answers by the end of the path, refuses anything else, and keeps what it is asked.
#[derive(Debug)]
pub(crate) struct KeyServer {
    answers: &'static [(&'static str, &'static str)],
    asked: Mutex<Vec<WireRequest>>,
}

impl KeyServer {
    pub(crate) fn new(answers: &'static [(&'static str, &'static str)]) -> Arc<Self> {
        Arc::new(Self { answers, asked: Mutex::default() })
    }

    /// Method, address and body of each question.
    pub(crate) fn asked(&self) -> Vec<(String, String)> {
        let asked = self.asked.lock().expect("a lock");
        let told = asked.iter().map(|request| {
            let endpoint = &request.endpoint;
            (format!("{} {}", endpoint.method(), endpoint.uri()), String::from_utf8_lossy(&request.body).into_owned())
        });
        told.collect()
    }

    pub(crate) fn header(&self, question: usize, name: &str) -> Option<String> {
        let asked = self.asked.lock().expect("a lock");
        Some(asked[question].headers.get(name)?.to_str().expect("text").to_owned())
    }
}

#[async_trait]
impl Transport for KeyServer {
    async fn send(&self, request: WireRequest, _: Duration) -> Result<Response<Body>, TransportError> {
        let path = request.endpoint.uri().path().to_owned();
        self.asked.lock().expect("a lock").push(request);
        let answer = self.answers.iter().find(|(end, _)| path.ends_with(end));
        let body = Bytes::from_static(answer.map_or("no", |(_, body)| body).as_bytes());
        let mut response = Response::new(stream::iter([Ok(body)]).boxed() as Body);
        *response.status_mut() = if answer.is_some() { StatusCode::OK } else { StatusCode::FORBIDDEN };
        Ok(response)
    }
}
