//! The contract of a [`Store`] as functions that run against any of them.
//!
//! Every function works below a prefix of its own, leaves nothing behind on success, and panics with what it expected. It is
//! the same suite for memory, directories and every cloud: what holds for the store that the tests use holds for the real ones.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, future::join_all};

use super::{
    GetOptions, GetRange, Key, ListRequest, Meaning, ObjectVersion, PutMode, PutOptions, Store,
    StoreExt, Stored, Tags, Upload, UploadOptions,
};
use crate::model::lock::Lock;

const MIB: usize = 1 << 20;

/// Runs everything.
pub async fn all(store: &dyn Store) {
    basic(store).await;
    race(store).await;
    unfinished_uploads(store).await;
}

/// Runs what also a store must do that knows no unfinished uploads, and whose conditions hold for one client at a time only.
pub async fn basic(store: &dyn Store) {
    store.check_reachable().await.expect("it is reachable");
    put_get_head_delete(store).await;
    ranges(store).await;
    odd_keys(store).await;
    absence(store).await;
    conditions(store).await;
    listing(store).await;
    uploads(store).await;
    lengths(store).await;
    broken_uploads(store).await;
    locks(store).await;
    time(store).await;
}

fn key(text: &str) -> Key {
    Key::new(text).expect("the suite's keys are normal")
}

async fn put(store: &dyn Store, key: &Key, content: &str) -> Stored {
    let content = Bytes::copy_from_slice(content.as_bytes());
    store
        .put(key, content, PutOptions::default())
        .await
        .expect("an object can be written")
}

async fn delete_all(store: &dyn Store, keys: &[Key]) {
    for deleted in store.delete(keys).await {
        deleted.outcome.expect("an object can be deleted");
    }
}

async fn listed(store: &dyn Store, prefix: &str) -> Vec<String> {
    let objects: Vec<_> = store
        .list_all(prefix)
        .try_collect()
        .await
        .expect("a prefix can be listed");
    let keys = objects
        .into_iter()
        .map(|object| object.key.as_str().to_owned());
    keys.collect()
}

/// What is written is read, told of alike by every answer, replaced by a later write, and gone after a delete.
pub async fn put_get_head_delete(store: &dyn Store) {
    let key = key("conformance/one/a");
    for content in ["", "x", "a longer text"] {
        let stored = put(store, &key, content).await;
        assert_eq!(store.get_text(&key).await.expect("it is there"), content);
        let head = store.head(&key).await.expect("it is there");
        assert_eq!(head.meta.size, content.len() as u64);
        assert_eq!(
            head.meta.version, stored.version,
            "one object has one version"
        );
        let page = store.list(ListRequest::below("conformance/one/")).await;
        let page = page.expect("it can be listed");
        assert_eq!(page.objects.len(), 1);
        assert_eq!(page.objects[0].key, key);
        assert_eq!(page.objects[0].size, content.len() as u64);
        let version = &page.objects[0].version;
        assert!(!version.is_told() || *version == stored.version);
        let lag = head.date.since(page.objects[0].last_modified);
        assert!(lag.as_secs() < 60, "the times are of one clock: {lag:?}");
    }
    delete_all(store, std::slice::from_ref(&key)).await;
    assert!(!store.exists(&key).await.expect("absence is known"));
    assert!(listed(store, "conformance/one/").await.is_empty());
}

