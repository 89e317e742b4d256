//! The conformance suite against servers that speak S3, and what only they can show.

use std::collections::BTreeMap;

use barkeep::{
    model::{
        desired::{Checksums, S3Options},
        lock::{DefaultLock, Lock, LockMode, Locking, Remains},
    },
    secret::Secret,
    store::{
        Meaning, PutMode, PutOptions, Store, StoreExt, Tags, conformance,
        s3::{AccessKeys, S3},
    },
};
use bytes::Bytes;

use crate::{alike, key, meaning, support::s3::Server};

mod credentials;
mod faults;
mod permissions;
mod picky;
mod wire;

fn options(url: &str, checksums: Checksums) -> S3Options {
    S3Options {
        endpoint_url: Some(url.to_owned()),
        region: Some("us-east-1".to_owned()),
        checksums,
        ..S3Options::default()
    }
}

fn keys(secret: &str) -> AccessKeys {
    AccessKeys {
        id: "testkey".to_owned(),
        secret: Secret::new(secret.to_owned()),
    }
}

async fn store(place: (&str, &str), options: &S3Options) -> S3 {
    S3::with_keys(place.0, place.1, options, Some(keys("testsecret1"))).await
}

#[tokio::test]
async fn moto_conforms() {
    let Some(server) = Server::moto() else { return };
    let options = options(&server.url(), Checksums::WhenSupported);
    let store = store(("conforming", "some/prefix"), &options).await;
    store.create_destination().await.expect("a bucket");
    store.create_destination().await.expect("it is there");
    conformance::all(&store).await;
}

#[tokio::test]
async fn a_strict_server_conforms_with_every_kind_of_checksum() {
    let Some(server) = Server::s3s() else { return };
    for (bucket, checksums) in [
        ("supported", Checksums::WhenSupported),
        ("required", Checksums::WhenRequired),
    ] {
        let store = store((bucket, ""), &options(&server.url(), checksums)).await;
        store.create_destination().await.expect("a bucket");
        // It looks and then writes, so its conditions do not hold among several clients.
        conformance::basic(&store).await;
    }
}

#[tokio::test]
async fn a_missing_bucket_is_not_a_missing_object_nor_a_missing_server() {
    let Some(server) = Server::moto() else { return };
    let options = options(&server.url(), Checksums::WhenSupported);
    let store = store(("nothere", ""), &options).await;
    alike::a_missing_bucket_is_told(&store).await;
    drop(server);
    alike::a_missing_server_is_told(&store).await;
}

#[tokio::test]
async fn a_wrong_key_is_refused() {
    let Some(server) = Server::s3s() else { return };
    let options = options(&server.url(), Checksums::WhenSupported);
    let store = S3::with_keys("bucket", "", &options, Some(keys("wrong"))).await;
    let refused = Some(Meaning::PermissionDenied);
    assert_eq!(meaning(store.get_text(&key("a")).await), refused);
    assert_eq!(meaning(store.check_reachable().await), refused);
}

#[tokio::test]
async fn where_versions_and_locks_are_kept_a_delete_hides_and_the_locks_are_told() {
    let Some(server) = Server::moto() else { return };
    server.send(
        "PUT",
        "/locked",
        "x-amz-bucket-object-lock-enabled: true\r\n",
        "",
    );
    let options = options(&server.url(), Checksums::WhenSupported);
    let store = store(("locked", "p"), &options).await;
    let (free, kept, held) = (key("free"), key("kept"), key("held"));
    for key in [&free, &kept, &held] {
        store
            .put_text(key, "x", PutMode::Create)
            .await
            .expect("written");
    }
    let retention = "<Retention><Mode>COMPLIANCE</Mode>\
                     <RetainUntilDate>2099-01-01T00:00:00Z</RetainUntilDate></Retention>";
    for name in ["kept", "held"] {
        server.send("PUT", &format!("/locked/p/{name}?retention"), "", retention);
    }
    server.send(
        "PUT",
        "/locked/p/held?legal-hold",
        "",
        "<LegalHold><Status>ON</Status></LegalHold>",
    );

    let gone = key("gone");
    let keys = [free.clone(), kept, held.clone(), gone];
    let until = "2099-01-01T00:00:00Z".parse().expect("an instant");
    let locked = Lock::until(until, LockMode::Compliance);
    let expected = [Lock::Free, locked, Lock::Held, Lock::Free];
    assert_eq!(store.locks(&keys).await, expected);
    let retention = store.retention().await.expect("an answer");
    assert_eq!(retention.locking, Locking::On { default: None });
    assert_eq!(retention.remains, Remains::Version { kept: None });

    let deleted = store.delete(&[held.clone(), free]).await;
    assert!(
        deleted.iter().all(|deleted| deleted.outcome.is_ok()),
        "{deleted:?}"
    );
    assert_eq!(meaning(store.head(&held).await), Some(Meaning::NotFound));
    let versions = server.send("GET", "/locked?versions", "", "");
    assert_eq!(versions.matches("<DeleteMarker>").count(), 2, "{versions}");
    assert_eq!(versions.matches("<Version>").count(), 3, "{versions}");
}

