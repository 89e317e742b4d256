//! Faults on the way to a server that speaks S3.

use std::{sync::Arc, time::Duration};

use barkeep::{
    failure::chain,
    model::desired::{Checksums, S3Options},
    store::{
        Meaning, Operation, PutMode, SharedStore, Store, StoreExt, Tags, UploadOptions,
        permission::Cloud, s3::S3,
    },
};
use futures_util::{StreamExt as _, stream};

use super::{keys, options};
use crate::{
    faults::{FAULTS, Fault, one_fault_is_made_good, struck},
    key,
    support::{
        http::{Standin, forward},
        s3::Server,
    },
};

async fn store(url: &str, prefix: &str) -> S3 {
    let options = S3Options {
        read_timeout: Some(Duration::from_secs(3)),
        ..options(url, Checksums::WhenSupported)
    };
    S3::with_keys("bucket", prefix, &options, Some(keys("testsecret1"))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_fault_is_made_good_wherever_it_strikes() {
    let Some(server) = Server::moto() else { return };
    server.send("PUT", "/bucket", "", "");
    let upstream = server.url();
    let as_in_s3 = Standin::new(move |request| {
        let mut answer = forward(request, &upstream);
        answer.replace("GetBucketVersioningResponse", "VersioningConfiguration");
        answer
    });
    let open = |prefix: &str, url: &str| -> SharedStore {
        let opened = store(url, prefix);
        let runtime = tokio::runtime::Handle::current();
        Arc::new(tokio::task::block_in_place(|| runtime.block_on(opened)))
    };
    one_fault_is_made_good(as_in_s3.url(), &open).await;
}

/// What is asked of a store whose every answer is a fault.
const OPERATIONS: [Operation; 7] = [
    Operation::Put,
    Operation::Get,
    Operation::Head,
    Operation::List,
    Operation::Delete,
    Operation::BeginUpload,
    Operation::ListUploads,
];

async fn ask(store: &S3, operation: Operation) -> barkeep::store::Result<()> {
    // What writes may arrive although no answer comes: readers beside it must not meet that.
    let (there, other) = (key("there"), key("other"));
    let parts = UploadOptions {
        part_bytes: 5 << 20,
        mode: PutMode::Overwrite,
        tags: Tags::Configured,
    };
    match operation {
        Operation::Put => drop(store.put_text(&other, "x", PutMode::Overwrite).await?),
        Operation::Get => drop(store.get_text(&there).await?),
        Operation::Head => drop(store.head(&there).await?),
        Operation::Delete => {
            let deleted = store.delete(&[other]).await;
            deleted
                .into_iter()
                .try_for_each(|deleted| deleted.outcome)?;
        }
        Operation::BeginUpload => drop(store.begin_upload(&other, parts).await?),
        Operation::ListUploads => drop(store.list_uploads("").await?),
        _ => drop(store.list_children("").await?),
    }
    Ok(())
}

fn expected(fault: Fault) -> Meaning {
    match fault {
        Fault::Status(503) => Meaning::Throttled,
        Fault::Status(403) => Meaning::PermissionDenied,
        Fault::Reset | Fault::Status(_) | Fault::Truncated | Fault::Unanswered => {
            Meaning::Unreachable
        }
    }
}

#[tokio::test]
async fn a_fault_that_stays_is_told_as_what_it_is_and_never_as_an_absence() {
    let Some(server) = Server::s3s() else { return };
    let calm = store(&server.url(), "p").await;
    calm.create_destination().await.expect("a bucket");
    let there = key("there");
    let put = calm.put_text(&there, "something", PutMode::Create).await;
    put.expect("it is written");
    let cases = OPERATIONS
        .iter()
        .flat_map(|operation| FAULTS.map(|fault| (*operation, fault)));
    // An answer without a body has no middle to end in, and the server cannot list uploads.
    let cases = cases.filter(|(operation, fault)| {
        let whole = [
            Operation::Put,
            Operation::Head,
            Operation::Delete,
            Operation::ListUploads,
        ];
        *fault != Fault::Truncated || !whole.contains(operation)
    });
    let met = |(operation, fault)| {
        let upstream = server.url();
        async move {
            let faulty = Standin::new(move |request| struck(fault, request, &upstream));
            let error = ask(&store(faulty.url(), "p").await, operation).await;
            let error = error.expect_err("nothing arrives");
            // The time for all tries may be over before the tries are.
            let is_over = error.meaning == Meaning::Unreachable && fault == Fault::Status(503);
            let needed = operation.permissions(Cloud::Aws)[0];
            let said = chain(&error);
            let names = fault != Fault::Status(403) || said.contains(&format!("needs `{needed}"));
            let is_right = is_over || error.meaning == expected(fault);
            (!is_right || !names).then(|| format!("{operation:?}, {fault:?}: {said}"))
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
