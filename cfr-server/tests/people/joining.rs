//! Invitations, sign-up and who admits whom, with letters through a real mail server.

use std::time::Duration;

use cfr_billing::identity::{Role, UserStatus};
use cfr_server::seed;
use reqwest::Method;
use serde_json::{Value, json};

use crate::smtp::SmtpServer;
use crate::support::{Browser, PASSWORD, Seen, Site};

/// A server that sends letters, and an administrator's key.
struct Office {
    site: Site,
    mail: SmtpServer,
    key: String,
    browser: Browser,
}

impl Office {
    async fn open() -> Self {
        let mail = SmtpServer::start().await;
        let config = format!(
            "[server]\npublic_url = \"http://localhost:4000\"\n[mail]\nfrom = \"CFR <noreply@example.com>\"\n\
             smtp_url = \"smtp://127.0.0.1:{}\"\n",
            mail.port
        );
        let site = Site::start_with(&config).await;
        let key = admin_key(&site).await;
        let browser = site.browser();
        let office = Self { site, mail, key, browser };
        office.ask(Method::POST, "/tenants", json!({ "slug": "acme", "name": "Acme" })).await.is(201);
        office
    }

    /// The management API, as the administrator.
    async fn ask(&self, method: Method, path: &str, body: Value) -> Seen {
        ask(&self.browser, &self.key, method, path, body).await
    }

    async fn set(&self, settings: Value) -> Seen {
        self.ask(Method::PATCH, "/tenants/acme", settings).await
    }

    async fn invite(&self, email: &str) -> Seen {
        self.ask(Method::POST, "/invitations", json!({ "tenant": "acme", "email": email })).await
    }

    /// Somebody brings the token of a letter.
    async fn join(&self, path: &str, token: &str, password: &str) -> Seen {
        self.browser.post(path, json!({ "token": token, "name": "Ada Lovelace", "password": password })).await
    }

    async fn sign_up(&self, email: &str) -> Seen {
        self.browser.post("/auth/sign-up", json!({ "tenant": "acme", "email": email })).await
    }

    async fn product(&self) {
        let money = |amount: &str| json!({ "amount": amount, "currency": "EUR" });
        let terms = json!({
            "name": "Starter", "price": money("20"), "budget": money("10"), "period": { "kind": "calendar_month" },
            "models": ["*"],
        });
        let product = json!({ "code": "starter", "terms": terms });
        self.ask(Method::POST, "/products", product).await.is(201);
    }

    async fn users(&self, query: &str) -> Vec<Value> {
        let seen = self.ask(Method::GET, &format!("/users?tenant=acme&{query}"), Value::Null).await;
        seen.is(200).json()["items"].as_array().expect("a list").clone()
    }
}

pub(super) async fn admin_key(site: &Site) -> String {
    let (key, _) = site.app.books.keys.issue(seed::admin_wish("test"), &site.act()).await.expect("a key");
    key.expose().to_owned()
}

pub(super) async fn ask(browser: &Browser, key: &str, method: Method, path: &str, body: Value) -> Seen {
    let bearer = format!("Bearer {key}");
    let body = (!body.is_null()).then_some(body);
    browser.send(method, &format!("/api/v1{path}"), body, &[("authorization", &bearer)]).await
}

#[tokio::test]
async fn who_is_invited_joins_with_the_letter_once() {
    let mut office = Office::open().await;
    let made = office.invite("new@example.org").await.is(201).json();
    assert_eq!((&made["sent"], &made["link"], &made["role"]), (&json!(true), &Value::Null, &json!("user")));
    let letter = office.mail.letter().await;
    assert_eq!(letter.to, "new@example.org");
    assert!(letter.data.contains("Acme") && letter.text().contains("http://localhost:4000/auth/invitation?token="));
    let page = office.browser.get(&format!("/auth/invitation?token={}", letter.token())).await;
    assert!(page.is(200).body.contains("name=\"token\""), "{page:?}");

    let accept = "/auth/invitations/accept";
    office.join(accept, &letter.token(), "too short").await.is(422);
    let joined = office.join(accept, &letter.token(), PASSWORD).await.is(201).json();
    assert_eq!(joined["status"], "active");
    office.join(accept, &letter.token(), PASSWORD).await.is_problem(410, "token_not_valid");
    assert_eq!(office.browser.sign_in("new@example.org", PASSWORD).await.is(200).json()["state"], "signed_in");
    let user = &office.users("").await[0];
    assert_eq!((&user["id"], user["email_verified_at"].is_null()), (&joined["user"], false));
    let left = office.ask(Method::GET, "/invitations?tenant=acme", Value::Null).await;
    assert_eq!(left.is(200).json()["items"], json!([]));
    office.invite("NEW@example.org").await.is(409);
}

