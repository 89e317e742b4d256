//! Every call of the store, with every fault at every request of it.

use barkeep::store::{
    GetOptions, Key, Meaning, PendingUpload, PutMode, Store, StoreExt, Tags, UploadOptions,
    gcs::Gcs,
};
use bytes::Bytes;
use futures_util::TryStreamExt;

use super::service;
use crate::{
    key,
    support::gcs::{Fault, Gcs as Service, Rules},
};

const FAULTS: [Fault; 6] = [
    Fault::Reset,
    Fault::Status(500),
    Fault::Status(503),
    Fault::Truncated,
    Fault::Unanswered,
    Fault::Status(403),
];

/// What is asked of a store that has `a` with the content `plain`. Says what it found, for comparison.
#[derive(Clone, Copy, Debug)]
enum Call {
    Put,
    Create,
    Get,
    Head,
    List,
    Delete,
    DeleteMany,
    Upload,
    UploadCreating,
    ListUploads,
    AbortUpload,
    Time,
}

const CALLS: [Call; 12] = [
    Call::Put,
    Call::Create,
    Call::Get,
    Call::Head,
    Call::List,
    Call::Delete,
    Call::DeleteMany,
    Call::Upload,
    Call::UploadCreating,
    Call::ListUploads,
    Call::AbortUpload,
    Call::Time,
];

type Outcome = barkeep::store::Result<String>;

impl Call {
    async fn of(self, store: &Gcs) -> Outcome {
        let a = key("a");
        match self {
            Self::Put => store
                .put_text(&a, "new", PutMode::Overwrite)
                .await
                .map(drop),
            Self::Create => store
                .put_text(&key("b"), "new", PutMode::Create)
                .await
                .map(drop),
            Self::Get => return store.get_text(&a).await,
            Self::Head => return store.head(&a).await.map(|head| head.meta.size.to_string()),
            Self::List => return keys(store).await.map(|keys| format!("{keys:?}")),
            Self::Delete => deleted(store, &[a]).await,
            Self::DeleteMany => deleted(store, &[a, key("b"), key("c")]).await,
            Self::Upload => upload(store, PutMode::Overwrite).await,
            Self::UploadCreating => upload(store, PutMode::Create).await,
            Self::ListUploads => store.list_uploads("").await.map(drop),
            Self::AbortUpload => {
                let upload = PendingUpload {
                    key: a,
                    id: barkeep::store::UploadId("none".to_owned()),
                    started: store.time().await?,
                };
                store.abort_upload(&upload).await
            }
            Self::Time => store.time().await.map(drop),
        }
        .map(|()| String::new())
    }
}

async fn keys(store: &Gcs) -> barkeep::store::Result<Vec<Key>> {
    let objects: Vec<_> = store.list_all("").try_collect().await?;
    Ok(objects.into_iter().map(|object| object.key).collect())
}

async fn deleted(store: &Gcs, keys: &[Key]) -> barkeep::store::Result<()> {
    let outcomes = store.delete(keys).await;
    outcomes.into_iter().try_for_each(|deleted| deleted.outcome)
}

async fn upload(store: &Gcs, mode: PutMode) -> barkeep::store::Result<()> {
    let options = UploadOptions {
        part_bytes: 5 << 20,
        mode,
        tags: Tags::default(),
    };
    let upload = store.begin_upload(&key("u"), options).await?;
    let part = upload.put_part(1, Bytes::from_static(b"part")).await?;
    upload.complete(vec![part]).await.map(drop)
}

async fn prepared() -> (Service, Gcs) {
    let (service, store) = service(Rules::default());
    let put = store.put_text(&key("a"), "plain", PutMode::Create).await;
    put.expect("written");
    (service, store)
}

/// How many requests a call makes when nothing goes wrong, and what it finds.
async fn undisturbed(call: Call) -> (usize, String, Vec<Key>) {
    let (service, store) = prepared().await;
    service.asked();
    let found = call.of(&store).await.expect("it succeeds");
    let requests = service.asked().len();
    (requests, found, keys(&store).await.expect("a listing"))
}

#[tokio::test]
async fn one_fault_is_made_good_wherever_it_strikes_and_a_refusal_is_told() {
    for call in CALLS {
        let (requests, found, left) = undisturbed(call).await;
        for (request, fault) in (0..requests).flat_map(|n| FAULTS.map(|fault| (n, fault))) {
            let (service, store) = prepared().await;
            service.strike(request, fault);
            let outcome = call.of(&store).await;
            assert!(service.is_struck(), "{call:?} {request} {fault:?}");
            let told = outcome.as_ref().map_err(|error| error.meaning);
            match (fault, call) {
                // The object is whole by then; its parts are found as an unfinished upload.
                (Fault::Status(403), Call::UploadCreating) if outcome.is_ok() => {
                    assert!(store.exists(&key("u")).await.expect("a fact"));
                    let left = store.list_uploads("u").await.expect("uploads");
                    assert_eq!(left.len(), 1, "{call:?} {request}");
                }
                (Fault::Status(403), _) => {
                    assert_eq!(told, Err(Meaning::PermissionDenied), "{call:?} {request}");
                }
                // Its own earlier try is in its way: the contract says so.
                (Fault::Truncated | Fault::Unanswered, Call::Create) => {
                    assert_eq!(told, Err(Meaning::AlreadyExists), "{call:?} {request}");
                }
                (Fault::Truncated | Fault::Unanswered, Call::UploadCreating)
                    if outcome.is_err() =>
                {
                    assert_eq!(told, Err(Meaning::AlreadyExists), "{call:?} {request}");
                }
                _ => {
                    assert_eq!(told, Ok(&found), "{call:?} {request} {fault:?}");
                    let after = keys(&store).await.expect("a listing");
                    assert_eq!(after, left, "{call:?} {request} {fault:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_goes_on_failing_is_given_up_in_time_and_told() {
    let (service, store) = prepared().await;
    for (status, expected) in [(500, Meaning::Unreachable), (503, Meaning::Throttled)] {
        for request in 0..5 {
            service.strike(request, Fault::Status(status));
        }
        let read = store.get(&key("a"), GetOptions::default()).await;
        assert_eq!(read.err().map(|error| error.meaning), Some(expected));
        assert!(service.is_struck(), "every try was made");
    }
}
