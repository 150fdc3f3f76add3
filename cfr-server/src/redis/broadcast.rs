//! Notices between replicas, over a channel of Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cfr_core::broadcast::{Broadcast, BroadcastError, NOTICES_MAX, Notice};
use futures_core::Stream;
use redis::aio::PubSub;
use redis::{AsyncCommands, RedisResult};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{Receiver, Sender};

use super::link::Link;

/// Pause before the channel is opened again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How often a silent channel is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(5);
/// How long the channel may take to open or to answer.
const CHANNEL_TIMEOUT: Duration = Duration::from_secs(1);

/// Carries notices over Redis. Its own process hears them at once, the others when Redis brings them.
#[derive(Debug)]
pub struct RedisBroadcast {
    link: Arc<Link>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    here: Sender<Notice>,
    connected: AtomicBool,
    /// Who we are: our own words come back to us.
    sender: u64,
    channel: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Message {
    from: u64,
    notice: Notice,
}

impl RedisBroadcast {
    pub(super) fn new(link: Arc<Link>) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let shared = Arc::new(Shared {
            here: Sender::new(NOTICES_MAX),
            connected: AtomicBool::new(false),
            sender: rand::random(),
            channel: link.key(format_args!("notices")),
        });
        let listener = listen(Arc::clone(&link), Arc::clone(&shared));
        (Self { link, shared }, listener)
    }
}

#[async_trait]
impl Broadcast for RedisBroadcast {
    async fn publish(&self, notice: Notice) -> Result<(), BroadcastError> {
        self.shared.tell(notice);
        let failed = |reason: &str| BroadcastError { reason: reason.into() };
        let message = serde_json::to_vec(&Message { from: self.shared.sender, notice });
        let message = message.map_err(|error| failed(&error.to_string()))?;
        let told: Option<()> =
            self.link.ask(async |connection| connection.publish(&self.shared.channel, message).await).await;
        told.ok_or_else(|| failed("redis is away"))
    }

    fn subscribe(&self) -> Receiver<Notice> {
        self.shared.here.subscribe()
    }

    fn is_connected(&self) -> bool {
        self.shared.connected.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn tell(&self, notice: Notice) {
        let _ = self.here.send(notice); // nobody listening is fine
    }

    /// Anything may have been missed.
    fn tell_everything(&self) {
        Notice::ALL.iter().for_each(|notice| self.tell(*notice));
    }

    fn hear(&self, payload: &[u8]) {
        match serde_json::from_slice(payload) {
            Ok(Message { from, .. }) if from == self.sender => {}
            Ok(Message { notice, .. }) => self.tell(notice),
            Err(_) => self.tell_everything(), // a newer replica knows more kinds
        }
    }
}

/// Listens for ever, and opens the channel again whenever it breaks.
async fn listen(link: Arc<Link>, shared: Arc<Shared>) {
    loop {
        let opened = tokio::time::timeout(CHANNEL_TIMEOUT, open(&link, &shared)).await;
        if let Ok(Ok(channel)) = opened {
            shared.connected.store(true, Ordering::Relaxed);
            shared.tell_everything();
            follow(channel, &shared).await;
            shared.connected.store(false, Ordering::Relaxed);
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn open(link: &Link, shared: &Shared) -> RedisResult<PubSub> {
    let mut channel = link.client.get_async_pubsub().await?;
    channel.subscribe(&shared.channel).await?;
    Ok(channel)
}

/// Hands notices on until the channel breaks, or falls silent for good.
async fn follow(channel: PubSub, shared: &Shared) {
    let (mut sink, stream) = channel.split();
    let mut stream = std::pin::pin!(stream);
    loop {
        let next = std::future::poll_fn(|context| stream.as_mut().poll_next(context));
        match tokio::time::timeout(PING_EVERY, next).await {
            Ok(Some(message)) => shared.hear(message.get_payload_bytes()),
            Ok(None) => return,
            Err(_) => {
                let pong = tokio::time::timeout(CHANNEL_TIMEOUT, sink.ping::<redis::Value>()).await;
                if !matches!(pong, Ok(Ok(_))) {
                    return;
                }
            }
        }
    }
}
