//! What every cloud's store does alike, beside its contract.

use barkeep::store::{Key, Meaning, PutMode, Store, StoreExt, Tags, UploadOptions};
use futures_util::StreamExt;

use crate::{key, meaning};

/// Every call on a bucket that is not there says that it is the bucket.
pub(crate) async fn a_missing_bucket_is_told(store: &dyn Store) {
    let missing = Some(Meaning::BucketMissing);
    let a = key("a");
    assert_eq!(meaning(store.head(&a).await), missing);
    assert_eq!(meaning(store.get_text(&a).await), missing);
    let written = store.put_text(&a, "x", PutMode::Create).await;
    assert_eq!(meaning(written), missing);
    let listed = store.list_all("").next().await;
    assert_eq!(meaning(listed.expect("an answer")), missing);
    assert_eq!(meaning(store.check_reachable().await), missing);
    for keys in [vec![key("a")], vec![key("a"), key("b")]] {
        let deleted = store.delete(&keys).await;
        assert_eq!(meaning(deleted[0].outcome.clone()), missing);
    }
    let options = UploadOptions {
        part_bytes: store.limits().part_bytes_min,
        mode: PutMode::Overwrite,
        tags: Tags::default(),
    };
    let sent = match store.begin_upload(&a, options).await {
        Ok(upload) => upload.put_part(1, "x".into()).await.map(drop),
        Err(error) => Err(error),
    };
    assert_eq!(meaning(sent), missing);
}

/// Silence is none of the store's answers.
pub(crate) async fn a_missing_server_is_told(store: &dyn Store) {
    let read = store.get_text(&key("a")).await;
    assert_eq!(meaning(read), Some(Meaning::Unreachable));
}

/// What Barman writes where the URL ends with a slash.
pub(crate) fn spelled_otherwise() -> Key {
    Key::verbatim("/srv/keep")
}

/// It is there, alone, with the content `plain`.
pub(crate) async fn what_is_spelled_otherwise_is_found_and_read(store: &dyn Store) {
    let found = spelled_otherwise();
    let listed = store.list_all("").next().await.expect("one");
    assert_eq!(listed.expect("a listing").key, found);
    let text = store.get_text(&found).await.expect("it is read");
    assert_eq!(text, "plain");
    store.delete(std::slice::from_ref(&found)).await;
    assert!(!store.exists(&found).await.expect("a fact"));
}
