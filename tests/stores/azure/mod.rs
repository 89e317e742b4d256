//! The conformance suite against Azurite, and what only it can show.

use std::collections::BTreeMap;

use barkeep::{
    model::desired::AzureOptions,
    store::{
        Key, ListRequest, Meaning, PutMode, PutOptions, Store, StoreExt, Tags, azure::Azure,
        conformance,
    },
};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::{
    key, meaning,
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
async fn the_page_size_changes_nothing() {
    let Some(server) = Azurite::start() else {
        return;
    };
    let store = container(&server, "pages").await;
    let keys: Vec<Key> = (0..2_500)
        .map(|number| key(&format!("many/{number:04}")))
        .collect();
    let writes = keys
        .iter()
        .map(|key| store.put_text(key, "x", PutMode::Create));
    let written: Result<Vec<_>, _> = futures_util::stream::iter(writes)
        .buffer_unordered(16)
        .try_collect()
        .await;
    assert_eq!(written.expect("all are written").len(), keys.len());
    for limit in [1_000, 5_000] {
        let mut request = ListRequest {
            limit: Some(limit),
            ..ListRequest::below("many/")
        };
        let mut listed = Vec::new();
        loop {
            let page = store.list(request.clone()).await.expect("a page");
            assert!(page.objects.len() <= limit);
            listed.extend(page.objects.into_iter().map(|object| object.key));
            let Some(next) = page.next else { break };
            request.token = Some(next);
        }
        assert!(listed == keys, "pages of {limit}");
    }
    let after = Some("many/2497".to_owned());
    let rest: Vec<_> = store
        .list_range("many/", after, None)
        .try_collect()
        .await
        .expect("a listing");
    let rest: Vec<_> = rest.iter().map(|object| object.key.as_str()).collect();
    assert_eq!(rest, ["many/2498", "many/2499"]);
    let deleted = store.delete(&keys).await;
    assert!(deleted.iter().all(|deleted| deleted.outcome.is_ok()));
    assert_eq!(store.list_all("").count().await, 0);
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
    let missing = Some(Meaning::BucketMissing);
    assert_eq!(meaning(store.head(&key("a")).await), missing);
    assert_eq!(meaning(store.get_text(&key("a")).await), missing);
    assert_eq!(
        meaning(store.put_text(&key("a"), "x", PutMode::Create).await),
        missing
    );
    assert_eq!(
        meaning(store.list_all("").next().await.expect("an answer")),
        missing
    );
    assert_eq!(meaning(store.check_reachable().await), missing);
    drop(server);
    assert_eq!(
        meaning(store.get_text(&key("a")).await),
        Some(Meaning::Unreachable)
    );
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
    // What Barman writes where the URL ends with a slash.
    let found = Key::verbatim("/srv/keep");
    store
        .put_text(&found, "plain", PutMode::Create)
        .await
        .expect("written");
    let page = store
        .list_all("")
        .next()
        .await
        .expect("one")
        .expect("a listing");
    assert_eq!(page.key, found);
    assert_eq!(store.get_text(&found).await.expect("it is read"), "plain");
    store.delete(std::slice::from_ref(&found)).await;
    assert!(!store.exists(&found).await.expect("a fact"));
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
