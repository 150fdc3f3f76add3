//! Rules of how people join and sign in.

use std::sync::Arc;
use std::time::Duration;

use cfr_core::id::{MailId, SessionId, TenantId, TokenId, UserId};
use cfr_core::ledger::Scope;
use cfr_core::time::Timestamp;
use serde_json::json;

use super::catalog::{new_key, publish};
use super::fixture::{Node, new_tenant, new_user};
use crate::audit_log::{Act, Action, AuditFilter, Event};
use crate::budget::{BudgetFilter, ScopeId};
use crate::identity::{
    Language, NewTenant, NewUser, Role, SignupMode, TenantPatch, TenantSettings, User, UserFilter, UserPatch,
    UserStatus,
};
use crate::people::{
    Activation, Admission, AttemptCount, Challenge, Credentials, Mail, Offer, OneTimeToken, OutsideIdentity, Passkey,
    SecretHash, Session, TokenKind,
};
use crate::store::{PageRequest, Store, StoreError};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// Of two changes at once the second is refused, whatever it changes.
pub async fn credentials_change_once_per_version(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let user = node.user().await.id;
    let none = store.credentials(user).await.expect("the user exists");
    assert_eq!(none, Credentials::none(user));
    let (one, other, event) = (with_password(&none, "one"), with_password(&none, "other"), told(user));
    let (first, second) = tokio::join!(
        store.set_credentials(&one, Some(&event), &act),
        store.set_credentials(&other, Some(&event), &act)
    );
    let (written, refused) = if first.is_ok() { (first, second) } else { (second, first) };
    let written = written.expect("one of them comes first");
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    assert_eq!((store.credentials(user).await.expect("the user exists"), written.version), (written.clone(), 1));
    let failed = Credentials { failures: 1, ..written.clone() };
    store.set_credentials(&failed, None, &act).await.expect("it is current");
    let late = store.set_credentials(&failed, Some(&told(user)), &act).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
    let told = AuditFilter { action: Some("user.email_verified".into()), ..AuditFilter::default() };
    let events = store.audit_events(&told, PageRequest::default()).await.expect("the store works");
    assert_eq!(events.items.len(), 1, "what was refused is not told");
    let nobody = store.credentials(UserId::generate(node.now)).await;
    assert!(matches!(nobody, Err(StoreError::NotFound { .. })), "{nobody:?}");
}

/// Of many who bring it, in time, for what it is for.
pub async fn a_token_is_taken_once(store: &dyn Store) {
    let node = Node::start(store).await;
    let user = node.user().await;
    let token = token(&node, TokenKind::ResetPassword, Some(&user), 1);
    let letter = mail(node.now, 1);
    store.issue_token(&token, Some(&letter), &Act::of_system(node.now)).await.expect("the store works");
    let of_another_kind = store.take_token(TokenKind::ChangeEmail, &token.hash, node.now).await;
    assert_eq!(of_another_kind.expect("the store works"), None);
    assert_eq!(found(&node, &token).await.as_ref(), Some(&token));
    let take = || async { store.take_token(token.kind, &token.hash, node.now).await.expect("the store works") };
    let taken = tokio::join!(take(), take(), take(), take());
    let taken: Vec<OneTimeToken> = [taken.0, taken.1, taken.2, taken.3].into_iter().flatten().collect();
    assert_eq!((taken, found(&node, &token).await), (vec![token], None));
    let letters = store.claim_mails(node.now, node.now, 10).await.expect("the store works");
    assert_eq!(letters.iter().map(|mail| mail.id).collect::<Vec<_>>(), [letter.id]);
    let late = self::token(&node, TokenKind::ResetPassword, Some(&user), 2);
    store.issue_token(&late, None, &Act::of_system(node.now)).await.expect("the store works");
    let too_late = store.take_token(late.kind, &late.hash, late.expires_at).await;
    assert_eq!(too_late.expect("the store works"), None);
}

