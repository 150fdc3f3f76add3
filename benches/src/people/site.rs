//! The server in this process, over a database.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cfr_core::secret::Secret;
use cfr_core::time::SystemClock;
use cfr_server::config::{DatabaseConfig, DatabaseUrl};
use cfr_server::state::{App, Books};
use cfr_server::{demo, router, seed, serve};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ask::Asker;
use crate::Failure;

/// How long running answers may take when a server ends.
const DRAIN: Duration = Duration::from_secs(5);
/// A model of the demo's built-in provider.
const MODEL: &str = "gpt-5.4-nano";

/// A running server.
#[derive(Debug)]
pub struct Site {
    app: Arc<App>,
    address: SocketAddr,
    admin_key: String,
    stop: CancellationToken,
    server: JoinSet<usize>,
}

impl Site {
    /// Starts a server as the demo configures it: on a file in this folder, or on Postgres.
    ///
    /// # Errors
    /// When the database cannot be opened.
    pub async fn start(folder: &Path, postgres: Option<&str>) -> Result<Self, Failure> {
        let mut config = demo::config("127.0.0.1:0".into(), folder.into(), &|_| None)?;
        if let Some(url) = postgres {
            let url = DatabaseUrl::parse(&Secret::new(url))?;
            config.database = DatabaseConfig { url: Some(url), ..DatabaseConfig::default() };
        }
        let books = Books::open(&config, Arc::new(SystemClock::new())).await?;
        let admin_key = seed::key(&books, None, seed::admin_wish("bench")).await?.expose().to_owned();
        let listener = serve::listen(&config.listen).await?;
        let address = listener.local_addr()?;
        let app = Arc::new(App::new(config, books).await?);
        let stop = CancellationToken::new();
        let mut server = JoinSet::new();
        server.spawn(serve::serve(listener, router::router(Arc::clone(&app)), stop.clone(), DRAIN));
        Ok(Self { app, address, admin_key, stop, server })
    }

    /// A client with the administrator's key.
    ///
    /// # Errors
    /// When it cannot connect.
    pub async fn asker(&self) -> Result<Asker, Failure> {
        Asker::connect(self.address, &self.admin_key).await
    }

    /// Makes one of everything, and one call: what the fill copies.
    ///
    /// # Errors
    /// When the server refuses something.
    pub async fn make_patterns(&self) -> Result<(), Failure> {
        let mut admin = self.asker().await?;
        let terms = json!({
            "name": "Basic",
            "price": {"amount": "20", "currency": "EUR"},
            "budget": {"amount": "10", "currency": "EUR"},
            "period": {"kind": "calendar_month"},
            "models": ["*"],
        });
        admin.create("/api/v1/tenants", json!({"slug": "pattern"})).await?;
        admin.create("/api/v1/products", json!({"code": "basic", "terms": terms})).await?;
        let user = json!({"tenant": "pattern", "email": "ada@pattern.example", "product": "basic"});
        admin.create("/api/v1/users", user).await?;
        let key = admin.create("/api/v1/keys", json!({"user": "ada@pattern.example", "name": "laptop"})).await?;
        let mut caller = Asker::connect(self.address, key["secret"].as_str().ok_or("no secret")?).await?;
        let chat = json!({"model": MODEL, "max_tokens": 300, "messages": [{"role": "user", "content": "Hello"}]});
        caller.create("/v1/chat/completions", chat).await?;
        Ok(self.app.books.escrow.flush().await?)
    }

    /// Ends it and closes the database.
    ///
    /// # Errors
    /// When the last entries cannot be written.
    pub async fn stop(mut self) -> Result<(), Failure> {
        self.stop.cancel();
        while let Some(ended) = self.server.join_next().await {
            ended?;
        }
        Arc::into_inner(self.app).ok_or("somebody still has the books")?.close().await?;
        Ok(())
    }
}