#[tokio::test]
async fn an_invitation_that_is_sent_again_or_revoked_leaves_no_old_link() {
    let mut office = Office::open().await;
    let first = office.invite("new@example.org").await.is(201).json();
    let id = first["id"].as_str().expect("an id").to_owned();
    let first = office.mail.letter().await;
    let again = office.ask(Method::POST, &format!("/invitations/{id}/resend"), json!({})).await.is(201).json();
    let second = office.mail.letter().await;
    let accept = "/auth/invitations/accept";
    office.join(accept, &first.token(), PASSWORD).await.is_problem(410, "token_not_valid");
    let id = again["id"].as_str().expect("an id");
    office.ask(Method::POST, &format!("/invitations/{id}/revoke"), json!({})).await.is(200);
    office.join(accept, &second.token(), PASSWORD).await.is_problem(410, "token_not_valid");
    office.ask(Method::POST, &format!("/invitations/{id}/revoke"), json!({})).await.is(404);
}

#[tokio::test]
async fn who_signs_up_waits_until_an_administrator_activates_them() {
    let mut office = Office::open().await;
    office.product().await;
    office.site.user("boss@example.org", Role::TenantAdmin).await;
    office.set(json!({ "signup": "request", "signup_product": "starter" })).await.is(200);
    office.sign_up("ada@example.org").await.is(202);
    let letter = office.mail.letter().await;
    assert_eq!(office.users("status=pending").await, Vec::<Value>::new(), "who proved nothing is nobody");
    let joined = office.join("/auth/verify-email", &letter.token(), PASSWORD).await.is(201).json();
    assert_eq!(joined["status"], "pending");
    assert_ne!(office.browser.sign_in("ada@example.org", PASSWORD).await.json()["state"], "signed_in");
    let notice = office.mail.letter().await;
    assert_eq!(notice.to, "boss@example.org");
    assert!(notice.text().contains("ada@example.org"), "{notice:?}");

    let waiting = office.users("status=pending").await;
    assert_eq!((waiting.len(), &waiting[0]["id"], &waiting[0]["product"]), (1, &joined["user"], &json!("starter")));
    let id = joined["user"].as_str().expect("an id");
    office.ask(Method::PATCH, &format!("/users/{id}"), json!({ "status": "active" })).await.is(409);
    let active = office.ask(Method::POST, &format!("/users/{id}/activate"), json!({ "first_key": "laptop" })).await;
    let active = active.is(201).json();
    assert_eq!(active["user"]["status"], "active");
    assert!(active["secret"].as_str().expect("a secret").starts_with("cfr_live_"), "{active}");
    office.ask(Method::POST, &format!("/users/{id}/activate"), json!({})).await.is(409);
    assert!(office.mail.letter().await.text().contains("active"));
    let budgets = office.ask(Method::GET, &format!("/budgets?scope=user&subject={id}"), Value::Null).await;
    assert_eq!(budgets.is(200).json()["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(office.browser.sign_in("ada@example.org", PASSWORD).await.is(200).json()["state"], "signed_in");
}

#[tokio::test]
async fn who_is_turned_down_never_gets_in() {
    let mut office = Office::open().await;
    office.set(json!({ "signup": "request" })).await.is(200);
    office.sign_up("ada@example.org").await.is(202);
    let letter = office.mail.letter().await;
    let joined = office.join("/auth/verify-email", &letter.token(), PASSWORD).await.is(201).json();
    let id = joined["user"].as_str().expect("an id");
    let rejected = office.ask(Method::POST, &format!("/users/{id}/reject"), json!({})).await.is(200).json();
    assert_eq!(rejected["status"], "rejected");
    office.ask(Method::POST, &format!("/users/{id}/activate"), json!({})).await.is(409);
    assert_ne!(office.browser.sign_in("ada@example.org", PASSWORD).await.json()["state"], "signed_in");
}

#[tokio::test]
async fn nobody_learns_from_signing_up_who_has_an_account() {
    let mut office = Office::open().await;
    office.site.user("known@example.org", Role::User).await;
    office.set(json!({ "signup": "request" })).await.is(200);
    let (known, unknown) = (office.sign_up("Known@example.org").await, office.sign_up("unknown@example.org").await);
    assert_eq!((known.status, &known.body), (unknown.status, &unknown.body));
    let letters = [office.mail.letter().await, office.mail.letter().await];
    let to_known = letters.iter().find(|letter| letter.to == "Known@example.org").expect("a letter");
    assert!(to_known.text().contains("already") && !to_known.text().contains("token="), "{to_known:?}");
    let events = office.site.events("token.issued").await;
    assert_eq!(events.len(), 2, "the same is written down for both");
    office.site.clock.advance(Duration::from_secs(25 * 3_600));
    let late = letters.iter().find(|letter| letter.to == "unknown@example.org").expect("a letter");
    office.join("/auth/verify-email", &late.token(), PASSWORD).await.is_problem(410, "token_not_valid");
}

#[tokio::test]
async fn an_open_tenant_admits_who_proves_an_address_of_its_domains_while_there_is_room() {
    let mut office = Office::open().await;
    office.product().await;
    office.set(json!({ "signup": "open" })).await.is(422);
    let open = json!({
        "signup": "open", "signup_domains": ["Acme.example"], "signup_product": "starter", "users_max": 1,
        "signup_activates": true,
    });
    assert_eq!(office.set(open).await.is(200).json()["signup_domains"], json!(["acme.example"]));
    office.sign_up("ada@elsewhere.example").await.is(422);
    for (address, status) in [("ada@acme.example", "active"), ("bob@acme.example", "pending")] {
        office.sign_up(address).await.is(202);
        let letter = office.mail.letter().await;
        let joined = office.join("/auth/verify-email", &letter.token(), PASSWORD).await.is(201).json();
        assert_eq!(joined["status"], status, "{address}");
    }
    office.set(json!({ "signup": "closed" })).await.is(422);
    office.set(json!({ "signup": "closed", "signup_activates": false })).await.is(200);
    office.sign_up("eve@acme.example").await.is_problem(403, "sign_up_closed");
    office.invite("eve@acme.example").await.is(409);
}

#[tokio::test]
async fn who_signs_up_waits_unless_the_tenant_says_otherwise() {
    let mut office = Office::open().await;
    office.product().await;
    office.set(json!({ "signup": "request", "signup_product": "starter", "signup_activates": true })).await.is(422);
    let domains = json!(["acme.example"]);
    office.set(json!({ "signup": "open", "signup_domains": domains, "signup_activates": true })).await.is(422);
    let open = json!({ "signup": "open", "signup_domains": domains, "signup_product": "starter" });
    assert_eq!(office.set(open).await.is(200).json()["signup_activates"], false);
    office.sign_up("ada@acme.example").await.is(202);
    let letter = office.mail.letter().await;
    let joined = office.join("/auth/verify-email", &letter.token(), PASSWORD).await.is(201).json();
    assert_eq!(joined["status"], "pending");
    let id = joined["user"].as_str().expect("an id");
    office.ask(Method::POST, &format!("/users/{id}/activate"), json!({})).await.is(201);
    assert_eq!(office.browser.sign_in("ada@acme.example", PASSWORD).await.is(200).json()["state"], "signed_in");
}

#[tokio::test]
async fn without_mail_links_are_handed_over_and_nobody_signs_up() {
    let site = Site::start().await;
    let (key, browser) = (admin_key(&site).await, site.browser());
    let api = async |method, path: &str, body| ask(&browser, &key, method, path, body).await;
    api(Method::POST, "/tenants", json!({ "slug": "acme" })).await.is(201);
    let refused = api(Method::PATCH, "/tenants/acme", json!({ "signup": "request" })).await;
    assert!(refused.is(422).body.contains("[mail]"), "{refused:?}");
    let made = api(Method::POST, "/invitations", json!({ "tenant": "acme", "email": "new@example.org" })).await;
    let made = made.is(201).json();
    let link = made["link"].as_str().expect("a link");
    let (path, token) = link.split_once("?token=").expect("a token");
    assert_eq!((path, &made["sent"]), ("/auth/invitation", &json!(false)));
    let new = json!({ "token": token, "name": "Ada", "password": PASSWORD });
    browser.post("/auth/invitations/accept", new).await.is(201);
    let nobody = browser.post("/auth/sign-up", json!({ "tenant": "acme", "email": "b@example.org" })).await;
    nobody.is_problem(403, "sign_up_closed");
}

#[tokio::test]
async fn nobody_is_invited_to_run_the_platform() {
    let office = Office::open().await;
    let body = json!({ "tenant": "acme", "email": "new@example.org", "role": "admin" });
    office.ask(Method::POST, "/invitations", body).await.is(422);
    office.site.admit("waits@example.org", Role::User, UserStatus::Pending, None).await;
    assert_eq!(office.users("status=pending").await.len(), 1);
}

#[tokio::test]
async fn a_letter_that_the_mail_server_refuses_is_tried_again() {
    let mut office = Office::open().await;
    office.mail.refuse(1);
    office.invite("new@example.org").await.is(201);
    loop {
        tokio::select! {
            letter = office.mail.letter() => {
                assert_eq!((&*letter.to, office.mail.refusals_left()), ("new@example.org", 0));
                return;
            }
            // The letter waits for half a minute of the clock, which only the test moves.
            () = tokio::time::sleep(Duration::from_secs(1)) => office.site.clock.advance(Duration::from_secs(60)),
        }
    }
}