/// The same user, or the same address in the same tenant where nobody is a user yet.
pub async fn a_later_token_makes_earlier_ones_void(store: &dyn Store) {
    let node = Node::start(store).await;
    let (user, other) = (node.user().await, node.user().await);
    let act = Act::of_system(node.now);
    let invited = |number, address: &str| OneTimeToken {
        email: Some(address.into()),
        ..token(&node, TokenKind::Invitation, None, number)
    };
    let tokens = [
        token(&node, TokenKind::ResetPassword, Some(&user), 1),
        token(&node, TokenKind::ResetPassword, Some(&other), 2),
        token(&node, TokenKind::ChangeEmail, Some(&user), 3),
        invited(4, "Ada@example.org"),
        invited(5, "grace@example.org"),
        token(&node, TokenKind::ResetPassword, Some(&user), 6),
        invited(7, "ada@example.org"),
    ];
    for token in &tokens {
        store.issue_token(token, None, &act).await.expect("the store works");
    }
    let mut alive = Vec::new();
    for token in &tokens {
        alive.extend(found(&node, token).await.map(|token| token.hash.0[0]));
    }
    assert_eq!(alive, [2, 3, 5, 6, 7]);
}

/// In the order in which they were made, those of a tenant or of all, until they are revoked.
pub async fn tokens_that_work_are_listed(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let other = store.create_tenant(&new_tenant("other"), &act).await.expect("the slug is free").id;
    let invite = |number: u8, tenant: TenantId| OneTimeToken {
        tenant: Some(tenant),
        email: Some(format!("{number}@example.org").into()),
        ..token(&node, TokenKind::Invitation, None, number)
    };
    let over = OneTimeToken { expires_at: node.now, ..invite(4, node.tenant) };
    let tokens = [invite(1, node.tenant), invite(2, other), invite(3, node.tenant), over];
    for token in &tokens {
        store.issue_token(token, None, &act).await.expect("the store works");
    }
    let list = async |tenant: Option<TenantId>| {
        let page = store.tokens(TokenKind::Invitation, tenant, node.now, PageRequest::default()).await;
        page.expect("the store works").items.iter().map(|token| token.hash.0[0]).collect::<Vec<u8>>()
    };
    assert_eq!((list(None).await, list(Some(node.tenant)).await), (vec![1, 2, 3], vec![1, 3]));
    let by_id = async |token: &OneTimeToken, kind| store.token_by_id(kind, token.id, node.now).await.expect("works");
    assert_eq!(by_id(&tokens[0], TokenKind::Invitation).await.as_ref(), Some(&tokens[0]));
    assert_eq!((by_id(&tokens[0], TokenKind::Setup).await, by_id(&tokens[3], tokens[3].kind).await), (None, None));
    store.revoke_token(tokens[0].id, &act).await.expect("it exists");
    let again = store.revoke_token(tokens[0].id, &act).await;
    assert!(matches!(again, Err(StoreError::NotFound { .. })), "{again:?}");
    assert_eq!((list(Some(node.tenant)).await, found(&node, &tokens[0]).await), (vec![3], None));
    let told = AuditFilter { target: Some(tokens[0].id.to_string().into()), ..AuditFilter::default() };
    let events = store.audit_events(&told, PageRequest::default()).await.expect("the store works").items;
    let told: Vec<&str> = events.iter().map(|event| &*event.action).collect();
    assert_eq!(told, ["token.revoked", "token.issued"]);
    assert!(events.iter().all(|event| !event.changes.contains("example.org") && !event.changes.contains("hash")));
}

