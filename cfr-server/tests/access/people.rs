//! Everybody who may ask, in one place: people of every role who are signed in, and keys of every kind.

use axum::http::Method;
use cfr_billing::audit_log::Act;
use cfr_billing::identity::{Role, User, UserPatch};
use cfr_billing::people::Session;
use cfr_core::id::SessionId;
use cfr_server::auth::access::{Holder, Permissions};
use cfr_server::people::browser::csrf_token;
use cfr_server::people::secret;
use serde_json::{Value, json};

use super::api::{Answer, Api, id, product};

/// How somebody asks.
#[derive(Debug, Clone)]
pub(crate) enum Proof {
    Nothing,
    Key(String),
    /// The secret of a session.
    Session(String),
}

/// Somebody who asks.
#[derive(Debug, Clone)]
pub(crate) struct Somebody {
    pub(crate) name: &'static str,
    pub(crate) proof: Proof,
    /// What they may do by the table.
    pub(crate) permissions: Permissions,
    /// Whether the whole platform is theirs.
    pub(crate) reaches_all: bool,
}

/// Things of one tenant, by the name that they have in paths.
#[derive(Debug, Clone)]
pub(crate) struct Things {
    pub(crate) tenant: String,
    pub(crate) user: String,
    pub(crate) key: String,
    pub(crate) budget: String,
}

/// Two tenants that know nothing of each other.
pub(crate) struct World {
    pub(crate) api: Api,
    pub(crate) own: Things,
    pub(crate) foreign: Things,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::within(Api::new().await).await
    }

    /// Two such tenants in an API.
    pub(crate) async fn within(api: Api) -> Self {
        let mut terms = product("basic", "20", "10");
        terms["terms"]["features"] = json!(["api_access"]);
        api.post("/products", terms).await.created();
        let own = things(&api, "acme").await;
        let foreign = things(&api, "rival").await;
        Self { api, own, foreign }
    }

    /// Everybody who can ask, of the first tenant.
    pub(crate) async fn everybody(&self) -> Vec<Somebody> {
        let mut all = vec![Somebody {
            name: "nobody",
            proof: Proof::Nothing,
            permissions: Permissions::NONE,
            reaches_all: false,
        }];
        let roles = [
            ("guest", Role::Guest, Holder::Guest),
            ("user", Role::User, Holder::User),
            ("tenant admin", Role::TenantAdmin, Holder::TenantAdmin),
            ("platform admin", Role::Admin, Holder::PlatformAdmin),
        ];
        for (name, role, holder) in roles {
            let proof = Proof::Session(self.signed_in(role).await);
            let permissions = Permissions::of(holder);
            all.push(Somebody { name, proof, permissions, reaches_all: holder == Holder::PlatformAdmin });
        }
        let scopes: Vec<_> = Permissions::of(Holder::Service).iter().map(|scope| scope.name()).collect();
        let any = Permissions::of(Holder::AnyKey);
        let keys = [
            (
                "service key",
                json!({"kind": "service", "tenant": "acme", "scopes": scopes}),
                Permissions::of(Holder::Service),
            ),
            ("service key without scopes", json!({"kind": "service", "tenant": "acme"}), Permissions::NONE),
            ("key of a user", json!({"user": self.own.user}), Permissions::NONE),
            ("admin key", json!({"kind": "admin"}), Permissions::of(Holder::PlatformAdmin)),
        ];
        for (name, mut wish, permissions) in keys {
            wish["name"] = name.into();
            let key = self.api.post("/keys", wish).await.created();
            let proof = Proof::Key(key["secret"].as_str().expect("a secret").to_owned());
            all.push(Somebody { name, proof, permissions: permissions | any, reaches_all: name == "admin key" });
        }
        all
    }

    /// The secret of a session of a new user with this role in the first tenant, who proved just now who they are.
    pub(crate) async fn signed_in(&self, role: Role) -> String {
        self.signed_in_as(&format!("{role:?}").to_lowercase(), role).await
    }

    /// The same of a user of this name.
    pub(crate) async fn signed_in_as(&self, name: &str, role: Role) -> String {
        let store = &self.api.books().store;
        let act = Act::of_system(self.api.books().clock.now());
        let email = format!("{name}@acme.example");
        let wish = json!({"tenant": "acme", "email": email, "product": "basic"});
        let user = match store.user_by_email(&email).await.expect("an answer") {
            Some(user) => user,
            None => {
                self.api.post("/users", wish).await.created();
                let user = store.user_by_email(&email).await.expect("an answer").expect("the user");
                let patch = UserPatch { role: Some(role), ..UserPatch::default() };
                store.update_user(user.id, user.version, &patch, &act).await.expect("a role")
            }
        };
        self.open_session(&user, &act).await
    }

    async fn open_session(&self, user: &User, act: &Act) -> String {
        let store = &self.api.books().store;
        let (text, hash) = secret::generate();
        let session = Session {
            id: SessionId::generate(act.at),
            hash,
            user: user.id,
            epoch: store.credentials(user.id).await.expect("an answer").epoch,
            methods: vec!["pwd".into(), "otp".into(), "mfa".into()],
            created_at: act.at,
            proved_at: act.at,
            seen_at: act.at,
            expires_at: act.at + std::time::Duration::from_hours(1),
            address: None,
            agent: None,
            impersonates: None,
        };
        store.open_session(&session, None, act).await.expect("a session");
        text.expose().to_owned()
    }

    /// Asks as somebody.
    pub(crate) async fn ask(
        &self,
        proof: &Proof,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let (mut all, key) = (headers.to_vec(), if let Proof::Key(key) = proof { Some(&**key) } else { None });
        let (cookie, token) = match proof {
            Proof::Session(secret) => (format!("__Host-cfr={secret}"), csrf_token(secret)),
            _ => Default::default(),
        };
        if !cookie.is_empty() {
            all.extend([("cookie", &*cookie), ("x-csrf-token", &*token)]);
        }
        self.api.send_as(key, method, target, &all, body).await
    }
}

async fn things(api: &Api, slug: &str) -> Things {
    let tenant = api.post("/tenants", json!({"slug": slug})).await.created();
    let email = format!("anna@{slug}.example");
    let user = json!({"tenant": slug, "email": email, "product": "basic"});
    let user = api.post("/users", user).await.created();
    let key = api.post("/keys", json!({"user": email, "name": "laptop"})).await.created();
    let budgets = api.get(&format!("/budgets?scope=user&subject={}", id(&user))).await.ok();
    let pool = json!({"scope": "tenant", "subject": slug, "limit": {"amount": "100", "currency": "EUR"}});
    api.post("/budgets", pool).await.created();
    let text = |thing: &Value| id(thing).to_owned();
    Things { tenant: text(&tenant), user: text(&user), key: text(&key), budget: text(&budgets["items"][0]) }
}
