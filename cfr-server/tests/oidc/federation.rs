//! Signing in with an account at another provider, which another server of ours plays.

use cfr_billing::identity::{User, UserStatus};
use cfr_billing::oidc::Client;
use cfr_billing::people::OutsideIdentity;

use crate::support::{Door, Program, Seen, Site};

/// A provider where Ada has an account, and a server that takes people from it.
struct Pair {
    theirs: Site,
    ours: Site,
    ada: User,
    /// Ada's browser at the provider.
    cookie: String,
    _program: Program,
}

impl Pair {
    async fn start(unknown: &str) -> Self {
        let (theirs, door) = (Site::start().await, Door::open().await);
        let ada = theirs.user("ada@acme.example").await;
        theirs.app.books.store.verify_email(ada.id, "ada@acme.example", &theirs.act()).await.expect("proved");
        let back = format!("{}/oauth/with/acme/callback", door.base);
        let program =
            theirs.program_with(&ada, |client| Client { redirect_uris: vec![back.as_str().into()], ..client }).await;
        let more = format!(
            "[[sign_in.oidc]]\nid = \"acme\"\nissuer = \"{}\"\nclient_id = \"{}\"\ntenant = \"acme\"\n\
             client_secret_variable = \"ACME_SECRET\"\nunknown = \"{unknown}\"\ndomains = [\"acme.example\"]\n",
            theirs.base, program.client.id
        );
        let secret = program.secret.clone();
        let ours = Site::start_at(door, &more, &|name| (name == "ACME_SECRET").then(|| secret.clone())).await;
        let cookie = theirs.cookie(&ada).await;
        Self { theirs, ours, ada, cookie, _program: program }
    }

    /// A browser with this cookie goes to the provider and comes back with what it was sent.
    async fn sign_in(&self, cookie: &str) -> Seen {
        let away = self.ours.get("/oauth/with/acme?return_to=/oauth/authorize", &[]).await.is(303);
        self.come_back(&away, cookie).await
    }

    async fn come_back(&self, away: &Seen, cookie: &str) -> Seen {
        let path = led_to(away).strip_prefix(&self.theirs.base).expect("the provider").to_owned();
        let back = self.theirs.get(&path, &[("cookie", &self.cookie)]).await.is(303);
        let path = back.location().strip_prefix(&self.ours.base).expect("our callback").to_owned();
        self.ours.get(&path, &[("cookie", &format!("{}; {cookie}", kept(away)))]).await
    }

    fn identity(&self) -> OutsideIdentity {
        OutsideIdentity { issuer: self.theirs.base.as_str().into(), subject: self.ada.id.to_string().into() }
    }
}

/// Where a browser goes on: by the header, or by the page that answers a form.
fn led_to(seen: &Seen) -> String {
    let page = seen.body.split_once("content=\"0;url=").and_then(|(_, rest)| rest.split('"').next());
    page.map_or_else(|| seen.location().to_owned(), |to| to.replace("&amp;", "&"))
}

#[tokio::test]
async fn an_account_is_linked_only_after_a_recent_proof() {
    let pair = Pair::start("refuse").await;
    let user = pair.ours.user("somebody@else.example").await;
    let cookie = pair.ours.cookie(&user).await;
    let headers = [("cookie", cookie.as_str()), ("origin", pair.ours.base.as_str())];
    let away = pair.ours.submit("/oauth/with/acme/link", &headers, &[]).await.is(200);
    pair.ours.clock.advance(std::time::Duration::from_mins(5));
    for late in [pair.come_back(&away, &cookie).await, pair.ours.submit("/oauth/with/acme/link", &headers, &[]).await] {
        assert!(late.status == 200 && late.body.contains("prove again who you are"), "{late:?}");
    }
    assert_eq!(pair.ours.app.books.store.identities(user.id).await.expect("readable"), []);
}

#[tokio::test]
async fn the_page_to_sign_in_has_a_button_for_each_provider() {
    let pair = Pair::start("refuse").await;
    let page = pair.ours.get("/auth/sign-in?return_to=/oauth/authorize%3Fx", &[]).await.is(200);
    assert!(page.body.contains("href=\"/oauth/with/acme?return_to=%2Foauth%2Fauthorize%3Fx\""), "{}", page.body);
}

