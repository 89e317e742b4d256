//! The conformance suite against Azurite, and what only it can show.

use std::collections::BTreeMap;

use barkeep::{
    model::desired::AzureOptions,
    store::{Meaning, PutMode, PutOptions, Store, StoreExt, Tags, azure::Azure, conformance},
};
use bytes::Bytes;

use crate::{
    alike, key, meaning,
    support::{
        azurite::{Azurite, account_url},
        http::{Standin, forward},
    },
};

mod credentials;
mod faults;
mod wire;

async fn container(server: &Azurite, name: &str) -> Azure {
    let store = server.store(name, "some/prefix");
    store.create_destination().await.expect("a container");
    store
}

#[tokio::test]
async fn azurite_conforms() {
    let Some(server) = Azurite::start() else {
        return;
    };
    let store = container(&server, "conforming").await;
    store.create_destination().await.expect("it is there");
    conformance::all(&store).await;
}

#[tokio::test]
async fn a_large_object_is_sent_in_blocks_and_is_one_object() {
    let Some(server) = Azurite::start() else {
        return;
    };
    container(&server, "large").await;
    let options = AzureOptions {
        max_single_put_bytes: Some(1 << 20),
        max_block_bytes: Some(256 << 10),
        encryption_scope: Some("scope1".to_owned()),
        ..server.options(&server.url())
    };
    let store = Azure::open(&server.account_url(), "large", "", &options).expect("a store");
    let content: Vec<u8> = (0..3_000_000_u32)
        .flat_map(u32::to_le_bytes)
        .take(3_000_001)
        .collect();
    let content = Bytes::from(content);
    let (name, put) = (key("a b/ü"), PutOptions::mode(PutMode::Create));
    let stored = store
        .put(&name, content.clone(), put.clone())
        .await
        .expect("it is written");
    let head = store.head(&name).await.expect("it is there");
    assert_eq!(
        (head.meta.size, &head.meta.version),
        (3_000_001, &stored.version)
    );
    assert_eq!(head.meta.checksum, stored.checksum);
    assert!(store.get_bytes(&name).await.expect("it is read") == content);
    let again = store.put(&name, content, put).await;
    assert_eq!(meaning(again), Some(Meaning::AlreadyExists));
}

#[tokio::test]
async fn a_missing_container_is_not_a_missing_object_nor_a_missing_server() {
    let Some(server) = Azurite::start() else {
        return;
    };
    let store = server.store("nothere", "");
    alike::a_missing_bucket_is_told(&store).await;
    drop(server);
    alike::a_missing_server_is_told(&store).await;
}

#[tokio::test]
async fn tags_and_scope_are_those_that_were_asked_for() {
    let Some(server) = Azurite::start() else {
        return;
    };
    container(&server, "tagged").await;
    let upstream = server.url();
    let proxy = Standin::new(move |request| forward(request, &upstream));
    let options = AzureOptions {
        tags: BTreeMap::from([("team of".to_owned(), "db+co/=".to_owned())]),
        encryption_scope: Some("scope1".to_owned()),
        ..server.options(proxy.url())
    };
    let store = Azure::open(&account_url(proxy.url()), "tagged", "", &options).expect("a store");
    let cases = [
        ("a", Tags::Configured, Some("team%20of=db%2Bco%2F%3D")),
        ("b", Tags::Exactly(BTreeMap::new()), None),
    ];
    for (name, tags, expected) in cases {
        let options = PutOptions {
            mode: PutMode::Create,
            tags,
        };
        let (name, content) = (key(name), Bytes::from_static(b"x"));
        let put = store.put(&name, content, options).await;
        put.expect("written");
        let asked = proxy.asked().pop().expect("a request");
        assert_eq!(asked.header("x-ms-tags"), expected);
        assert_eq!(asked.header("x-ms-encryption-scope"), Some("scope1"));
        assert_eq!(asked.header("if-none-match"), Some("*"));
        assert_eq!(
            asked.header("content-md5"),
            Some("ndTkYSaMgDT1yFZOFVxnpg==")
        );
    }
}

#[tokio::test]
async fn a_key_that_another_client_spelled_otherwise_is_found_and_read() {
    let Some(server) = Azurite::start() else {
        return;
    };
    let store = container(&server, "foreign").await;
    let found = alike::spelled_otherwise();
    let written = store.put_text(&found, "plain", PutMode::Create).await;
    written.expect("written");
    alike::what_is_spelled_otherwise_is_found_and_read(&store).await;
}

#[tokio::test]
async fn a_backslash_is_never_taken_for_a_slash() {
    let Some(server) = Azurite::start() else {
        return;
    };
    let store = container(&server, "slashes").await;
    store
        .put_text(&key("a/b"), "x", PutMode::Create)
        .await
        .expect("written");
    let other = key("a\\b");
    let refused = Some(Meaning::Unsupported);
    assert_eq!(
        meaning(store.put_text(&other, "y", PutMode::Overwrite).await),
        refused
    );
    assert_eq!(meaning(store.get_text(&other).await), refused);
    let deleted = store.delete(&[other, key("c")]).await;
    assert_eq!(meaning(deleted[0].outcome.clone()), refused);
    assert!(deleted[1].outcome.is_ok());
    assert_eq!(store.get_text(&key("a/b")).await.expect("it stays"), "x");
}