/// A full tenant or a taken address costs nobody their invitation.
pub async fn an_admission_that_fails_leaves_the_token(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let small = NewTenant { users_max: Some(1), ..new_tenant("small") };
    let small = store.create_tenant(&small, &act).await.expect("the slug is free");
    store.create_user(&new_user(small.id, "first@example.org"), &act).await.expect("there is room");
    let token = OneTimeToken { tenant: Some(small.id), ..token(&node, TokenKind::Invitation, None, 1) };
    store.issue_token(&token, None, &act).await.expect("the store works");
    let admission = admission(Some(&token), new_user(small.id, "ada@example.org"));
    assert_conflict(store.admit(&admission, &act).await);
    assert_eq!(found(&node, &token).await.as_ref(), Some(&token));
    let roomier = TenantPatch { users_max: Some(Some(2)), ..TenantPatch::default() };
    store.update_tenant(small.id, 1, &roomier, &act).await.expect("it is current");
    let taken = Admission { user: new_user(small.id, "First@example.org"), ..admission.clone() };
    assert_conflict(store.admit(&taken, &act).await);
    let user = store.admit(&admission, &act).await.expect("there is room");
    assert_eq!((user.status, user.email_verified_at, user.role), (UserStatus::Active, Some(node.now), Role::User));
    let known = store.credentials(user.id).await.expect("the user exists");
    assert_eq!((known.password, known.password_set_at), (Some("$argon2id$".into()), Some(node.now)));
    let again = store.admit(&Admission { user: new_user(small.id, "b@example.org"), ..admission }, &act).await;
    assert!(matches!(again, Err(StoreError::NotFound { .. })), "{again:?}");
}

/// However many bring it at the same time.
pub async fn a_token_admits_one_user(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let token = token(&node, TokenKind::Invitation, None, 1);
    store.issue_token(&token, None, &act).await.expect("the store works");
    let admit = async |address: &str| store.admit(&admission(Some(&token), new_user(node.tenant, address)), &act).await;
    let admitted = tokio::join!(admit("a@example.org"), admit("b@example.org"), admit("c@example.org"));
    let admitted = [admitted.0, admitted.1, admitted.2];
    assert_eq!(admitted.iter().filter(|user| user.is_ok()).count(), 1, "{admitted:?}");
    let users = store.users(&UserFilter::of_tenant(node.tenant), PageRequest::default()).await.expect("works");
    assert_eq!(users.items.len(), 1);
}

/// Who is pending gets a token with a letter, and an identity, but neither a place nor a budget.
pub async fn who_is_pending_takes_no_place(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let version = publish(&node, "starter", 500).await;
    let small = NewTenant { users_max: Some(0), ..new_tenant("small") };
    let small = store.create_tenant(&small, &act).await.expect("the slug is free").id;
    let identity = OutsideIdentity::new("https://id.example.org", "42");
    let asked = Admission {
        status: UserStatus::Pending,
        email_verified: false,
        identity: Some(identity.clone()),
        ..admission(None, NewUser { product_version: Some(version.id), ..new_user(small, "ada@example.org") })
    };
    let user = store.admit(&asked, &act).await.expect("it takes no place");
    assert_eq!((user.status, user.email_verified_at), (UserStatus::Pending, None));
    assert_eq!(store.user_of_identity(&identity).await.expect("the store works"), Some(user.id));
    assert_eq!(budgets_of(&node, &user).await, 0);
    let full = store.activate(&activation(&user), &act).await;
    assert_conflict(full);
    let waits = UserFilter { tenant: Some(small), status: Some(UserStatus::Pending) };
    let waiting = store.users(&waits, PageRequest::default()).await.expect("the store works").items;
    assert_eq!(waiting, [user]);
    let twice = Admission { user: new_user(small, "b@example.org"), ..asked };
    assert_conflict(store.admit(&twice, &act).await);
}

/// In one transaction; and not a second time.
pub async fn an_activation_gives_place_terms_budget_and_key(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let (wished, given) = (publish(&node, "wished", 100).await, publish(&node, "given", 700).await);
    let user = pending(&node, "ada@example.org", Some(&wished.id)).await;
    let stale = Activation { version: user.version + 1, ..activation(&user) };
    assert_conflict(store.activate(&stale, &act).await);
    let key = new_key(node.tenant, Some(user.id), 1);
    let letter = mail(node.now, 1);
    let new =
        Activation { terms: Some(given.id), first_key: Some(key), letter: Some(letter.clone()), ..activation(&user) };
    let (active, key) = store.activate(&new, &act).await.expect("there is room");
    assert_eq!((active.status, active.product_version, active.version), (UserStatus::Active, Some(given.id), 2));
    assert_eq!(key.map(|key| key.user), Some(Some(user.id)));
    assert_eq!(budgets_of(&node, &user).await, 700);
    assert_eq!(
        store.claim_mails(node.now, node.now, 9).await.expect("the store works").first(),
        Some(&Mail { tries: 1, ..letter })
    );
    let again = Activation { version: active.version, first_key: None, letter: None, ..new };
    assert_conflict(store.activate(&again, &act).await);
    let told = AuditFilter { action: Some("user.activated".into()), ..AuditFilter::default() };
    assert_eq!(store.audit_events(&told, PageRequest::default()).await.expect("the store works").items.len(), 1);
}

