//! Rules of clients of OpenID Connect, of the keys that sign for them, and of what they hold of whom.

use std::time::Duration;

use cfr_core::id::{ClientId, ClientSessionId, SessionId, UserId};
use cfr_core::time::Timestamp;
use serde_json::json;

use super::fixture::{DAY, Node, new_tenant};
use crate::audit_log::{Act, AuditFilter};
use crate::identity::{UserPatch, UserStatus};
use crate::oidc::{Client, ClientSession, Code, Ending, SigningKey};
use crate::people::{Credentials, SecretHash};
use crate::store::{PageRequest, Store, StoreError};

const SECOND: Duration = Duration::from_secs(1);

/// Its secret is kept beside it and changes alone; two who change it do not undo each other's work.
pub async fn a_client_is_registered_changed_and_revoked(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let made = client(&node);
    store.add_client(&made, &SecretHash([1; 32]), &act).await.expect("the id is new");
    assert_conflict(store.add_client(&made, &SecretHash([1; 32]), &act).await);
    assert_eq!(store.client(made.id).await.expect("it is there"), made);
    let renamed = Client { name: "Chat 2".into(), version: 2, ..made.clone() };
    store.update_client(&renamed, None, &act).await.expect("nobody changed it meanwhile");
    assert_conflict(store.update_client(&renamed, None, &act).await);
    assert_eq!(store.client_secret(made.id).await.expect("it is there"), SecretHash([1; 32]));
    let rotated = Client { version: 3, ..renamed };
    store.update_client(&rotated, Some(&SecretHash([2; 32])), &act).await.expect("nobody changed it meanwhile");
    assert_eq!(store.client_secret(made.id).await.expect("it is there"), SecretHash([2; 32]));
    let revoked = Client { revoked_at: Some(node.now), version: 4, ..rotated };
    store.update_client(&revoked, None, &act).await.expect("nobody changed it meanwhile");
    assert_eq!(store.client(made.id).await.expect("it is there"), revoked);
    let told = ["created", "changed", "secret_changed", "revoked"];
    for what in told {
        assert_eq!(events(store, &format!("oidc_client.{what}")).await, 1, "{what}");
    }
    let unknown = store.client(ClientId::generate(node.now)).await;
    assert!(matches!(unknown, Err(StoreError::NotFound { .. })), "{unknown:?}");
}

/// In the order in which they were made, a page at a time.
pub async fn clients_are_listed_by_tenant(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let other = store.create_tenant(&new_tenant("other"), &act).await.expect("the slug is free").id;
    let mut ours = Vec::new();
    for seconds in 0..3 {
        let made = client(&node.later(SECOND * seconds));
        store.add_client(&made, &SecretHash([1; 32]), &act).await.expect("the id is new");
        ours.push(made);
    }
    let theirs = Client { tenant: other, ..client(&node.later(DAY)) };
    store.add_client(&theirs, &SecretHash([1; 32]), &act).await.expect("the id is new");
    let page = PageRequest { after: None, limit: 2 };
    let first = store.clients(Some(node.tenant), page).await.expect("readable");
    assert_eq!(first.items, ours[..2]);
    let rest = store.clients(Some(node.tenant), PageRequest { after: first.next, ..page }).await.expect("readable");
    assert_eq!((&rest.items[..], rest.next), (&ours[2..], None));
    assert_eq!(store.clients(None, PageRequest::default()).await.expect("readable").items.len(), 4);
    let stranger = Client { tenant: cfr_core::id::TenantId::generate(node.now), ..client(&node.later(DAY)) };
    let refused = store.add_client(&stranger, &SecretHash([1; 32]), &act).await;
    assert!(matches!(refused, Err(StoreError::NotFound { .. })), "{refused:?}");
}

