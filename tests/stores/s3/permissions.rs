//! The permissions that barkeep asks for are those that its requests need: seen on the wire, by the provider's own table.

use std::collections::{BTreeMap, BTreeSet};

use barkeep::{
    model::desired::{Checksums, S3Options},
    store::{
        GetOptions, ListRequest, Operation, PutMode, Store, StoreExt, Tags, Upload, UploadOptions,
        permission::{Cloud, Feature},
        s3::S3,
    },
};

use super::{options, store};
use crate::{
    key,
    support::{
        http::{Request, Standin, forward},
        s3::Server,
    },
};

/// The actions that Amazon's service authorization reference names for a request.
fn actions(request: &Request) -> Vec<&'static str> {
    let path = request.path().trim_matches('/');
    let is_bucket = !path.contains('/');
    let asks = |name: &str| {
        let mut pairs = request.query().split('&');
        pairs.any(|pair| pair.split('=').next() == Some(name))
    };
    let put = match request.header("x-amz-tagging") {
        Some(_) => vec!["s3:PutObject", "s3:PutObjectTagging"],
        None => vec!["s3:PutObject"],
    };
    match (request.method(), is_bucket) {
        ("GET", true) if asks("list-type") => vec!["s3:ListBucket"],
        ("GET", true) if asks("uploads") => vec!["s3:ListBucketMultipartUploads"],
        ("GET", true) if asks("object-lock") => vec!["s3:GetBucketObjectLockConfiguration"],
        ("GET", true) if asks("versioning") => vec!["s3:GetBucketVersioning"],
        ("GET", true) if asks("lifecycle") => vec!["s3:GetLifecycleConfiguration"],
        ("POST", true) if asks("delete") => vec!["s3:DeleteObject"],
        ("PUT", true) => vec!["s3:CreateBucket"],
        ("GET", false) if asks("retention") => vec!["s3:GetObjectRetention"],
        ("GET", false) if asks("legal-hold") => vec!["s3:GetObjectLegalHold"],
        // What is not there is only told to those who may list.
        ("GET" | "HEAD", false) => vec!["s3:GetObject", "s3:ListBucket"],
        ("DELETE", false) if asks("uploadId") => vec!["s3:AbortMultipartUpload"],
        ("PUT" | "POST", false) => put,
        ("DELETE", false) => vec!["s3:DeleteObject"],
        _ => panic!("no action is known for {}", request.line),
    }
}

fn in_parts() -> UploadOptions {
    UploadOptions {
        part_bytes: 5 << 20,
        mode: PutMode::Overwrite,
        tags: Tags::Configured,
    }
}

/// Lets a store do what the operation is about; what it needs for that is done beforehand.
async fn perform(store: &S3, operation: Operation, prepared: &dyn Upload) {
    let (there, missing) = (key("there"), key("missing"));
    match operation {
        Operation::Put => drop(store.put_text(&there, "x", PutMode::Overwrite).await),
        Operation::Get => drop(store.get(&missing, GetOptions::default()).await),
        Operation::Head => drop(store.head(&missing).await),
        Operation::List => drop(store.list(ListRequest::below("")).await),
        Operation::Delete => drop(store.delete(&[missing, key("other")]).await),
        Operation::BeginUpload => drop(store.begin_upload(&there, in_parts()).await),
        // What begins it is another operation's.
        Operation::PutPart | Operation::CompleteUpload => {
            let part = prepared.put_part(1, "x".into()).await.expect("it is sent");
            prepared.complete(vec![part]).await.expect("it is complete");
        }
        Operation::AbortUpload => prepared.abort().await.expect("it is aborted"),
        Operation::ListUploads => drop(store.list_uploads("").await),
        Operation::CheckReachable => store.check_reachable().await.expect("it is there"),
        Operation::CreateDestination => drop(store.create_destination().await),
        Operation::Time => drop(store.time().await),
        Operation::Locks => drop(store.locks(&[there]).await),
        Operation::Retention => drop(store.retention().await),
        Operation::Open => {}
    }
}

#[tokio::test]
async fn every_request_needs_what_its_operation_says_and_no_more() {
    let Some(server) = Server::moto() else { return };
    let upstream = server.url();
    let proxy = Standin::new(move |request| {
        let mut answer = forward(request, &upstream);
        // As S3 calls it.
        answer.replace("GetBucketVersioningResponse", "VersioningConfiguration");
        answer
    });
    let locked = "x-amz-bucket-object-lock-enabled: true\r\n";
    server.send("PUT", "/locked", locked, "");
    server.send("PUT", "/versioned", "", "");
    let versioning = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    server.send("PUT", "/versioned?versioning", "", versioning);
    let tags = BTreeMap::from([("team".to_owned(), "db".to_owned())]);
    for tags in [BTreeMap::new(), tags] {
        for operation in Operation::ALL {
            let bucket = match operation {
                Operation::Locks => "locked",
                Operation::CreateDestination if tags.is_empty() => "fresh",
                Operation::CreateDestination => "another",
                _ => "versioned",
            };
            let options = S3Options {
                tags: tags.clone(),
                ..options(proxy.url(), Checksums::WhenSupported)
            };
            let store = store((bucket, "p"), &options).await;
            let elsewhere = super::store(("locked", "p"), &options).await;
            let prepared = elsewhere.begin_upload(&key("there"), in_parts()).await;
            let prepared = prepared.expect("it begins");
            let before = proxy.asked().len();
            perform(&store, operation, prepared.as_ref()).await;
            let asked = &proxy.asked()[before..];
            let needed: BTreeSet<_> = asked.iter().flat_map(actions).collect();
            let mut expected: BTreeSet<_> = BTreeSet::new();
            expected.extend(operation.permissions(Cloud::Aws));
            if !tags.is_empty() {
                expected.extend(operation.permissions_for(Feature::Tags, Cloud::Aws));
            }
            assert_eq!(needed, expected, "{operation:?}: {asked:#?}");
        }
    }
}
