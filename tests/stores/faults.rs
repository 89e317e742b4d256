//! Every call of the S3 store, with each thing that can go wrong on the wire: once, which it must survive, and for ever, which it must
//! tell as what it is.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use barkeep::{
    failure::chain,
    model::desired::{Checksums, S3Options},
    store::{
        Error, GetOptions, ListRequest, Meaning, Operation, PutMode, Store, StoreExt, Tags,
        UploadOptions, permission::Cloud, s3::S3,
    },
};
use futures_util::{StreamExt as _, stream};

use crate::{
    key, keys, options,
    support::{
        http::{Answer, Reply, Request, Standin, forward},
        s3::Server,
    },
};

/// What goes wrong on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Reset,
    InternalError,
    SlowDown,
    Forbidden,
    /// The request is served, and its answer ends in the middle.
    Truncated,
    /// The request is served, and never answered.
    NoAnswer,
}

const FAULTS: [Fault; 6] = [
    Fault::Reset,
    Fault::InternalError,
    Fault::SlowDown,
    Fault::Forbidden,
    Fault::Truncated,
    Fault::NoAnswer,
];

impl Fault {
    fn strike(self, request: &Request, serve: impl Fn(&Request) -> Answer) -> Reply {
        let error = |status, code| {
            let body = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
            let mut answer = Answer::new(status, body);
            // The SDK takes the time of an answer for the store's, and signs the next request with it.
            answer.headers.clear();
            Reply::from(answer)
        };
        match self {
            Self::Reset => Reply::Reset,
            Self::InternalError => error(500, "InternalError"),
            Self::SlowDown => error(503, "SlowDown"),
            Self::Forbidden => error(403, "AccessDenied"),
            Self::Truncated => Reply::Broken(serve(request)),
            Self::NoAnswer => {
                serve(request);
                Reply::Silence
            }
        }
    }

    /// What it means when it does not pass.
    fn meaning(self) -> Meaning {
        match self {
            Self::SlowDown => Meaning::Throttled,
            Self::Forbidden => Meaning::PermissionDenied,
            Self::Reset | Self::InternalError | Self::Truncated | Self::NoAnswer => {
                Meaning::Unreachable
            }
        }
    }
}

/// Serves what the strict server does not know, and passes on the rest.
fn serve(request: &Request, upstream: &str) -> Answer {
    let known = [
        (
            "uploads",
            "GET",
            "<ListMultipartUploadsResult></ListMultipartUploadsResult>",
        ),
        (
            "object-lock",
            "GET",
            "<ObjectLockConfiguration></ObjectLockConfiguration>",
        ),
        (
            "versioning",
            "GET",
            "<VersioningConfiguration></VersioningConfiguration>",
        ),
    ];
    let asks = |name: &str| request.query().split(['&', '=']).any(|word| word == name);
    let canned = known
        .iter()
        .find(|(name, method, _)| request.method() == *method && asks(name));
    if let Some((_, _, body)) = canned {
        return Answer::new(200, *body);
    }
    let answer = forward(request, upstream);
    if answer.status == 403 && asks("uploadId") {
        // What it says of an upload that has ended.
        return Answer::new(404, "<Error><Code>NoSuchUpload</Code></Error>");
    }
    answer
}

const OPERATIONS: [Operation; 13] = [
    Operation::Put,
    Operation::Get,
    Operation::Head,
    Operation::List,
    Operation::Delete,
    Operation::Locks,
    Operation::Retention,
    Operation::BeginUpload,
    Operation::PutPart,
    Operation::CompleteUpload,
    Operation::AbortUpload,
    Operation::ListUploads,
    Operation::CheckReachable,
];

async fn store(url: &str) -> S3 {
    let options = S3Options {
        read_timeout: Some(Duration::from_secs(2)),
        ..options(url, Checksums::WhenSupported)
    };
    S3::with_keys("bucket", "p", &options, Some(keys("testsecret1"))).await
}

/// Does it and looks at its effect: over `store`, what is prepared and looked at over `calm`.
async fn perform(store: &S3, calm: &S3, operation: Operation, name: &str) -> Result<(), Error> {
    let there = key(name);
    let parts = UploadOptions {
        part_bytes: 5 << 20,
        mode: PutMode::Overwrite,
        tags: Tags::Configured,
    };
    let is_upload = matches!(operation, Operation::PutPart | Operation::CompleteUpload);
    if !is_upload {
        let put = calm.put_text(&there, "before", PutMode::Overwrite).await;
        put.expect("it is prepared");
    }
    match operation {
        Operation::Put => {
            store.put_text(&there, "after", PutMode::Overwrite).await?;
            assert_eq!(calm.get_text(&there).await?, "after");
        }
        Operation::Get => assert_eq!(store.get_text(&there).await?, "before"),
        Operation::Head => assert_eq!(store.head(&there).await?.meta.size, 6),
        Operation::List => {
            let page = store.list(ListRequest::below(name)).await?;
            assert_eq!(page.objects.len(), 1);
        }
        Operation::Delete => {
            let deleted = store.delete(std::slice::from_ref(&there)).await;
            deleted
                .into_iter()
                .try_for_each(|deleted| deleted.outcome)?;
            assert!(!calm.exists(&there).await?);
        }
        // Whatever happens, it answers for each object.
        Operation::Locks => assert_eq!(store.locks(&[there]).await.len(), 1),
        Operation::Retention => drop(store.retention().await?),
        Operation::BeginUpload => drop(store.begin_upload(&there, parts).await?),
        Operation::PutPart | Operation::CompleteUpload => {
            // The faults begin with the part.
            let upload = store.begin_upload(&there, parts).await?;
            let part = upload.put_part(1, "after".into()).await?;
            upload.complete(vec![part]).await?;
            assert_eq!(calm.get_text(&there).await?, "after");
        }
        Operation::AbortUpload => {
            let upload = store.begin_upload(&there, parts).await?;
            upload.abort().await?;
        }
        Operation::ListUploads => drop(store.list_uploads("").await?),
        _ => store.check_reachable().await?,
    }
    Ok(())
}