/// Of two servers that make the next key at once, one does; the two newest are published.
pub async fn signing_keys_are_numbered_once(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    assert_eq!(store.signing_keys().await.expect("readable"), []);
    let keys = [1, 2, 3].map(|seq| SigningKey {
        seq,
        kid: format!("kid-{seq}").into(),
        public: json!({ "kty": "RSA" }),
        private: "sealed".into(),
        created_at: node.now,
    });
    for key in &keys {
        store.add_signing_key(key, &act).await.expect("the number is free");
        assert_conflict(store.add_signing_key(key, &act).await);
    }
    assert_eq!(store.signing_keys().await.expect("readable"), [keys[2].clone(), keys[1].clone()]);
    assert_eq!(events(store, "signing_key.created").await, 3);
    store.reseal_signing_key(3, "sealed anew").await.expect("it is known");
    let anew = SigningKey { private: "sealed anew".into(), ..keys[2].clone() };
    assert_eq!(store.signing_keys().await.expect("readable"), [anew, keys[1].clone()]);
    let unknown = store.reseal_signing_key(4, "sealed").await;
    assert!(matches!(unknown, Err(StoreError::NotFound { .. })), "{unknown:?}");
}

/// Of many who redeem a code or renew a token at once, one does.
pub async fn a_client_session_goes_forward_once(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let opened = opened(&node).await;
    assert_conflict(store.open_client_session(&opened, &act).await);
    let redeemed = ClientSession { code: None, generation: 1, version: 2, ..opened.clone() };
    store.update_client_session(&redeemed, &act).await.expect("it was not changed meanwhile");
    assert_conflict(store.update_client_session(&redeemed, &act).await);
    assert_eq!(store.client_session(opened.id).await.expect("it is there"), redeemed);
    let ended = redeemed.ended(node.now);
    store.update_client_session(&ended, &act).await.expect("it was not changed meanwhile");
    assert_eq!(store.client_session(opened.id).await.expect("it is there"), ended);
    let told = (events(store, "client_session.opened").await, events(store, "client_session.ended").await);
    assert_eq!(told, (1, 1));
    let unknown = store.client_session(ClientSessionId::generate(node.now)).await;
    assert!(matches!(unknown, Err(StoreError::NotFound { .. })), "{unknown:?}");
}

/// What is ended is what began in the browser's session, of the user, or at the client; and of whom a client was revoked.
pub async fn client_sessions_end_with_what_they_hang_on(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let [one, two, three, four] = [opened(&node).await, opened(&node).await, opened(&node).await, opened(&node).await];
    for (session, ending) in
        [(&one, Ending::Session(one.session)), (&two, Ending::User(two.user)), (&three, Ending::Client(three.client))]
    {
        assert_eq!(store.end_client_sessions(ending, &act).await.expect("writable"), 1);
        assert_eq!(store.end_client_sessions(ending, &act).await.expect("writable"), 0, "it has ended");
        let ended = store.client_session(session.id).await.expect("it is there");
        assert_eq!((ended.ended_at, ended.due_at), (Some(node.now), Some(node.now)));
    }
    assert_eq!(store.client_session(four.id).await.expect("it is there").ended_at, None);
    let client = store.client(four.client).await.expect("it is there");
    let revoked = Client { revoked_at: Some(node.now), version: 2, ..client };
    store.update_client(&revoked, None, &act).await.expect("nobody changed it meanwhile");
    assert_eq!(store.client_session(four.id).await.expect("it is there").ended_at, Some(node.now));
}

/// In the same transaction, however it ends: by itself, with all others, with a new password, with the user.
pub async fn client_sessions_end_with_the_browsers(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let is_open =
        async |session: &ClientSession| store.client_session(session.id).await.expect("it is there").ended_at.is_none();
    let [one, two, three, four] = [opened(&node).await, opened(&node).await, opened(&node).await, opened(&node).await];
    store.end_sessions(one.user, Some(one.session), &act).await.expect("writable");
    assert!(is_open(&one).await, "this one goes on");
    store.end_sessions(one.user, None, &act).await.expect("writable");
    assert!(!is_open(&one).await);
    let credentials = store.credentials(two.user).await.expect("they exist");
    let same = store.set_credentials(&credentials, None, &act).await.expect("nobody changed them");
    assert!(is_open(&two).await);
    let later = Credentials { epoch: two.epoch + 1, ..same };
    store.set_credentials(&later, None, &act).await.expect("nobody changed them");
    assert!(!is_open(&two).await);
    let user = store.user(three.user).await.expect("they exist");
    let patch = UserPatch { status: Some(UserStatus::Suspended), ..UserPatch::default() };
    store.update_user(user.id, user.version, &patch, &act).await.expect("nobody changed them");
    assert!(!is_open(&three).await && is_open(&four).await);
}

