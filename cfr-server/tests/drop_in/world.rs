//! A server with somebody on it, and keys that manage it.

use cfr_billing::audit_log::Act;
use cfr_billing::identity::{KeyKind, KeyRules};
use cfr_server::auth::KeyWish;
use cfr_server::seed;
use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{FAKE, Seen, Site, client, see, terms};

/// A euro.
pub(crate) const EURO: i64 = 1_000_000_000;
/// Who pays.
pub(crate) const ADA: &str = "ada@example.org";

/// A running server, and the key of its operator.
pub(crate) struct World {
    pub(crate) site: Site,
    pub(crate) admin: String,
}

impl World {
    /// With Ada of the tenant `acme`, who may spend ten euro.
    pub(crate) async fn with_ada() -> Self {
        let world = Self::over(Site::start(FAKE).await).await;
        world.site.key(terms(10 * EURO)).await;
        world
    }

    pub(crate) async fn in_folder(folder: TempDir) -> Self {
        Self::over(Site::start_in(folder, FAKE).await).await
    }

    async fn over(site: Site) -> Self {
        let books = &site.app.books;
        let (key, _) =
            books.keys.issue(seed::admin_wish("operator"), &Act::of_system(books.clock.now())).await.expect("a key");
        Self { admin: key.expose().to_owned(), site }
    }

    /// The same after the process ended and began again.
    pub(crate) async fn restarted(self) -> Self {
        Self { site: Site::start_in(self.site.stop().await, FAKE).await, admin: self.admin }
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Seen {
        self.site.post(path, &self.admin, body.to_string()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Seen {
        self.site.get(path, &self.admin).await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Value) -> Seen {
        let request = client().request(method, self.site.url(path)).header("x-api-key", &self.admin);
        see(request.header("content-type", "application/json").body(body.to_string())).await
    }

    /// A service key of a tenant of its own, with these scopes.
    pub(crate) async fn service_key(&self, slug: &str, scopes: &[&str]) -> String {
        let books = &self.site.app.books;
        let zone = cfr_core::time::TimeZone::UTC;
        let tenant = seed::tenant(books, slug, slug, zone).await.expect("a tenant");
        let rules = KeyRules { scopes: scopes.iter().map(|&scope| scope.into()).collect(), ..KeyRules::default() };
        let wish = KeyWish { tenant: Some(tenant.id), rules, ..KeyWish::new(KeyKind::Service, "service") };
        books.keys.issue(wish, &Act::of_system(books.clock.now())).await.expect("a key").0.expose().to_owned()
    }

    /// What Ada could hold now.
    pub(crate) async fn available(&self) -> String {
        let user = self.get(&format!("/api/users/{ADA}")).await.json();
        user["budget_available"].to_string()
    }
}
