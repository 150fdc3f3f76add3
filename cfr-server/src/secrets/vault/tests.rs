//! The vault over the store in memory.

use cfr_billing::store::MemoryStore;
use cfr_core::secret::Secret;
use cfr_core::time::SystemClock;

use super::*;

const PLACE: Place<'_> = Place { table: "things", row: "thing_1", column: "secret" };

fn vault(store: &Arc<MemoryStore>, keys: &[&Secret]) -> Vault {
    let text = keys.iter().map(|key| key.expose()).collect::<Vec<_>>().join(",");
    Vault::new(Arc::clone(store) as _, Arc::new(SystemClock::new()), MasterKeySource::Variable(Secret::new(text)))
}

fn act() -> Act {
    Act::of_system(SystemClock::new().now())
}

fn tenant(number: u128) -> Option<TenantId> {
    Some(TenantId::from_u128(number))
}

async fn opens(vault: &Vault, tenant: Option<TenantId>, sealed: &str) -> bool {
    matches!(vault.open(tenant, PLACE, sealed).await, Ok(plain) if plain.as_slice() == b"hunter2")
}

#[tokio::test]
async fn a_secret_is_its_owners_and_its_places_alone() {
    let (store, key) = (Arc::new(MemoryStore::exclusive()), MasterKey::generate());
    let vault = vault(&store, &[&key]);
    for owner in [None, tenant(1), tenant(2)] {
        let sealed = vault.seal(owner, PLACE, b"hunter2").await.expect("sealed");
        assert!(sealed.starts_with("v1.") && !sealed.contains("hunter2"));
        assert!(opens(&vault, owner, &sealed).await);
        for other in [None, tenant(1), tenant(2)].into_iter().filter(|other| *other != owner) {
            let refused = vault.open(other, PLACE, &sealed).await;
            assert!(matches!(refused, Err(VaultError::Damaged { .. })), "{refused:?}");
        }
        let elsewhere = vault.open(owner, Place { row: "thing_2", ..PLACE }, &sealed).await;
        assert!(matches!(elsewhere, Err(VaultError::Damaged { .. })), "{elsewhere:?}");
    }
    let keys = store.data_keys(PageRequest::default()).await.expect("readable").items;
    assert_eq!(keys.len(), 3, "one for each owner");
    let long = vault.seal(None, PLACE, &vec![0; PLAIN_BYTES_MAX + 1]).await;
    assert!(matches!(long, Err(VaultError::TooLong)));
}

#[tokio::test]
async fn another_master_key_opens_nothing_and_names_the_one_that_does() {
    let (store, right, wrong) = (Arc::new(MemoryStore::exclusive()), MasterKey::generate(), MasterKey::generate());
    let sealed = vault(&store, &[&right]).seal(None, PLACE, b"hunter2").await.expect("sealed");
    let elsewhere = vault(&store, &[&wrong]);
    let id = |key: &Secret| MasterKey::parse(key.expose()).expect("good").id().to_owned();
    for refused in [
        elsewhere.check().await,
        elsewhere.verify().await.map(drop),
        elsewhere.open(None, PLACE, &sealed).await.map(drop),
        elsewhere.seal(None, PLACE, b"more").await.map(drop),
        elsewhere.rotate_master_key(&act()).await.map(drop),
    ] {
        let refused = refused.expect_err("the key is missing").to_string();
        assert!(refused.contains(&id(&right)) && refused.contains(&id(&wrong)), "{refused}");
        assert!(!refused.contains(right.expose()) && !refused.contains('\n'), "{refused}");
    }
}

#[tokio::test]
async fn the_master_key_is_replaced_while_servers_run() {
    let (store, old, new) = (Arc::new(MemoryStore::exclusive()), MasterKey::generate(), MasterKey::generate());
    let running = vault(&store, &[&old, &new]);
    let mut sealed = Vec::new();
    for owner in [None, tenant(1), tenant(2)] {
        sealed.push((owner, running.seal(owner, PLACE, b"hunter2").await.expect("sealed")));
    }
    let command = vault(&store, &[&new, &old]);
    let first = command.rotate_master_key(&act()).await.expect("both are known");
    assert_eq!((first.rewrapped, first.already), (3, 0));
    let again = command.rotate_master_key(&act()).await.expect("both are known");
    assert_eq!((again.rewrapped, again.already), (0, 3), "a second run finds it done");
    running.forget();
    let after = vault(&store, &[&new]);
    assert_eq!(after.verify().await.expect("the old one is not needed"), 3);
    for (owner, sealed) in &sealed {
        assert!(opens(&running, *owner, sealed).await && opens(&after, *owner, sealed).await);
    }
    let without = vault(&store, &[&old]).verify().await;
    assert!(matches!(without, Err(VaultError::UnknownMasterKey { .. })), "{without:?}");
}