/// Until it was told, however many servers try.
pub async fn an_end_is_told_by_one_until_it_was_told(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let (ended, open) = (opened(&node).await, opened(&node).await);
    store.end_client_sessions(Ending::Session(ended.session), &act).await.expect("writable");
    let later = node.later(SECOND * 60).now;
    let claimed = store.claim_logouts(node.now, later, 10).await.expect("writable");
    assert_eq!(claimed.iter().map(|session| (session.id, session.tries)).collect::<Vec<_>>(), [(ended.id, 1)]);
    assert_eq!(store.claim_logouts(node.now, later, 10).await.expect("writable"), [], "somebody tells it already");
    let again = store.claim_logouts(later, node.later(DAY).now, 10).await.expect("writable");
    assert_eq!(again.iter().map(|session| session.tries).collect::<Vec<_>>(), [2]);
    assert_eq!(store.sweep_client_sessions(node.later(DAY * 400).now).await.expect("writable"), 1, "the open one");
    store.logout_told(ended.id).await.expect("writable");
    assert_eq!(store.claim_logouts(node.later(DAY * 2).now, later, 10).await.expect("writable"), []);
    assert_eq!(store.sweep_client_sessions(node.now).await.expect("writable"), 0, "it ended only now");
    assert_eq!(store.sweep_client_sessions(later).await.expect("writable"), 1);
    for gone in [ended, open] {
        assert!(store.client_session(gone.id).await.is_err());
    }
}

/// Without a key the path begins at the user.
pub async fn a_user_context_lists_the_path_in_order(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let user = store.budget(budget).await.expect("it is there").scope_id;
    let context = store.user_context(UserId::from_u128(user.0), None).await.expect("they exist");
    assert_eq!((context.user.id.as_u128(), context.tenant.id), (user.0, node.tenant));
    assert_eq!(context.budgets.iter().map(|spec| spec.id).collect::<Vec<_>>(), [budget]);
    let unknown = store.user_context(UserId::generate(node.now), None).await;
    assert!(matches!(unknown, Err(StoreError::NotFound { .. })), "{unknown:?}");
}

fn client(node: &Node<'_>) -> Client {
    Client {
        id: ClientId::generate(node.now),
        tenant: node.tenant,
        name: "Chat".into(),
        redirect_uris: vec!["https://chat.example/callback".into()],
        post_logout_uris: Vec::new(),
        backchannel_uri: None,
        first_party: true,
        revoked_at: None,
        version: 1,
        created_at: node.now,
        updated_at: node.now,
    }
}

/// Somebody of their own, signed in to a client of its own.
pub(super) async fn opened(node: &Node<'_>) -> ClientSession {
    let (client, user, act) = (client(node), node.user().await, Act::of_system(node.now));
    node.store.add_client(&client, &SecretHash([1; 32]), &act).await.expect("the id is new");
    let session = client_session(node.now, &client, user.id);
    node.store.open_client_session(&session, &act).await.expect("the id is new");
    session
}

fn client_session(now: Timestamp, client: &Client, user: UserId) -> ClientSession {
    let end = now.checked_add(DAY * 30).expect("inside the calendar");
    ClientSession {
        id: ClientSessionId::generate(now),
        client: client.id,
        tenant: client.tenant,
        user,
        session: SessionId::generate(now),
        epoch: 0,
        scopes: vec!["openid".into()],
        methods: vec!["pwd".into()],
        auth_time: now,
        salt: "salt".into(),
        code: Some(Code {
            redirect_uri: "https://chat.example/callback".into(),
            challenge: "challenge".into(),
            nonce: None,
            expires_at: now,
        }),
        generation: 0,
        renewed_at: now,
        created_at: now,
        expires_at: end,
        ended_at: None,
        tries: 0,
        due_at: None,
        version: 1,
    }
}

#[track_caller]
fn assert_conflict(result: Result<(), StoreError>) {
    assert!(matches!(result, Err(StoreError::Conflict { .. })), "{result:?}");
}

async fn events(store: &dyn Store, action: &str) -> usize {
    let filter = AuditFilter { action: Some(action.into()), ..AuditFilter::default() };
    store.audit_events(&filter, PageRequest::default()).await.expect("readable").items.len()
}
