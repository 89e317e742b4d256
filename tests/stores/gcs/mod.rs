//! Google Cloud Storage: the conformance suite over the tests' own service and over an emulator, and what only Google's has.

use std::collections::BTreeMap;

use barkeep::{
    model::desired::GcsOptions,
    store::{
        ChecksumAlgorithm, Key, Meaning, PutMode, PutOptions, Store, StoreExt, Tags, UploadOptions,
        conformance,
        gcs::{Environment, Gcs},
    },
};
use bytes::Bytes;
use serde_json::Value;

use crate::{
    alike, key, meaning,
    support::{
        gcs::{Gcs as Service, Rules},
        s3::Server,
    },
};

mod credentials;
mod faults;
mod locks;
mod process;

const MIB: usize = 1 << 20;

/// A store in a bucket of an emulator.
fn emulated(url: &str, prefix: &str, options: &GcsOptions) -> Gcs {
    let around = Environment {
        emulator: Some(url.to_owned()),
        ..Environment::default()
    };
    Gcs::open_in(&around, "bucket", prefix, options).expect("a store")
}

/// A service with a bucket, and a store in it.
fn service(rules: Rules) -> (Service, Gcs) {
    let service = Service::start();
    service.create_bucket("bucket", rules);
    let store = emulated(&service.url(), "p", &GcsOptions::default());
    (service, store)
}

fn upload_options(mode: PutMode) -> UploadOptions {
    UploadOptions {
        part_bytes: 5 << 20,
        mode,
        tags: Tags::default(),
    }
}

#[tokio::test]
async fn the_service_conforms() {
    for prefix in ["", "some/pre fix"] {
        let service = Service::start();
        let store = emulated(&service.url(), prefix, &GcsOptions::default());
        store.create_destination().await.expect("a bucket");
        store.create_destination().await.expect("it is there");
        conformance::all(&store).await;
    }
}

/// It heeds no condition, gives whole listings whatever page is asked for, and answers one client at a time.
#[tokio::test]
async fn an_emulator_conforms_in_what_it_knows() {
    let Some(server) = Server::gcs_emulator() else {
        return;
    };
    let store = emulated(&server.url(), "some/prefix", &GcsOptions::default());
    store.create_destination().await.expect("a bucket");
    store.check_reachable().await.expect("it is reachable");
    conformance::put_get_head_delete(&store).await;
    conformance::ranges(&store).await;
    conformance::odd_keys(&store).await;
    conformance::absence(&store).await;
    conformance::uploads(&store).await;
    conformance::lengths(&store).await;
    conformance::broken_uploads(&store).await;
    conformance::unfinished_uploads(&store).await;
    conformance::locks(&store).await;
    conformance::time(&store).await;
}

#[tokio::test]
async fn a_hundred_go_in_one_request() {
    let (service, store) = service(Rules::default());
    let keys: Vec<Key> = (0..250).map(|number| key(&number.to_string())).collect();
    let deleted = store.delete(&keys).await;
    assert!(deleted.iter().all(|deleted| deleted.outcome.is_ok()));
    let asked = service.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|asked| asked.starts_with("POST /batch/")));
}

#[tokio::test]
async fn the_checksum_of_an_object_is_that_of_all_its_parts() {
    let (_service, store) = service(Rules::default());
    let content = Bytes::from(vec![7; 5 * MIB + 1]);
    let name = key("put");
    let put = store.put(&name, content.clone(), PutOptions::default());
    let put = put.await.expect("written").checksum.expect("a checksum");
    assert_eq!(put.algorithm, ChecksumAlgorithm::Crc32c);
    for mode in [PutMode::Overwrite, PutMode::Create] {
        let name = key(&format!("{mode:?}"));
        let upload = store.begin_upload(&name, upload_options(mode)).await;
        let upload = upload.expect("it begins");
        let first = upload.put_part(1, content.slice(..5 * MIB)).await;
        let second = upload.put_part(2, content.slice(5 * MIB..)).await;
        let parts = vec![first.expect("a part"), second.expect("a part")];
        let stored = upload.complete(parts).await.expect("it is complete");
        assert_eq!(stored.checksum.as_ref(), Some(&put));
    }
}

#[tokio::test]
async fn an_upload_of_many_parts_with_a_condition_is_composed_in_rounds() {
    let (service, store) = service(Rules::default());
    let upload = store
        .begin_upload(&key("a"), upload_options(PutMode::Create))
        .await;
    let upload = upload.expect("it begins");
    let mut parts = Vec::new();
    for number in 1..=70_u8 {
        let part = Bytes::from(vec![number; 10]);
        parts.push(
            upload
                .put_part(u32::from(number), part)
                .await
                .expect("a part"),
        );
    }
    let stored = upload.complete(parts).await.expect("it is complete");
    let content = store.get_bytes(&key("a")).await.expect("it is read");
    let expected: Vec<u8> = (1..=70).flat_map(|number| [number; 10]).collect();
    assert!(content == expected);
    let head = store.head(&key("a")).await.expect("it is there");
    assert_eq!(head.meta.version, stored.version);
    let left = service.send("GET", "/storage/v1/b/bucket/o", "");
    let left: Value = serde_json::from_str(&left).expect("JSON");
    assert_eq!(
        left["items"].as_array().map(Vec::len),
        Some(1),
        "no part is left"
    );
}