/// Of two activations at once one finds the tenant full, and of two on the last seat of a product.
pub async fn the_last_place_is_given_once(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let small = NewTenant { users_max: Some(1), ..new_tenant("small") };
    let node = Node { tenant: store.create_tenant(&small, &act).await.expect("the slug is free").id, ..node };
    let (ada, bob) = (pending(&node, "ada@example.org", None).await, pending(&node, "bob@example.org", None).await);
    let (of_ada, of_bob) = (activation(&ada), activation(&bob));
    let (first, second) = tokio::join!(store.activate(&of_ada, &act), store.activate(&of_bob, &act));
    assert_eq!([first.is_ok(), second.is_ok()].iter().filter(|ok| **ok).count(), 1, "{first:?} {second:?}");
}

/// A change of state alone gives neither a place nor a budget. To reject somebody takes nothing else.
pub async fn nobody_who_waits_is_made_active_by_a_change(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let user = pending(&node, "ada@example.org", None).await;
    let to = |status| UserPatch { status: Some(status), ..UserPatch::default() };
    assert_conflict(store.update_user(user.id, 1, &to(UserStatus::Active), &act).await);
    assert_conflict(store.update_user(user.id, 1, &to(UserStatus::Suspended), &act).await);
    let rejected = store.update_user(user.id, 1, &to(UserStatus::Rejected), &act).await.expect("it is current");
    assert_conflict(store.update_user(user.id, 2, &to(UserStatus::Active), &act).await);
    assert_conflict(store.activate(&activation(&rejected), &act).await);
    let waits = store.update_user(user.id, 2, &to(UserStatus::Pending), &act).await.expect("somebody thinks again");
    store.activate(&activation(&waits), &act).await.expect("there is room");
}

/// At once, and tokens that were made for the old one are void.
pub async fn a_new_epoch_ends_sessions_and_tokens(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let (user, other) = (node.user().await, node.user().await);
    for (number, user) in [(1, &user), (2, &other)] {
        store.open_session(&session(&node, user, number), None, &act).await.expect("the store works");
    }
    let reset = token(&node, TokenKind::ResetPassword, Some(&user), 1);
    store.issue_token(&reset, None, &act).await.expect("the store works");
    let changed = Credentials { epoch: 1, ..Credentials::none(user.id) };
    store.set_credentials(&changed, None, &act).await.expect("it is current");
    assert!(signed_in(&node, 1).await.is_none() && signed_in(&node, 2).await.is_some());
    assert_eq!(store.sessions(user.id, node.now).await.expect("the store works"), []);
    assert_eq!(found(&node, &reset).await, None);
    assert_eq!(store.take_token(reset.kind, &reset.hash, node.now).await.expect("the store works"), None);
    store.open_session(&session(&node, &user, 3), None, &act).await.expect("the store works");
    assert!(signed_in(&node, 3).await.is_none(), "a session of an old epoch never begins");
    let now = OneTimeToken { epoch: 1, ..token(&node, TokenKind::ResetPassword, Some(&user), 4) };
    store.issue_token(&now, None, &act).await.expect("the store works");
    assert_eq!(found(&node, &now).await, Some(now));
}