#[tokio::test]
async fn what_a_bucket_does_by_itself_is_told() {
    let Some(server) = Server::moto() else { return };
    let lock = "x-amz-bucket-object-lock-enabled: true\r\n";
    server.send("PUT", "/bounded", lock, "");
    let default = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule>\
                   <DefaultRetention><Mode>GOVERNANCE</Mode><Days>30</Days></DefaultRetention>\
                   </Rule></ObjectLockConfiguration>";
    server.send("PUT", "/bounded?object-lock", "", default);
    let rule = "<LifecycleConfiguration><Rule><ID>r</ID><Filter><Prefix></Prefix></Filter>\
                <Status>Enabled</Status><NoncurrentVersionExpiration><NoncurrentDays>7\
                </NoncurrentDays></NoncurrentVersionExpiration></Rule></LifecycleConfiguration>";
    server.send("PUT", "/bounded?lifecycle", "", rule);
    let options = options(&server.url(), Checksums::WhenSupported);
    let store = store(("bounded", "p"), &options).await;
    let days = |days: u64| Some(std::time::Duration::from_hours(24 * days));
    let retention = store.retention().await.expect("an answer");
    let default = Some(DefaultLock {
        mode: LockMode::Governance,
        period: days(30),
    });
    assert_eq!(retention.locking, Locking::On { default });
    assert_eq!(retention.remains, Remains::Version { kept: days(7) });
}

#[tokio::test]
async fn tags_are_those_that_were_asked_for() {
    let Some(server) = Server::moto() else { return };
    let configured = BTreeMap::from([("team of".to_owned(), "db+co/=".to_owned())]);
    let options = S3Options {
        tags: configured,
        ..options(&server.url(), Checksums::WhenSupported)
    };
    let store = store(("tagged", ""), &options).await;
    store.create_destination().await.expect("a bucket");
    let put = |name: &'static str, tags| {
        let options = PutOptions {
            mode: PutMode::Create,
            tags,
        };
        let store = &store;
        async move {
            store
                .put(&key(name), Bytes::from_static(b"x"), options)
                .await
        }
    };
    put("a", Tags::Configured).await.expect("written");
    put("b", Tags::Exactly(BTreeMap::new()))
        .await
        .expect("written");
    let tags = |name| server.send("GET", &format!("/tagged/{name}?tagging"), "", "");
    let told = tags("a");
    assert!(told.contains("<Key>team of</Key>") && told.contains("<Value>db+co/=</Value>"));
    assert!(!tags("b").contains("<Key>"));
}

#[tokio::test]
async fn a_key_that_another_client_spelled_otherwise_is_found_and_read() {
    let Some(server) = Server::moto() else { return };
    let options = options(&server.url(), Checksums::WhenSupported);
    let store = store(("foreign", "c"), &options).await;
    store.create_destination().await.expect("a bucket");
    let path = format!("/foreign/c/{}", alike::spelled_otherwise());
    server.send("PUT", &path, "", "plain");
    alike::what_is_spelled_otherwise_is_found_and_read(&store).await;
}
