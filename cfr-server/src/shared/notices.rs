//! Notices by two ways at once: whichever works brings them.

use std::sync::Arc;

use async_trait::async_trait;
use cfr_core::broadcast::{Broadcast, BroadcastError, NOTICES_MAX, Notice};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender};
use tokio::task::JoinSet;

/// Two ways for notices. One that comes by both is given twice, which costs another look.
#[derive(Debug)]
pub(super) struct Both {
    ways: [Arc<dyn Broadcast>; 2],
    heard: Sender<Notice>,
    _forwarding: JoinSet<()>,
}

impl Both {
    pub(super) fn over(one: Arc<dyn Broadcast>, other: Arc<dyn Broadcast>) -> Arc<dyn Broadcast> {
        let heard = Sender::new(NOTICES_MAX);
        let mut forwarding = JoinSet::new();
        for way in [&one, &other] {
            forwarding.spawn(forward(way.subscribe(), heard.clone()));
        }
        Arc::new(Self { ways: [one, other], heard, _forwarding: forwarding })
    }
}

async fn forward(mut notices: Receiver<Notice>, heard: Sender<Notice>) {
    loop {
        let all: &[Notice] = match notices.recv().await {
            Ok(notice) => &[notice],
            Err(RecvError::Lagged(_)) => Notice::ALL,
            Err(RecvError::Closed) => return,
        };
        for notice in all {
            let _ = heard.send(*notice); // nobody listening is fine
        }
    }
}

#[async_trait]
impl Broadcast for Both {
    /// One way is enough.
    async fn publish(&self, notice: Notice) -> Result<(), BroadcastError> {
        let [one, other] = &self.ways;
        let told = (one.publish(notice).await, other.publish(notice).await);
        told.0.or(told.1)
    }

    fn subscribe(&self) -> Receiver<Notice> {
        self.heard.subscribe()
    }

    fn is_connected(&self) -> bool {
        self.ways.iter().any(|way| way.is_connected())
    }
}

#[cfg(test)]
mod tests {
    use cfr_core::broadcast::LocalBroadcast;

    use super::*;

    /// A way that is cut.
    #[derive(Debug, Default)]
    struct Cut(LocalBroadcast);

    #[async_trait]
    impl Broadcast for Cut {
        async fn publish(&self, _: Notice) -> Result<(), BroadcastError> {
            Err(BroadcastError { reason: "cut".into() })
        }

        fn subscribe(&self) -> Receiver<Notice> {
            self.0.subscribe()
        }

        fn is_connected(&self) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn one_way_that_works_is_enough() {
        let both = Both::over(Arc::new(Cut::default()), Arc::new(LocalBroadcast::default()));
        let mut notices = both.subscribe();
        both.publish(Notice::Prices).await.expect("told by one way");
        assert_eq!(notices.recv().await.expect("heard"), Notice::Prices);
        assert!(both.is_connected());
        let none = Both::over(Arc::new(Cut::default()), Arc::new(Cut::default()));
        assert!(none.publish(Notice::Prices).await.is_err() && !none.is_connected());
    }
}