/// Any range of an object can be read, whole or of one version.
pub async fn ranges(store: &dyn Store) {
    let key = key("conformance/ranges/a");
    // Longer than any buffer on the way.
    let content: Vec<u8> = (0..3 * MIB + 7)
        .map(|at| u8::try_from(at % 251).unwrap_or(0))
        .collect();
    let content = Bytes::from(content);
    let stored = store
        .put(&key, content.clone(), PutOptions::default())
        .await
        .expect("it can be written");
    let size = content.len() as u64;
    let cases = [
        (None, 0..size),
        (Some(GetRange::Bounded(0..1)), 0..1),
        (
            Some(GetRange::Bounded(1_000_000..2_500_000)),
            1_000_000..2_500_000,
        ),
        (Some(GetRange::Bounded(size - 1..size + 9)), size - 1..size),
        (Some(GetRange::From(size - 3)), size - 3..size),
    ];
    for (range, expected) in cases {
        let options = GetOptions {
            range: range.clone(),
            version: Some(stored.version.clone()),
        };
        let result = store.get(&key, options).await.expect("it can be read");
        assert_eq!(result.range, expected, "{range:?}");
        assert_eq!(result.meta.size, size, "the size is that of the object");
        let chunks: Vec<Bytes> = result.body.try_collect().await.expect("it can be read");
        let offset = |at: u64| usize::try_from(at).expect("a short object");
        let wanted = &content[offset(expected.start)..offset(expected.end)];
        assert!(chunks.concat() == wanted, "{range:?}");
    }
    let beyond = GetOptions::range(GetRange::From(size));
    let meaning = store.get(&key, beyond).await.err().map(|e| e.meaning);
    assert_eq!(meaning, Some(Meaning::Precondition), "beyond the end");
    put(store, &key, "another").await;
    let old = GetOptions {
        version: Some(stored.version),
        range: None,
    };
    let meaning = store.get(&key, old).await.err().map(|e| e.meaning);
    assert_eq!(meaning, Some(Meaning::Precondition), "an old version");
    delete_all(store, &[key]).await;
}

/// A key means itself, whatever characters it has, or is refused.
pub async fn odd_keys(store: &dyn Store) {
    let names = [
        "a b",
        "a+b",
        "a%20b",
        "a%2Fb",
        "äöü",
        "a&b=c?d#e",
        "a'\"b",
        "<a>",
        "a\\b",
        "日本",
        "~a:@!$*(),;",
    ];
    let mut keys: Vec<Key> = names
        .iter()
        .map(|name| key(&format!("conformance/odd/{name}/x")))
        .collect();
    let mut refused = Vec::new();
    for key in &keys {
        match store.put_text(key, key.as_str(), PutMode::Overwrite).await {
            Ok(_) => {}
            Err(error) if error.meaning == Meaning::Unsupported => refused.push(key.clone()),
            Err(error) => panic!("an object can be written: {error}"),
        }
    }
    keys.retain(|key| !refused.contains(key));
    for key in &keys {
        let text = store.get_text(key).await.expect("it is there");
        assert_eq!(text, key.as_str());
        assert_eq!(listed(store, key.as_str()).await, [key.as_str()]);
        store.head(key).await.expect("it is there");
    }
    let mut expected: Vec<&str> = keys.iter().map(Key::as_str).collect();
    expected.sort_unstable();
    assert_eq!(listed(store, "conformance/odd/").await, expected);
    delete_all(store, &keys).await;
    assert!(listed(store, "conformance/odd/").await.is_empty());
}

/// What is not there is not found, and deleting it is no failure.
pub async fn absence(store: &dyn Store) {
    let key = key("conformance/absent/a");
    let read = store.get(&key, GetOptions::default()).await;
    assert!(read.is_err_and(|error| error.is_not_found()));
    assert!(store.head(&key).await.is_err_and(|e| e.is_not_found()));
    assert_eq!(store.find(&key).await.expect("absence is known"), None);
    assert!(listed(store, "conformance/absent/").await.is_empty());
    delete_all(store, &[key]).await;
    assert!(store.delete(&[]).await.is_empty());
}

/// Create never overwrites, replace overwrites only what was read.
pub async fn conditions(store: &dyn Store) {
    let key = key("conformance/conditions/a");
    let attempt = |text: &'static str, mode| store.put_text(&key, text, mode);
    let meaning = |result: super::Result<Stored>| result.err().map(|error| error.meaning);
    let stranger = PutMode::Replace(ObjectVersion("\"0123\"".to_owned()));

    let refused = meaning(attempt("x", stranger.clone()).await);
    assert!(
        matches!(refused, Some(Meaning::Precondition)),
        "replace of nothing: {refused:?}"
    );
    let first = attempt("1", PutMode::Create).await.expect("it is absent");
    let refused = meaning(attempt("2", PutMode::Create).await);
    assert_eq!(refused, Some(Meaning::AlreadyExists), "create twice");
    let refused = meaning(attempt("2", stranger).await);
    assert_eq!(refused, Some(Meaning::Precondition), "a foreign version");
    assert_eq!(store.get_text(&key).await.expect("it is there"), "1");
    let second = attempt("2", PutMode::Replace(first.version.clone())).await;
    let second = second.expect("it is the version that was written");
    assert_ne!(first.version, second.version);
    let refused = meaning(attempt("3", PutMode::Replace(first.version)).await);
    assert_eq!(refused, Some(Meaning::Precondition), "an old version");
    assert_eq!(store.get_text(&key).await.expect("it is there"), "2");
    delete_all(store, &[key]).await;
}