/// With its user and tenant as they are, until it ends; under another secret once it got one.
pub async fn a_session_is_found_by_its_secret_until_it_ends(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let user = node.user().await;
    let opened = session(&node, &user, 1);
    store.open_session(&opened, Some(&told(user.id)), &act).await.expect("the store works");
    let found = signed_in(&node, 1).await.expect("it is not over");
    assert_eq!((&found.session, &found.user, found.tenant.id, found.epoch), (&opened, &user, node.tenant, 0));
    assert!(store.session(&opened.hash, opened.expires_at).await.expect("the store works").is_none());
    let moved =
        Session { hash: SecretHash([2; 32]), proved_at: node.now, methods: vec!["otp".into()], ..opened.clone() };
    store.update_session(&opened.hash, &moved).await.expect("the store works");
    assert!(signed_in(&node, 1).await.is_none());
    assert_eq!(signed_in(&node, 2).await.map(|found| found.session), Some(moved.clone()));
    let other = node.user().await;
    let not_theirs = store.end_session(other.id, opened.id, &act).await;
    assert!(matches!(not_theirs, Err(StoreError::NotFound { .. })), "{not_theirs:?}");
    store.end_session(user.id, opened.id, &act).await.expect("it is theirs");
    store.update_session(&moved.hash, &moved).await.expect("nothing happens");
    assert!(signed_in(&node, 2).await.is_none(), "what is over stays so");
}

/// The newest first; all of them end, or all but one.
pub async fn the_sessions_of_a_user_are_listed_and_ended(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let (user, other) = (node.user().await, node.user().await);
    let mut ids = Vec::new();
    for number in 1..=3 {
        let later = node.later(MINUTE * u32::from(number));
        let session = session(&later, &user, number);
        ids.push(session.id);
        store.open_session(&session, None, &Act::of_system(later.now)).await.expect("the store works");
    }
    store.open_session(&session(&node, &other, 4), None, &act).await.expect("the store works");
    let list = async || {
        let sessions = store.sessions(user.id, node.now).await.expect("the store works");
        sessions.iter().map(|session| session.hash.0[0]).collect::<Vec<u8>>()
    };
    assert_eq!(list().await, [3, 2, 1]);
    assert_eq!(store.end_sessions(user.id, ids.get(1).copied(), &act).await.expect("the store works"), 2);
    assert_eq!(list().await, [2]);
    assert_eq!(store.end_sessions(user.id, None, &act).await.expect("the store works"), 1);
    assert_eq!(store.end_sessions(user.id, None, &act).await.expect("the store works"), 0);
    assert!(signed_in(&node, 4).await.is_some(), "the others go on");
}

/// What works stays.
pub async fn what_is_over_is_swept(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let user = node.user().await;
    let (long, short) = (session(&node, &user, 1), session(&node, &user, 2));
    let short = Session { expires_at: node.later(MINUTE).now, ..short };
    for session in [&long, &short] {
        store.open_session(session, None, &act).await.expect("the store works");
    }
    let over = OneTimeToken { expires_at: short.expires_at, ..token(&node, TokenKind::ChangeEmail, Some(&user), 1) };
    let stays = token(&node, TokenKind::ResetPassword, Some(&user), 2);
    for token in [&over, &stays] {
        store.issue_token(token, None, &act).await.expect("the store works");
    }
    let later = node.later(MINUTE);
    assert_eq!(store.sweep(later.now).await.expect("the store works"), 2);
    assert_eq!(store.sweep(later.now).await.expect("the store works"), 0);
    assert!(signed_in(&later, 1).await.is_some() && found(&later, &stays).await.is_some());
}

