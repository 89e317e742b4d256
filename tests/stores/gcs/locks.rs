//! Holds, retention, versions: what they forbid, and how listings tell of them.

use std::time::Duration;

use barkeep::{
    model::{
        desired::GcsOptions,
        lock::{DefaultLock, Lock, LockMode, Locking, Remains},
    },
    store::{Key, Meaning, PutMode, Store, StoreExt, gcs::Gcs},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use super::{emulated, service};
use crate::{
    key, meaning, sdk,
    support::gcs::{Gcs as Service, Rules},
};

async fn written(store: &Gcs, name: &str) {
    let put = store.put_text(&key(name), "x", PutMode::Overwrite).await;
    put.expect("written");
}

fn patch(service: &Service, name: &str, fields: &str) {
    service.send(
        "PATCH",
        &format!("/storage/v1/b/bucket/o/p%2F{name}"),
        fields,
    );
}

fn objects(service: &Service, parameters: &str) -> usize {
    let target = format!("/storage/v1/b/bucket/o?{parameters}");
    let listed: Value = serde_json::from_str(&service.send("GET", &target, "")).expect("JSON");
    listed["items"].as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn what_is_held_or_retained_is_told_by_listings_and_cannot_be_deleted() {
    let (service, store) = service(Rules::default());
    let locks = [
        ("event", r#"{"eventBasedHold": true}"#),
        (
            "retained",
            r#"{"retention": {"mode": "Locked", "retainUntilTime": "2099-01-01T00:00:00Z"}}"#,
        ),
        ("temporary", r#"{"temporaryHold": true}"#),
    ];
    written(&store, "free").await;
    for (name, fields) in locks {
        written(&store, name).await;
        patch(&service, name, fields);
    }
    let listed: Vec<_> = store.list_all("").try_collect().await.expect("a listing");
    let until = "2099-01-01T00:00:00Z".parse().expect("an instant");
    let retained = Lock::until(until, LockMode::Compliance);
    for object in &listed {
        let head = store.head(&object.key).await.expect("it is there");
        assert_eq!(object.lock, head.meta.lock, "listing and object agree");
        let expected = match object.key.as_str() {
            "free" => Lock::Free,
            "retained" => retained.clone(),
            _ => Lock::Held,
        };
        assert_eq!(object.lock, Some(expected), "{}", object.key);
    }
    service.asked();
    let asked = ["temporary", "gone", "retained", "free"].map(key);
    let expected = [Lock::Held, Lock::Free, retained, Lock::Free];
    assert_eq!(store.locks(&asked).await, expected);
    assert_eq!(service.asked().len(), 1, "one listing tells all");
    let keys: Vec<_> = listed.iter().map(|object| object.key.clone()).collect();
    let outcome = |deleted: &barkeep::store::Deleted| meaning(deleted.outcome.clone());
    for deleted in store.delete(&keys).await {
        let expected = (deleted.key.as_str() != "free").then_some(Meaning::Locked);
        assert_eq!(outcome(&deleted), expected, "{deleted:?}");
    }
    let alone = store.delete(&[key("retained")]).await;
    assert_eq!(outcome(&alone[0]), Some(Meaning::Locked));
    let again = store
        .put_text(&key("temporary"), "y", PutMode::Overwrite)
        .await;
    assert_eq!(meaning(again), Some(Meaning::Locked));
}

/// The tests' own service is one to Google's client for Python, too, and what that locks is locked for barkeep.
#[tokio::test]
async fn what_googles_client_locks_is_locked() {
    let service = Service::start();
    if sdk::ask("googles.py", &service.url()).is_none() {
        return;
    }
    let store = emulated(&service.url(), "kept", &GcsOptions::default());
    let listed: Vec<_> = store.list_all("").try_collect().await.expect("a listing");
    let told = listed.into_iter().map(|object| (object.key, object.lock));
    let until = "2099-01-01T00:00:00Z".parse().expect("an instant");
    let expected = [
        ("event", Lock::Held),
        ("free", Lock::Free),
        ("retained", Lock::until(until, LockMode::Compliance)),
        ("temporary", Lock::Held),
    ];
    let expected = expected.map(|(name, lock)| (key(name), Some(lock)));
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_retention_that_has_passed_locks_nothing() {
    let (service, store) = service(Rules::default());
    let passed = r#"{"retention": {"mode": "Locked", "retainUntilTime": "2020-01-01T00:00:00Z"}}"#;
    for name in ["a", "b"] {
        written(&store, name).await;
        patch(&service, name, passed);
    }
    let listed: Vec<_> = store.list_all("").try_collect().await.expect("a listing");
    let told: Vec<_> = listed.into_iter().map(|object| object.lock).collect();
    assert_eq!(told, [Some(Lock::Free), Some(Lock::Free)]);
    assert_eq!(store.locks(&[key("a")]).await, [Lock::Free]);
    assert_eq!(
        store.locks(&[key("a"), key("b")]).await,
        vec![Lock::Free; 2]
    );
}

#[tokio::test]
async fn the_locks_of_many_cost_a_page_for_a_thousand_and_leap_over_others() {
    let (service, store) = service(Rules::default());
    let backups = (0..10).flat_map(|day| {
        ["backup.info", "data.tar"].map(|name| format!("srv/base/202611{day:02}T000000/{name}"))
    });
    let wal = (0..500).map(|number| format!("srv/wals/0000000100000000/{number:024}.gz"));
    let wanted: Vec<Key> = backups.chain(wal).map(|name| key(&name)).collect();
    let others = (0..2_500).map(|number| key(&format!("srv/other/{number:04}")));
    let all: Vec<Key> = wanted.iter().cloned().chain(others).collect();
    let writes = all
        .iter()
        .map(|key| store.put_text(key, "x", PutMode::Create));
    let written: Vec<_> = stream::iter(writes).buffer_unordered(16).collect().await;
    assert!(written.iter().all(Result::is_ok));
    service.asked();
    let locks = store.locks(&wanted).await;
    assert!(locks.len() == 520 && locks.iter().all(|lock| *lock == Lock::Free));
    assert_eq!(service.asked().len(), 2, "the backups, and the WAL");
    let mut apart = all;
    apart.sort();
    let apart: Vec<Key> = apart.into_iter().step_by(1_500).collect();
    assert_eq!(store.locks(&apart).await.len(), 3);
    assert_eq!(service.asked().len(), 3, "no page in between");
}

#[tokio::test]
async fn the_retention_of_a_bucket_holds_for_every_object() {
    let (service, store) = service(Rules {
        retained_seconds: Some(3600),
        ..Rules::default()
    });
    written(&store, "a").await;
    let [lock] = &store.locks(&[key("a")]).await[..] else {
        panic!("one verdict")
    };
    assert!(
        matches!(lock, Lock::LockedUntil { until: Some(_), .. }),
        "{lock}"
    );
    let default = Some(DefaultLock {
        mode: LockMode::Governance,
        period: Some(Duration::from_hours(1)),
    });
    let told = store.retention().await.expect("it is told");
    assert_eq!(told.locking, Locking::On { default });
    let deleted = store.delete(&[key("a")]).await;
    assert_eq!(meaning(deleted[0].outcome.clone()), Some(Meaning::Locked));
    assert_eq!(objects(&service, ""), 1);
}

#[tokio::test]
async fn where_versions_are_kept_a_delete_hides() {
    let (service, store) = service(Rules {
        has_versions: true,
        retained_seconds: Some(3600),
        ..Rules::default()
    });
    written(&store, "a").await;
    written(&store, "a").await;
    let deleted = store.delete(&[key("a")]).await;
    assert!(deleted[0].outcome.is_ok(), "{deleted:?}");
    assert!(!store.exists(&key("a")).await.expect("a fact"));
    assert_eq!(
        (objects(&service, ""), objects(&service, "versions=true")),
        (0, 2)
    );
    let told = store.retention().await.expect("it is told");
    assert_eq!(told.remains, Remains::Version { kept: None });
}

#[tokio::test]
async fn what_is_softly_deleted_is_gone_to_us_and_can_be_had_back() {
    let (service, store) = service(Rules {
        soft_deleted_seconds: Some(604_800),
        ..Rules::default()
    });
    written(&store, "a").await;
    store.delete(&[key("a")]).await;
    assert!(!store.exists(&key("a")).await.expect("a fact"));
    assert_eq!(
        (objects(&service, ""), objects(&service, "softDeleted=true")),
        (0, 1)
    );
    let kept = Duration::from_hours(7 * 24);
    let told = store.retention().await.expect("it is told");
    assert_eq!(told.remains, Remains::SoftDeleted { kept });
}

#[tokio::test]
async fn what_may_not_be_seen_is_unknown() {
    let (service, store) = service(Rules::default());
    service.refuse(&[403]);
    let told = store.retention().await.expect("it is told");
    assert!(matches!(told.locking, Locking::Unknown(_)), "{told:?}");
    for keys in [vec![key("a")], vec![key("a"), key("b")]] {
        service.refuse(&[403]);
        let locks = store.locks(&keys).await;
        let is_unknown = |lock: &Lock| matches!(lock, Lock::Unknown(_));
        assert!(
            locks.len() == keys.len() && locks.iter().all(is_unknown),
            "{locks:?}"
        );
    }
}
