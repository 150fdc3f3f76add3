//! The places of parallel requests: taken by the limiter's script, renewed while their requests run, given back after.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::Script;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::MissedTickBehavior;

use super::link::Link;

const RENEW: &str = include_str!("renew.lua");
/// A place is renewed so many times before it would be given up.
const RENEWALS_PER_LIFE: u32 = 3;
/// Places that one command gives back or renews.
const BATCH_MAX: usize = 256;

/// Where places are reserved. Its channel has no limit of its own: at most two messages for each running request are in
/// it, and they are taken out at once while Redis is away.
#[derive(Debug)]
pub(super) struct Places(UnboundedSender<Event>);

type Name = [u8; 16];

#[derive(Debug)]
enum Event {
    Taken(Name, Arc<[String]>),
    Over(Name, Arc<[String]>),
}

/// A place under each of some limits, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    name: Name,
    keys: Arc<[String]>,
    events: UnboundedSender<Event>,
}

/// Where places are reserved, and the task that looks after them.
pub(super) fn places(link: Arc<Link>, kept: Duration) -> (Places, impl Future<Output = ()> + Send + 'static) {
    let (sender, events) = unbounded_channel();
    let keeper = Keeper { link, kept, running: HashMap::new(), renew: Script::new(RENEW) };
    (Places(sender), keeper.run(events))
}

impl Places {
    /// A name for a place under these limits. Also a place that was perhaps not taken is given back: who asked for it may
    /// have gone away before the answer came.
    pub(super) fn reserve(&self, keys: Arc<[String]>) -> Place {
        Place { name: rand::random(), keys, events: self.0.clone() }
    }
}

impl Place {
    pub(super) const fn name(&self) -> &Name {
        &self.name
    }

    /// The request runs: from now on the place is renewed.
    pub(super) fn taken(self) -> Self {
        if !self.keys.is_empty() {
            let _ = self.events.send(Event::Taken(self.name, Arc::clone(&self.keys)));
        }
        self
    }

    pub(super) fn was_never_taken(mut self) {
        self.keys = Arc::default();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            let _ = self.events.send(Event::Over(self.name, Arc::clone(&self.keys))); // nobody listens at the end
        }
    }
}

struct Keeper {
    link: Arc<Link>,
    kept: Duration,
    running: HashMap<Name, Arc<[String]>>,
    renew: Script,
}

impl Keeper {
    async fn run(mut self, mut events: UnboundedReceiver<Event>) {
        let mut renewal = tokio::time::interval(self.kept / RENEWALS_PER_LIFE);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            tokio::select! {
                received = events.recv_many(&mut batch, BATCH_MAX) => {
                    if received == 0 {
                        return;
                    }
                    self.take_in(&mut batch).await;
                }
                _ = renewal.tick() => self.renew_all().await,
            }
        }
    }

    async fn take_in(&mut self, batch: &mut Vec<Event>) {
        let mut given_back = redis::pipe();
        for event in batch.drain(..) {
            match event {
                Event::Taken(name, keys) => {
                    self.running.insert(name, keys);
                }
                Event::Over(name, keys) => {
                    self.running.remove(&name);
                    for key in &*keys {
                        given_back.zrem(key, &name[..]).ignore();
                    }
                }
            }
        }
        if !given_back.is_empty() {
            let _lapses_anyway: Option<()> =
                self.link.ask(async |connection| given_back.query_async(connection).await).await;
        }
    }

    /// Also brings places back that Redis has lost.
    async fn renew_all(&self) {
        let places: Vec<_> =
            self.running.iter().flat_map(|(name, keys)| keys.iter().map(move |key| (name, key))).collect();
        for batch in places.chunks(BATCH_MAX) {
            let mut call = self.renew.prepare_invoke();
            call.arg(super::limiter::micros(self.kept));
            for (name, key) in batch {
                call.key(*key).arg(&name[..]);
            }
            let renewed: Option<()> = self.link.ask(async |connection| call.invoke_async(connection).await).await;
            if renewed.is_none() {
                return;
            }
        }
    }
}
