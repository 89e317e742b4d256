use std::{fs, os::unix::fs::symlink};

use tempfile::TempDir;

use super::*;
use crate::store::{PutMode, StoreExt, conformance};

fn directory() -> (TempDir, Directory) {
    let root = tempfile::tempdir().expect("a temporary directory");
    let store = Directory::new(root.path(), Clock::System);
    (root, store)
}

fn key(text: &str) -> Key {
    Key::new(text).expect("a normal key")
}

async fn keys(store: &Directory) -> Vec<String> {
    let objects: Vec<_> = store.list_all("").try_collect().await.expect("a listing");
    objects
        .iter()
        .map(|object| object.key.to_string())
        .collect()
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).expect("a directory");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    entries
        .map(|entry| name(entry).into_string().expect("UTF-8"))
        .filter(|name| name != ".barkeep-lock")
        .collect()
}

fn meaning<T>(result: Result<T>) -> Option<Meaning> {
    result.err().map(|error| error.meaning)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_conforms() {
    let (_root, store) = directory();
    conformance::all(&store).await;
}

#[tokio::test]
async fn a_path_is_the_key_and_an_empty_directory_is_no_object() {
    let (root, store) = directory();
    store
        .put_text(&key("a/b/c"), "x", PutMode::Create)
        .await
        .expect("written");
    assert_eq!(
        fs::read_to_string(root.path().join("a/b/c")).expect("a file"),
        "x"
    );
    fs::create_dir_all(root.path().join("empty/inside")).expect("a directory");
    let (prefixes, objects) = store.list_children("").await.expect("a listing");
    assert_eq!((prefixes.concat().as_str(), objects.len()), ("a/", 0));
    assert!(
        store
            .get_text(&key("a/b"))
            .await
            .is_err_and(|e| e.is_not_found())
    );
    assert!(
        store
            .get_text(&key("a/b/c/d"))
            .await
            .is_err_and(|e| e.is_not_found())
    );
    store.delete(&[key("a/b/c")]).await;
    assert_eq!(names(root.path()), ["empty"]);
}

#[tokio::test]
async fn a_missing_directory_is_not_an_empty_one() {
    let (root, store) = directory();
    drop(root);
    assert_eq!(
        meaning(store.head(&key("a")).await),
        Some(Meaning::BucketMissing)
    );
    assert_eq!(
        meaning(store.list(ListRequest::below("")).await),
        Some(Meaning::BucketMissing)
    );
    assert_eq!(
        meaning(store.check_reachable().await),
        Some(Meaning::BucketMissing)
    );
    store.create_destination().await.expect("it is made");
    assert!(keys(&store).await.is_empty());
    fs::remove_dir_all(&store.inner.root).expect("removed");
}

#[tokio::test]
async fn a_symbolic_link_leads_nowhere() {
    let (root, store) = directory();
    let outside = tempfile::tempdir().expect("a temporary directory");
    fs::write(outside.path().join("secret"), "x").expect("written");
    symlink(outside.path(), root.path().join("way")).expect("a link");
    symlink(outside.path().join("secret"), root.path().join("file")).expect("a link");
    let denied = Some(Meaning::PermissionDenied);
    assert_eq!(meaning(store.get_text(&key("way/secret")).await), denied);
    assert_eq!(meaning(store.get_text(&key("file")).await), denied);
    assert_eq!(
        meaning(
            store
                .put_text(&key("way/new"), "x", PutMode::Overwrite)
                .await
        ),
        denied
    );
    assert_eq!(
        meaning(store.put_text(&key("file"), "x", PutMode::Overwrite).await),
        denied
    );
    assert_eq!(meaning(store.list(ListRequest::below("")).await), denied);
    assert!(store.delete(&[key("way/secret")]).await[0].outcome.is_err());
    assert_eq!(names(outside.path()), ["secret"]);
    let elsewhere = store.list(ListRequest::below("other/")).await;
    assert!(elsewhere.expect("not concerned").objects.is_empty());
}

#[tokio::test]
async fn what_a_crash_leaves_is_an_unfinished_upload() {
    let (root, store) = directory();
    let tree = store.inner.tree().expect("it exists");
    let now = store.time().await.expect("a time");
    let half = Temporary::create(&tree, &key("a/b.tar"), now).expect("a file");
    half.file().write_all_at(b"half", 0).expect("written");
    drop(half.keep());
    assert!(keys(&store).await.is_empty());
    let found = store.list_uploads("a/").await.expect("a listing");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].key, key("a/b.tar"));
    store.abort_upload(&found[0]).await.expect("removed");
    assert!(names(&root.path().join("a")).is_empty());
}

#[tokio::test]
async fn a_failed_write_leaves_no_file() {
    let (root, store) = directory();
    store
        .put_text(&key("a"), "1", PutMode::Create)
        .await
        .expect("written");
    let again = store.put_text(&key("a"), "2", PutMode::Create).await;
    assert_eq!(meaning(again), Some(Meaning::AlreadyExists));
    let below = store.put_text(&key("a/b"), "2", PutMode::Create).await;
    assert_eq!(meaning(below), Some(Meaning::Unsupported));
    assert_eq!(names(root.path()), ["a"]);
}

#[tokio::test]
async fn versions_never_repeat_though_inodes_do() {
    let (_root, store) = directory();
    let key = key("lease");
    let mut seen = std::collections::BTreeSet::new();
    let mut mode = PutMode::Create;
    for _ in 0..200 {
        let stored = store
            .put_text(&key, "same size", mode)
            .await
            .expect("written");
        assert!(seen.insert(stored.version.clone()), "{stored:?}");
        mode = PutMode::Replace(stored.version);
    }
}

#[tokio::test]
async fn a_write_is_later_than_what_it_replaces_also_when_the_clock_went_back() {
    let (root, store) = directory();
    let key = key("a");
    let write = async |mode| store.put_text(&key, "x", mode).await.expect("written");
    write(PutMode::Create).await;
    let file = fs::File::options().write(true).open(root.path().join("a"));
    let ahead = std::time::UNIX_EPOCH + std::time::Duration::from_hours(24 * 365 * 100);
    file.expect("a file")
        .set_modified(ahead)
        .expect("it is set");
    let before = store.head(&key).await.expect("it is there").meta;
    write(PutMode::Overwrite).await;
    let after = store.head(&key).await.expect("it is there").meta;
    assert!(after.last_modified > before.last_modified);
}

#[tokio::test]
async fn what_no_file_can_hold_is_refused() {
    let (_root, store) = directory();
    for text in [
        "a//b",
        "../x",
        ".barkeep-lock",
        "a/.barkeep-upload.1.x",
        &"x".repeat(201),
    ] {
        let key = Key::verbatim(text);
        let refused = meaning(store.put_text(&key, "x", PutMode::Overwrite).await);
        assert_eq!(refused, Some(Meaning::Unsupported), "{text}");
    }
}

#[tokio::test]
async fn a_name_that_is_no_text_is_an_error_and_not_an_absence() {
    use std::os::unix::ffi::OsStrExt;
    let (root, store) = directory();
    let name = std::ffi::OsStr::from_bytes(b"\xff");
    fs::write(root.path().join(name), "x").expect("written");
    let listed = store.list(ListRequest::below("")).await;
    assert_eq!(meaning(listed), Some(Meaning::Unsupported));
}