#[tokio::test]
async fn a_key_file_is_read_again_when_a_key_is_missing() {
    let (store, old, new) = (Arc::new(MemoryStore::exclusive()), MasterKey::generate(), MasterKey::generate());
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("keys");
    let with_file = || {
        let source = MasterKeySource::File(file.clone());
        Vault::new(Arc::clone(&store) as _, Arc::new(SystemClock::new()), source)
    };
    std::fs::write(&file, old.expose()).expect("written");
    let running = with_file();
    let sealed = running.seal(None, PLACE, b"hunter2").await.expect("sealed");
    std::fs::write(&file, format!("{}\n{}\n", new.expose(), old.expose())).expect("written");
    with_file().rotate_master_key(&act()).await.expect("both are known");
    running.opened.clear();
    assert!(opens(&running, None, &sealed).await, "without a restart");
}

#[tokio::test]
async fn a_new_data_key_seals_what_comes_and_the_old_one_opens_what_was() {
    let (store, key) = (Arc::new(MemoryStore::exclusive()), MasterKey::generate());
    let vault = vault(&store, &[&key]);
    let before = vault.seal(tenant(1), PLACE, b"hunter2").await.expect("sealed");
    let id = vault.rotate_data_key(tenant(1), &act()).await.expect("made");
    let after = vault.seal(tenant(1), PLACE, b"hunter2").await.expect("sealed");
    assert!(after.contains(&id.to_string()) && !before.contains(&id.to_string()));
    assert!(opens(&vault, tenant(1), &before).await && opens(&vault, tenant(1), &after).await);
}

#[tokio::test]
async fn what_the_keys_of_a_tenant_sealed_is_gone_with_them() {
    let (store, key) = (Arc::new(MemoryStore::exclusive()), MasterKey::generate());
    let vault = vault(&store, &[&key]);
    let gone = vault.seal(tenant(1), PLACE, b"hunter2").await.expect("sealed");
    let kept = vault.seal(tenant(2), PLACE, b"hunter2").await.expect("sealed");
    assert!(opens(&vault, tenant(1), &gone).await);
    assert_eq!(vault.shred(TenantId::from_u128(1), &act()).await.expect("writable"), 1);
    let shredded = vault.open(tenant(1), PLACE, &gone).await;
    assert!(matches!(shredded, Err(VaultError::Shredded)), "{shredded:?}");
    assert!(opens(&vault, tenant(2), &kept).await);
}

#[tokio::test]
async fn a_data_folder_gets_its_key_once_and_a_shared_database_never() {
    let (store, folder) = (Arc::new(MemoryStore::exclusive()), tempfile::tempdir().expect("folder"));
    let over = |source| Vault::new(Arc::clone(&store) as _, Arc::new(SystemClock::new()), source);
    let shared = over(MasterKeySource::SharedFolder(folder.path().into()));
    shared.check().await.expect("nothing needs a key yet");
    let refused = shared.seal(None, PLACE, b"hunter2").await.expect_err("no key").to_string();
    assert!(refused.contains("CFR_MASTER_KEY") && refused.contains("secrets new-key"), "{refused}");

    let own = over(MasterKeySource::Folder(folder.path().into()));
    own.check().await.expect("made");
    let sealed = own.seal(None, PLACE, b"hunter2").await.expect("sealed");
    std::fs::remove_file(folder.path().join("master.key")).expect("it was made");
    let lost = over(MasterKeySource::Folder(folder.path().into()));
    let refused = lost.check().await.expect_err("a new one would open nothing").to_string();
    assert!(refused.contains("master.key"), "{refused}");
    assert!(!folder.path().join("master.key").exists());
    assert!(opens(&own, None, &sealed).await, "who has read it goes on");
}