/// Of several that create one object, or replace one version of it, exactly one succeeds, and its content is read.
pub async fn race(store: &dyn Store) {
    let key = key("conformance/race/a");
    let mut mode = PutMode::Create;
    for round in 0..3 {
        // Nobody writes the same twice: where a version is a checksum of the content, that would be no change.
        let text = |writer| format!("round {round} writer {writer}");
        let texts: Vec<String> = (0..8).map(text).collect();
        let writes = texts
            .iter()
            .map(|text| store.put_text(&key, text, mode.clone()));
        let results = join_all(writes).await;
        let mut winners = results
            .iter()
            .zip(&texts)
            .filter(|(result, _)| result.is_ok());
        let (stored, text) = winners.next().expect("one writer succeeds");
        assert!(
            winners.next().is_none(),
            "only one succeeds in round {round}"
        );
        let refused = |result: &super::Result<Stored>| {
            result.as_ref().is_err_and(|error| !error.is_conflict())
        };
        assert!(!results.iter().any(refused), "{results:?}");
        assert_eq!(store.get_text(&key).await.expect("it is there"), *text);
        let version = stored.as_ref().expect("the winner").version.clone();
        mode = PutMode::Replace(version);
    }
    delete_all(store, &[key]).await;
}

/// Listings are complete, in order, in pages of any size, up to a delimiter, from any key on; deletes are of any number.
pub async fn listing(store: &dyn Store) {
    let root = "conformance/listing/";
    let mut keys: Vec<Key> = (0..2_500)
        .map(|number| key(&format!("{root}many/{number:04}")))
        .collect();
    let many: Vec<String> = keys.iter().map(ToString::to_string).collect();
    // Where the order of bytes is not the order of a directory walk.
    let names = [
        "a", "a-b/x", "a.b", "a0", "b/y", "b/z/1", "c d/x", "c", "c.x/q",
    ];
    keys.extend(names.iter().map(|name| key(&format!("{root}order/{name}"))));
    let writes = keys.iter().map(|key| put(store, key, "x"));
    futures_util::stream::iter(writes)
        .buffer_unordered(16)
        .collect::<Vec<_>>()
        .await;

    for limit in [1_000, usize::MAX] {
        paged(store, &format!("{root}many/"), limit, &many).await;
    }
    paged(store, &format!("{root}many/24"), 1, &many[2_400..]).await;
    assert_eq!(listed(store, &format!("{root}many/000")).await.len(), 10);
    let order = format!("{root}order/");
    let names: BTreeSet<String> = names.iter().map(|name| format!("{order}{name}")).collect();
    let names: Vec<String> = names.into_iter().collect();
    assert_eq!(listed(store, &order).await, names);
    for limit in [1, 2, 3, 100] {
        paged(store, &order, limit, &names).await;
        delimited(store, &order, limit).await;
    }
    parts_of_a_listing(store, &order, &names).await;

    delete_all(store, &keys).await;
    assert!(listed(store, root).await.is_empty());
}

async fn paged(store: &dyn Store, prefix: &str, limit: usize, expected: &[String]) {
    let mut request = ListRequest {
        limit: Some(limit),
        ..ListRequest::below(prefix)
    };
    let mut keys = Vec::new();
    loop {
        let page = store.list(request.clone()).await.expect("a page");
        assert!(page.objects.len() <= limit);
        keys.extend(
            page.objects
                .iter()
                .map(|object| object.key.as_str().to_owned()),
        );
        let Some(token) = page.next else { break };
        request.token = Some(token);
    }
    assert_eq!(keys, expected, "pages of {limit}");
}

async fn delimited(store: &dyn Store, prefix: &str, limit: usize) {
    let mut request = ListRequest {
        limit: Some(limit),
        ..ListRequest::children(prefix)
    };
    let (mut objects, mut prefixes) = (Vec::new(), Vec::new());
    loop {
        let page = store.list(request.clone()).await.expect("a page");
        let relative = |text: &str| text.strip_prefix(prefix).unwrap_or(text).to_owned();
        objects.extend(
            page.objects
                .iter()
                .map(|object| relative(object.key.as_str())),
        );
        prefixes.extend(page.prefixes.iter().map(|prefix| relative(prefix)));
        let Some(token) = page.next else { break };
        request.token = Some(token);
    }
    assert_eq!(objects, ["a", "a.b", "a0", "c"], "pages of {limit}");
    assert_eq!(prefixes, ["a-b/", "b/", "c d/", "c.x/"], "pages of {limit}");
}