/// Whether the request is the one that is to fail: of an upload, the one that the operation is about.
fn is_about(operation: Operation, request: &Request) -> bool {
    let query = request.query();
    match operation {
        Operation::PutPart => query.contains("partNumber="),
        Operation::CompleteUpload => request.method() == "POST" && query.contains("uploadId="),
        Operation::AbortUpload => request.method() == "DELETE",
        _ => true,
    }
}

/// Lets an operation meet a fault so many times.
async fn meet(
    upstream: &str,
    operation: Operation,
    fault: Fault,
    times: usize,
) -> Result<(), Error> {
    let left = AtomicUsize::new(times);
    let url = upstream.to_owned();
    let faulty = Standin::new(move |request| {
        let serve = |request: &Request| serve(request, &url);
        let strikes = is_about(operation, request)
            && left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                })
                .is_ok();
        if strikes {
            fault.strike(request, serve)
        } else {
            serve(request).into()
        }
    });
    let name = format!("{operation:?}-{fault:?}-{times}");
    let (store, calm) = (store(faulty.url()).await, store(upstream).await);
    perform(&store, &calm, operation, &name).await
}

#[tokio::test]
async fn what_fails_once_on_the_wire_is_done_all_the_same_unless_it_is_refused() {
    let Some(server) = Server::s3s() else { return };
    let upstream = server.url();
    let calm = store(&upstream).await;
    calm.create_destination().await.expect("a bucket");
    let cases = OPERATIONS
        .iter()
        .flat_map(|operation| FAULTS.map(|fault| (*operation, fault)));
    let met = |(operation, fault)| {
        let upstream = &upstream;
        async move {
            let outcome = meet(upstream, operation, fault, 1).await;
            // Whether locks may be seen is an answer too.
            let answers = matches!(operation, Operation::Locks | Operation::Retention);
            let is_right = match (fault, &outcome) {
                (Fault::Forbidden, Err(error)) => {
                    let needed = error.operation.permissions(Cloud::Aws)[0];
                    error.meaning == Meaning::PermissionDenied
                        && chain(error).contains(&format!("needs `{needed}"))
                }
                (Fault::Forbidden, Ok(())) => answers,
                // This server names an object of parts by neither MD5 nor CRC-32, so its own is not recognised.
                (Fault::Truncated | Fault::NoAnswer, outcome)
                    if operation == Operation::CompleteUpload =>
                {
                    outcome.is_err()
                }
                (_, outcome) => outcome.is_ok(),
            };
            (!is_right).then(|| format!("{operation:?} {fault:?}: {outcome:?}"))
        }
    };
    let wrong: Vec<_> = stream::iter(cases)
        .map(met)
        .buffer_unordered(12)
        .collect()
        .await;
    let wrong: Vec<_> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn what_fails_for_ever_is_told_as_what_it_is_and_never_as_an_absence() {
    let Some(server) = Server::s3s() else { return };
    let upstream = server.url();
    let calm = store(&upstream).await;
    calm.create_destination().await.expect("a bucket");
    let operations = [
        Operation::Put,
        Operation::Get,
        Operation::Head,
        Operation::List,
        Operation::Delete,
        Operation::PutPart,
        Operation::CompleteUpload,
        Operation::ListUploads,
    ];
    let cases = operations
        .iter()
        .flat_map(|operation| FAULTS.map(|fault| (*operation, fault)));
    let met = |(operation, fault)| {
        let upstream = &upstream;
        async move {
            // An answer without a body has no middle to end in.
            let has_no_body = matches!(
                operation,
                Operation::Put | Operation::Head | Operation::PutPart | Operation::Delete
            );
            if fault == Fault::Truncated && has_no_body {
                return None;
            }
            let outcome = meet(upstream, operation, fault, usize::MAX).await;
            let meaning = outcome.as_ref().err().map(|error| error.meaning);
            // The time for all tries may be over before the tries are.
            let is_over = fault == Fault::SlowDown && meaning == Some(Meaning::Unreachable);
            let is_right = is_over || meaning == Some(fault.meaning());
            (!is_right).then(|| format!("{operation:?} {fault:?}: {outcome:?}"))
        }
    };
    let wrong: Vec<_> = stream::iter(cases)
        .map(met)
        .buffer_unordered(24)
        .collect()
        .await;
    let wrong: Vec<_> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_creation_whose_answer_was_lost_finds_its_own_object() {
    let Some(server) = Server::s3s() else { return };
    let upstream = server.url();
    let calm = store(&upstream).await;
    calm.create_destination().await.expect("a bucket");
    let (left, url) = (AtomicUsize::new(1), upstream.clone());
    let faulty = Standin::new(move |request| {
        let answer = forward(request, &url);
        match left.swap(0, Ordering::Relaxed) {
            1 => Reply::Reset,
            _ => answer.into(),
        }
    });
    let store = store(faulty.url()).await;
    let created = store.put_text(&key("a"), "ours", PutMode::Create).await;
    let error = created.expect_err("it is there, by the first try");
    assert_eq!(error.meaning, Meaning::AlreadyExists);
    let read = store.get(&key("a"), GetOptions::default()).await;
    assert_eq!(read.expect("it is read").meta.size, 4);
}