/// Whoever counts, all count together, until the count is over.
pub async fn attempts_are_counted_together_for_a_while(store: &dyn Store) {
    let node = Node::start(store).await;
    let (one, other) = (SecretHash([1; 32]), SecretHash([2; 32]));
    let (now, until) = (node.now, node.later(MINUTE).now);
    let count = async |subject: &SecretHash, more: u32, now: Timestamp, until: Timestamp| {
        store.count_attempts(subject, more, now, until).await.expect("the store works")
    };
    let (left, right) = tokio::join!(count(&one, 2, now, until), count(&one, 3, now, until));
    let counted = AttemptCount { count: 5, until };
    assert!([left, right].contains(&counted), "{left:?} {right:?}");
    let later = node.later(HOUR).now;
    assert_eq!(count(&one, 1, now, later).await, AttemptCount { count: 6, until }, "the first says when it ends");
    assert_eq!(count(&other, 7, now, later).await, AttemptCount { count: 7, until: later });
    assert_eq!(store.sweep(until).await.expect("the store works"), 1);
    assert_eq!(count(&one, 1, until, later).await, AttemptCount { count: 1, until: later }, "it was forgotten");
    assert_eq!(count(&one, 4, later, node.later(2 * HOUR).now).await.count, 4, "it is over, though nobody swept");
}

/// The longest due first, and nobody else's until they are due again.
pub async fn a_letter_that_is_due_is_claimed_by_one(store: &dyn Store) {
    let node = Node::start(store).await;
    let (soon, later) = (mail(node.now, 1), mail(node.later(MINUTE).now, 2));
    for letter in [&later, &soon] {
        store.queue_mail(letter).await.expect("the store works");
    }
    let until = node.later(HOUR).now;
    let claim = async |now: Timestamp| store.claim_mails(now, until, 10).await.expect("the store works");
    let (one, other) = tokio::join!(claim(node.now), claim(node.now));
    let claimed = [one, other].concat();
    assert_eq!(claimed, [Mail { tries: 1, due_at: until, ..soon.clone() }]);
    assert_eq!(claim(node.later(MINUTE).now).await, [Mail { tries: 1, due_at: until, ..later.clone() }]);
    assert_eq!(claim(node.later(MINUTE).now).await, []);
    store.forget_mail(later.id).await.expect("the store works");
    store.forget_mail(later.id).await.expect("it is forgotten already");
    let again = store.claim_mails(until, until, 10).await.expect("the store works");
    assert_eq!(again, [Mail { tries: 2, due_at: until, ..soon.clone() }]);
    let failed = Mail { tries: 2, due_at: node.later(HOUR * 2).now, ..soon };
    store.queue_mail(&failed).await.expect("the store works");
    assert_eq!(claim(until).await, [], "it waits as it was told");
    assert_eq!(claim(failed.due_at).await, [Mail { tries: 3, due_at: until, ..failed }]);
}

/// The pair of provider and name there; whoever has it keeps it.
pub async fn an_identity_is_one_users(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let (user, other) = (node.user().await.id, node.user().await.id);
    let identity = OutsideIdentity::new("https://id.example.org", "42");
    let elsewhere = OutsideIdentity::new("https://other.example.org", "42");
    store.link_identity(user, &identity, &act).await.expect("it is nobody's");
    assert_conflict(store.link_identity(other, &identity, &act).await);
    store.link_identity(other, &elsewhere, &act).await.expect("it is another provider's");
    assert_eq!(store.user_of_identity(&identity).await.expect("the store works"), Some(user));
    assert_eq!(store.identities(user).await.expect("the store works"), std::slice::from_ref(&identity));
    let not_theirs = store.unlink_identity(other, &identity, &act).await;
    assert!(matches!(not_theirs, Err(StoreError::NotFound { .. })), "{not_theirs:?}");
    store.unlink_identity(user, &identity, &act).await.expect("it is theirs");
    assert_eq!(store.user_of_identity(&identity).await.expect("the store works"), None);
}