async fn parts_of_a_listing(store: &dyn Store, prefix: &str, names: &[String]) {
    for (index, name) in names.iter().enumerate() {
        let range = store.list_range(prefix, Some(name.clone()), None);
        let rest: Vec<_> = range.try_collect().await.expect("a listing");
        let rest: Vec<_> = rest.iter().map(|object| object.key.as_str()).collect();
        assert_eq!(rest, names[index + 1..], "after {name}");
    }
    let bounds = vec![names[2].clone(), format!("{prefix}b")];
    let pages: Vec<_> = store
        .list_parallel(prefix, bounds, 2)
        .try_collect()
        .await
        .expect("a listing");
    let mut keys: Vec<String> = Vec::new();
    for index in 0..3 {
        let pages = pages.iter().filter(|(range, _)| *range == index);
        keys.extend(
            pages
                .flat_map(|(_, page)| page)
                .map(|object| object.key.to_string()),
        );
    }
    assert_eq!(keys, names, "ranges meet without gap or overlap");
}

fn upload_options(store: &dyn Store, mode: PutMode) -> UploadOptions {
    UploadOptions {
        part_bytes: store.limits().part_bytes_min.max(64 * 1024),
        mode,
        tags: Tags::default(),
    }
}

/// Three parts, two of them full, and the whole.
fn three_parts(options: &UploadOptions) -> (Vec<Bytes>, Vec<u8>) {
    let full = usize::try_from(options.part_bytes).expect("a part in memory");
    let parts = [(1_u8, full), (2, full), (3, 1000)];
    let parts: Vec<Bytes> = parts
        .into_iter()
        .map(|(byte, length)| Bytes::from(vec![byte; length]))
        .collect();
    let whole = parts.concat();
    (parts, whole)
}

/// An object sent in parts, in any order and at once, appears whole when it is completed, under the conditions of a write.
pub async fn uploads(store: &dyn Store) {
    let key = key("conformance/uploads/a b+ü");
    for mode in [PutMode::Create, PutMode::Overwrite] {
        let options = upload_options(store, mode);
        let (contents, whole) = three_parts(&options);
        let upload = store.begin_upload(&key, options).await.expect("an upload");
        let existed = store.exists(&key).await.expect("a fact");
        let mut sends: Vec<_> = (1..).zip(&contents).collect();
        sends.reverse();
        let sends = sends
            .into_iter()
            .map(|(number, part)| upload.put_part(number, part.clone()));
        let mut parts: Vec<_> = join_all(sends)
            .await
            .into_iter()
            .collect::<Result<_, _>>()
            .expect("parts");
        assert_eq!(
            store.exists(&key).await.expect("a fact"),
            existed,
            "not visible before"
        );
        parts.sort_by_key(|part| part.number);
        let stored = upload.complete(parts).await.expect("it completes");
        let head = store.head(&key).await.expect("it is there");
        assert_eq!(head.meta.version, stored.version);
        assert_eq!(head.meta.size, whole.len() as u64);
        if let (Some(told), Some(kept)) = (&stored.checksum, &head.meta.checksum) {
            assert_eq!(told, kept, "one object has one checksum");
        }
        assert!(store.get_bytes(&key).await.expect("it is there") == whole);
    }
    let options = upload_options(store, PutMode::Create);
    let upload = store.begin_upload(&key, options).await.expect("an upload");
    let part = upload.put_part(1, Bytes::from_static(b"late")).await;
    let late = upload.complete(vec![part.expect("a part")]).await;
    assert!(late.is_err_and(|error| error.meaning == Meaning::AlreadyExists));
    upload.abort().await.expect("it can be aborted");
    delete_all(store, &[key]).await;
}