#[tokio::test]
async fn parts_of_an_unfinished_upload_are_outside_of_every_catalog() {
    let (service, store) = service(Rules::default());
    for mode in [PutMode::Create, PutMode::Overwrite] {
        let upload = store
            .begin_upload(&key("srv/base/1/data.tar"), upload_options(mode))
            .await;
        let part = upload
            .expect("it begins")
            .put_part(1, Bytes::from_static(b"x"))
            .await;
        part.expect("a part");
    }
    let (prefixes, objects) = store.list_children("").await.expect("a listing");
    assert!(prefixes.is_empty() && objects.is_empty(), "{prefixes:?}");
    let all = service.send("GET", "/storage/v1/b/bucket/o", "");
    let all: Value = serde_json::from_str(&all).expect("JSON");
    let names = all["items"].as_array().expect("one");
    assert!(
        names[0]["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("p/.barkeep-uploads/"))
    );
    assert_eq!(
        names.len(),
        1,
        "parts of the service's own uploads are no objects"
    );
    let pending = store.list_uploads("srv/base/").await.expect("uploads");
    assert_eq!(pending.len(), 2);
    assert!(
        store
            .list_uploads("srv/wals/")
            .await
            .expect("uploads")
            .is_empty()
    );
}

#[tokio::test]
async fn what_is_configured_is_written_with_every_object() {
    let service = Service::start();
    service.create_bucket("bucket", Rules::default());
    let kms_key = "projects/p/locations/l/keyRings/r/cryptoKeys/k";
    let options = GcsOptions {
        kms_key: Some(kms_key.to_owned()),
        tags: BTreeMap::from([("team".to_owned(), "db & co".to_owned())]),
        ..GcsOptions::default()
    };
    let store = emulated(&service.url(), "", &options);
    let put = |name, tags| {
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
    put("put", Tags::Configured).await.expect("written");
    put("plain", Tags::Exactly(BTreeMap::new()))
        .await
        .expect("written");
    for (name, mode) in [
        ("multipart", PutMode::Overwrite),
        ("composed", PutMode::Create),
    ] {
        let upload = store.begin_upload(&key(name), upload_options(mode)).await;
        let upload = upload.expect("it begins");
        let part = upload
            .put_part(1, Bytes::from_static(b"x"))
            .await
            .expect("a part");
        upload.complete(vec![part]).await.expect("it is complete");
    }
    let found = |name: &str| -> Value {
        let found = service.send("GET", &format!("/storage/v1/b/bucket/o/{name}"), "");
        serde_json::from_str(&found).expect("JSON")
    };
    for name in ["put", "multipart", "composed"] {
        assert_eq!(found(name)["metadata"]["team"], "db & co", "{name}");
        assert_eq!(found(name)["kmsKeyName"], kms_key, "{name}");
        assert_eq!(
            found(name)["contentType"],
            "application/octet-stream",
            "{name}"
        );
    }
    assert_eq!(found("plain")["metadata"]["team"], Value::Null);
}

#[tokio::test]
async fn a_missing_bucket_is_not_a_missing_object_nor_a_missing_server() {
    let service = Service::start();
    let store = emulated(&service.url(), "", &GcsOptions::default());
    alike::a_missing_bucket_is_told(&store).await;
    let nowhere = emulated("http://127.0.0.1:1", "", &GcsOptions::default());
    alike::a_missing_server_is_told(&nowhere).await;
}

#[tokio::test]
async fn what_arrives_damaged_is_refused_in_both_directions() {
    let (service, store) = service(Rules::default());
    store
        .put_text(&key("a"), "plain", PutMode::Create)
        .await
        .expect("written");
    let target = "/upload/storage/v1/b/bucket/o?uploadType=multipart&name=b";
    let body = "--x\r\n\r\n{\"crc32c\": \"AAAAAA==\"}\r\n--x\r\n\r\nabc\r\n--x--\r\n";
    let refused = service.try_send("POST", target, "multipart/related; boundary=x", body);
    assert!(refused.is_err(), "the service checks what it is sent");
    service.damage("bucket", "p/a");
    let read = store.get_text(&key("a")).await;
    assert_eq!(meaning(read), Some(Meaning::Checksum));
}