/// Whoever has it keeps it, until they remove it or are forgotten.
pub async fn a_passkey_is_one_users(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let (user, other) = (node.user().await, node.user().await);
    let with = |of: &Credentials, passkeys: &[&Passkey]| Credentials {
        passkeys: passkeys.iter().map(|passkey| (*passkey).clone()).collect(),
        ..of.clone()
    };
    let (phone, key) = (passkey(&node, "phone"), passkey(&node, "key"));
    let set = async |credentials| store.set_credentials(&credentials, None, &act).await;
    let mine = set(with(&Credentials::none(user.id), &[&phone, &key])).await.expect("they are nobody's");
    assert_conflict(set(with(&Credentials::none(other.id), &[&phone])).await);
    let theirs = set(Credentials::none(other.id)).await.expect("it is current");
    assert_conflict(set(with(&theirs, &[&key])).await);
    assert_eq!(store.credentials(other.id).await.expect("the store works"), theirs);
    let renamed = Passkey { name: "Old phone".into(), ..phone.clone() };
    set(with(&mine, &[&renamed])).await.expect("it is theirs");
    set(with(&theirs, &[&key])).await.expect("it was removed");
    store.erase_user(user.id, user.version, &act).await.expect("it is current");
    let theirs = store.credentials(other.id).await.expect("the store works");
    set(with(&theirs, &[&key, &phone])).await.expect("whose it was is forgotten");
}

/// Many browsers have one at a time, of the same user or of nobody yet.
pub async fn challenges_stand_beside_each_other(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let user = node.user().await;
    let asked = |number, user: Option<&User>| {
        let challenge = Challenge { bound_to: user.map(|_| SecretHash([9; 32])), state: json!({ "number": number }) };
        OneTimeToken { challenge: Some(challenge), email: None, ..token(&node, TokenKind::UsePasskey, user, number) }
    };
    let asked = [asked(1, None), asked(2, None), asked(3, Some(&user)), asked(4, Some(&user))];
    for token in &asked {
        store.issue_token(token, None, &act).await.expect("the store works");
    }
    for token in asked {
        assert_eq!(found(&node, &token).await, Some(token.clone()));
        let taken = store.take_token(token.kind, &token.hash, node.now).await.expect("the store works");
        assert_eq!(taken.as_ref(), Some(&token));
        assert_eq!(store.take_token(token.kind, &token.hash, node.now).await.expect("the store works"), None);
    }
}

/// Their own or a new one; nobody else's.
pub async fn an_address_that_was_proved_is_the_users(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let (user, other) = (node.user().await, node.user().await);
    let proved = store.verify_email(user.id, &user.email, &act).await.expect("it is theirs");
    assert_eq!((proved.email, proved.email_verified_at, proved.version), (user.email, Some(node.now), 2));
    assert_conflict(store.verify_email(user.id, &other.email.to_uppercase(), &act).await);
    let moved = store.verify_email(user.id, "New@Example.org", &act).await.expect("it is free");
    assert_eq!((&*moved.email, moved.version), ("New@Example.org", 3));
    assert_eq!(store.user_by_email("new@example.org").await.expect("the store works"), Some(moved));
}

/// How people join and sign in, and in which language they are written to.
pub async fn settings_and_languages_are_kept(store: &dyn Store) {
    let node = Node::start(store).await;
    let act = Act::of_system(node.now);
    let product = publish(&node, "starter", 1).await.product;
    let settings = TenantSettings {
        signup: SignupMode::Open,
        signup_domains: vec!["example.org".into()],
        signup_activates: true,
        signup_product: Some(product),
        locale: Language::De,
        ..TenantSettings::default()
    };
    let new = NewTenant { settings: settings.clone(), ..new_tenant("settled") };
    let made = store.create_tenant(&new, &act).await.expect("the slug is free");
    assert_eq!((&made.settings, &store.tenant(made.id).await.expect("it exists")), (&settings, &made));
    let named = TenantPatch { name: Some("Settled".into()), ..TenantPatch::default() };
    assert_eq!(store.update_tenant(made.id, 1, &named, &act).await.expect("it is current").settings, settings);
    let closed = TenantSettings { signup: SignupMode::Closed, ..settings };
    let patch = TenantPatch { settings: Some(closed.clone()), ..TenantPatch::default() };
    assert_eq!(store.update_tenant(made.id, 2, &patch, &act).await.expect("it is current").settings, closed);
    let new = NewUser { locale: Some(Language::De), ..new_user(made.id, "ada@example.org") };
    let user = store.create_user(&new, &act).await.expect("the address is free");
    assert_eq!(user.locale, Some(Language::De));
    let patch = UserPatch { locale: Some(Language::En), ..UserPatch::default() };
    let changed = store.update_user(user.id, 1, &patch, &act).await.expect("it is current");
    assert_eq!((changed.locale, store.user(user.id).await.expect("it exists")), (Some(Language::En), changed));
}