/// Objects of any length come back as they were, written at once or in parts.
pub async fn lengths(store: &dyn Store) {
    let whole = key("conformance/lengths/whole");
    let part_bytes = upload_options(store, PutMode::Create).part_bytes;
    let part = usize::try_from(part_bytes).expect("a part in memory");
    for length in [0, 1, part - 1, part, part + 1] {
        let bytes = (0..=250).cycle().take(length);
        let content = Bytes::from(bytes.collect::<Vec<u8>>());
        let written = store.put(&whole, content.clone(), PutOptions::default());
        written.await.expect("it can be written");
        assert!(store.get_bytes(&whole).await.expect("it is there") == content);
        for mode in [PutMode::Create, PutMode::Overwrite] {
            let key = key(&format!("conformance/lengths/{length}/{mode:?}"));
            let upload = store.begin_upload(&key, upload_options(store, mode)).await;
            let upload = upload.expect("an upload");
            let nothing = content.is_empty().then_some(&content[..]);
            let mut parts = Vec::new();
            for (number, piece) in (1..).zip(content.chunks(part).chain(nothing)) {
                let sent = upload.put_part(number, content.slice_ref(piece)).await;
                parts.push(sent.expect("a part"));
            }
            upload.complete(parts).await.expect("it completes");
            assert!(store.get_bytes(&key).await.expect("it is there") == content);
            delete_all(store, &[key]).await;
        }
    }
    delete_all(store, &[whole]).await;
}

/// An upload that is aborted leaves nothing, and cannot be gone on with.
pub async fn broken_uploads(store: &dyn Store) {
    let key = key("conformance/broken/a");
    let options = upload_options(store, PutMode::Overwrite);
    let upload = store.begin_upload(&key, options).await.expect("an upload");
    let part = upload
        .put_part(1, Bytes::from_static(b"x"))
        .await
        .expect("a part");
    upload.abort().await.expect("it can be aborted");
    assert!(upload.complete(vec![part]).await.is_err());
    assert!(!store.exists(&key).await.expect("absence is known"));
    assert!(listed(store, "conformance/broken/").await.is_empty());
}

/// What was begun and not ended is listed as an upload, never as an object, and can be ended by anybody, twice.
pub async fn unfinished_uploads(store: &dyn Store) {
    let begin = async |name: &str| -> (Key, Box<dyn Upload>) {
        let key = key(&format!("conformance/unfinished/{name}"));
        let options = upload_options(store, PutMode::Overwrite);
        let upload = store.begin_upload(&key, options).await.expect("an upload");
        let part = upload.put_part(1, Bytes::from_static(b"x")).await;
        part.expect("a part can be sent");
        (key, upload)
    };
    let (first, upload) = begin("a/1").await;
    let (second, _) = begin("b/2").await;
    assert!(listed(store, "conformance/unfinished/").await.is_empty());
    let pending = |prefix: &'static str| async move {
        store
            .list_uploads(prefix)
            .await
            .expect("uploads can be listed")
    };
    let found = pending("conformance/unfinished/a/").await;
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].key, &found[0].id), (&first, upload.id()));
    let all = pending("conformance/unfinished/").await;
    assert_eq!(
        all.iter().map(|upload| &upload.key).collect::<Vec<_>>(),
        [&first, &second]
    );
    for upload in all.iter().chain(&found) {
        store
            .abort_upload(upload)
            .await
            .expect("it is ended, or was");
    }
    assert!(pending("conformance/unfinished/").await.is_empty());
}

/// What nobody has locked is free, and so is what is not there; one answer for each, and a listing that tells says the same.
pub async fn locks(store: &dyn Store) {
    store.retention().await.expect("it is told");
    assert_eq!(store.locks(&[]).await, []);
    let keys: Vec<Key> = (0..3)
        .map(|number| key(&format!("conformance/locks/{number}")))
        .collect();
    for key in &keys[..2] {
        put(store, key, "x").await;
    }
    assert_eq!(store.locks(&keys).await, vec![Lock::Free; 3]);
    let page = store.list(ListRequest::below("conformance/locks/")).await;
    for object in page.expect("it can be listed").objects {
        assert!(matches!(object.lock, None | Some(Lock::Free)), "{object:?}");
    }
    delete_all(store, &keys).await;
}

/// The store's clock does not go backwards, and is that of its answers.
pub async fn time(store: &dyn Store) {
    let before = store.time().await.expect("the time");
    let page = store.list(ListRequest::below("conformance/time/")).await;
    let page = page.expect("a listing");
    assert!(page.date >= before);
    assert!(page.date.since(before).as_secs() < 60);
}
