//! Holds, retention, versions: what they forbid, and how listings tell of them.

use barkeep::store::{Meaning, PutMode, Store, StoreExt, gcs::Gcs};
use futures_util::TryStreamExt;
use serde_json::Value;

use super::service;
use crate::{
    key, meaning,
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
    for object in &listed {
        let head = store.head(&object.key).await.expect("it is there");
        assert_eq!(object.lock, head.meta.lock, "listing and object agree");
        let lock = object.lock.as_ref().expect("it is told");
        let until = lock.retained.map(|(until, _)| until.to_string());
        let told = (lock.legal_hold, until.as_deref());
        let expected = match object.key.as_str() {
            "free" => (false, None),
            "retained" => (false, Some("2099-01-01T00:00:00Z")),
            _ => (true, None),
        };
        assert_eq!(told, expected, "{}", object.key);
    }
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

#[tokio::test]
async fn the_retention_of_a_bucket_holds_for_every_object() {
    let (service, store) = service(Rules {
        retained_seconds: Some(3600),
        ..Rules::default()
    });
    written(&store, "a").await;
    let lock = store.head(&key("a")).await.expect("it is there").meta.lock;
    assert!(lock.expect("it is told").retained.is_some());
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
}