fn passkey(node: &Node<'_>, id: &str) -> Passkey {
    let (id, name) = (id.into(), "Phone".into());
    Passkey { id, name, credential: json!({ "counter": 1 }), created_at: node.now, used_at: None }
}

pub(super) fn with_password(of: &Credentials, password: &str) -> Credentials {
    Credentials { password: Some(password.into()), ..of.clone() }
}

fn told(user: UserId) -> Event {
    Event { action: Action::EmailVerified, tenant: None, target: user.to_string().into(), changes: "{}".into() }
}

pub(super) fn token(node: &Node<'_>, kind: TokenKind, user: Option<&User>, number: u8) -> OneTimeToken {
    let offer = Offer { role: Role::User, product_version: None, invited_by: None };
    OneTimeToken {
        id: TokenId::generate(node.later(Duration::from_secs(number.into())).now), // ids come in the order of time
        hash: SecretHash([number; 32]),
        kind,
        tenant: Some(node.tenant),
        user: user.map(|user| user.id),
        epoch: 0,
        email: Some("ada@example.org".into()),
        offer: (kind == TokenKind::Invitation).then_some(offer),
        challenge: None,
        created_at: node.now,
        expires_at: node.later(HOUR).now,
    }
}

async fn found(node: &Node<'_>, token: &OneTimeToken) -> Option<OneTimeToken> {
    node.store.token(token.kind, &token.hash, node.now).await.expect("the store works")
}

pub(super) fn mail(due_at: Timestamp, number: u8) -> Mail {
    Mail {
        id: MailId::generate(due_at),
        to: "ada@example.org".into(),
        template: "invitation".into(),
        language: Language::De,
        values: format!("v1.{number}").into(),
        tries: 0,
        due_at,
        created_at: due_at,
    }
}

fn session(node: &Node<'_>, user: &User, number: u8) -> Session {
    Session {
        id: SessionId::generate(node.now),
        hash: SecretHash([number; 32]),
        user: user.id,
        epoch: 0,
        methods: vec!["pwd".into()],
        created_at: node.now,
        proved_at: node.now,
        seen_at: node.now,
        expires_at: node.later(HOUR).now,
        address: Some("2001:db8::1".into()),
        agent: Some(Arc::from("Mozilla \"5.0\"")),
        impersonates: None,
    }
}

async fn signed_in(node: &Node<'_>, number: u8) -> Option<crate::people::SignedIn> {
    node.store.session(&SecretHash([number; 32]), node.now).await.expect("the store works")
}

fn admission(token: Option<&OneTimeToken>, user: NewUser) -> Admission {
    Admission {
        token: token.map(|token| token.hash),
        user,
        status: UserStatus::Active,
        email_verified: true,
        password: Some("$argon2id$".into()),
        identity: None,
    }
}

async fn pending(node: &Node<'_>, address: &str, terms: Option<&cfr_core::id::ProductVersionId>) -> User {
    let user = NewUser { product_version: terms.copied(), ..new_user(node.tenant, address) };
    let new = Admission { status: UserStatus::Pending, ..admission(None, user) };
    node.store.admit(&new, &Act::of_system(node.now)).await.expect("the address is free")
}

const fn activation(user: &User) -> Activation {
    Activation { user: user.id, version: user.version, terms: None, first_key: None, letter: None }
}

/// What the user's own budget includes; zero without one.
async fn budgets_of(node: &Node<'_>, user: &User) -> i64 {
    let filter = BudgetFilter { scope: Some(Scope::User), scope_id: Some(ScopeId(user.id.as_u128())), tenant: None };
    let budgets = node.store.budgets(&filter, PageRequest::default()).await.expect("the store works").items;
    budgets.iter().map(|budget| budget.spec.included_nanos).sum()
}

#[track_caller]
fn assert_conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Conflict { .. })), "expected a conflict, got {result:?}");
}