/// What a browser keeps of an answer.
fn kept(seen: &Seen) -> String {
    let lines = seen.headers.get_all("set-cookie").iter().filter_map(|line| line.to_str().ok());
    lines.filter_map(|line| line.split(';').next()).collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn who_is_known_by_the_provider_signs_in() {
    let pair = Pair::start("refuse").await;
    let user = pair.ours.user("somebody@else.example").await;
    let stranger = pair.sign_in("").await.is(200);
    assert!(stranger.body.contains("is not known here"), "{stranger:?}");
    assert_eq!(pair.ours.told("session.refused").await, 1);
    let store = &pair.ours.app.books.store;
    store.link_identity(user.id, &pair.identity(), &pair.ours.act()).await.expect("linked");
    let seen = pair.sign_in("").await.is(303);
    assert_eq!(seen.location(), "/oauth/authorize");
    let session = store.sessions(user.id, cfr_core::time::Clock::now(&*pair.ours.clock)).await.expect("readable");
    assert!(kept(&seen).contains("__Host-cfr=") && session.len() == 1, "{seen:?}");
    assert_eq!(session[0].methods.iter().map(|method| &**method).collect::<Vec<_>>(), ["fed"]);
}

#[tokio::test]
async fn an_address_alone_is_nobody() {
    let pair = Pair::start("create").await;
    let user = pair.ours.user("ada@acme.example").await;
    let seen = pair.sign_in("").await.is(200);
    assert!(seen.body.contains("there is an account with your address already"), "{seen:?}");
    assert_eq!(pair.ours.app.books.store.identities(user.id).await.expect("readable"), []);

    let cookie = pair.ours.cookie(&user).await;
    let headers = [("cookie", cookie.as_str()), ("origin", "https://evil.example")];
    let forged = pair.ours.submit("/oauth/with/acme/link", &headers, &[]).await.is(200);
    assert!(forged.location().is_empty(), "{forged:?}");
    let headers = [("cookie", cookie.as_str()), ("origin", pair.ours.base.as_str())];
    let away = pair.ours.submit("/oauth/with/acme/link", &headers, &[]).await.is(200);
    let stranger = pair.ours.cookie(&pair.ours.user("somebody@else.example").await).await;
    let elsewhere = pair.come_back(&away, &stranger).await.is(200);
    assert!(elsewhere.body.contains("began with another session"), "{elsewhere:?}");
    pair.come_back(&away, &cookie).await.is(303);
    let identities = pair.ours.app.books.store.identities(user.id).await.expect("readable");
    assert_eq!(identities, [pair.identity()]);
    assert!(kept(&pair.sign_in("").await.is(303)).contains("__Host-cfr="));
}

#[tokio::test]
async fn new_people_become_users_or_wait() {
    for (unknown, status) in [("create", UserStatus::Active), ("pending", UserStatus::Pending)] {
        let pair = Pair::start(unknown).await;
        pair.ours.user("somebody@else.example").await;
        let seen = pair.sign_in("").await;
        let store = &pair.ours.app.books.store;
        let user = store.user_by_email("ada@acme.example").await.expect("readable").expect("made");
        assert_eq!((user.status, user.email_verified_at.is_some()), (status, true), "{unknown}");
        assert_eq!(kept(&seen).contains("__Host-cfr="), status == UserStatus::Active, "{seen:?}");
    }
}

#[tokio::test]
async fn a_sign_in_that_began_in_another_browser_goes_nowhere() {
    let pair = Pair::start("create").await;
    let (one, two) =
        (pair.ours.get("/oauth/with/acme", &[]).await.is(303), pair.ours.get("/oauth/with/acme", &[]).await.is(303));
    let path = one.location().strip_prefix(&pair.theirs.base).expect("the provider").to_owned();
    let back = pair.theirs.get(&path, &[("cookie", &pair.cookie)]).await.is(303);
    let path = back.location().strip_prefix(&pair.ours.base).expect("our callback").to_owned();
    for cookie in ["", &kept(&two), &kept(&one).replace("sign-in", "link")] {
        let seen = pair.ours.get(&path, &[("cookie", cookie)]).await.is(200);
        assert!(seen.body.contains("began in another browser"), "{seen:?}");
    }
}
