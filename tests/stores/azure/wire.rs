//! What is on the wire, and what is made of answers that Azurite cannot give: locks, versions, listings that begin in the middle.

use barkeep::{
    model::{
        desired::{AzureOptions, SecretRef},
        lock::{Lock, LockMode, Locking, Remains},
        time::Timestamp,
    },
    store::{Key, ListRequest, Meaning, PutMode, Store, StoreExt, azure::Azure},
};
use futures_util::TryStreamExt as _;

use super::container;
use crate::{
    key, meaning, sdk,
    support::{
        azurite::{Azurite, account_url},
        http::{Answer, Request, Standin, forward},
    },
};

/// A store on a server that answers as a test says.
fn store(server: &Standin) -> Azure {
    let string = vec!["echo".to_owned(), connection_string(server)];
    let options = AzureOptions {
        connection_string: Some(SecretRef::Command(string)),
        ..AzureOptions::default()
    };
    let url = format!("{}/acc", server.url());
    Azure::open(&url, "backups", "p", &options).expect("a store")
}

fn connection_string(server: &Standin) -> String {
    format!(
        "AccountName=acc;AccountKey=a2V5;BlobEndpoint={}/acc",
        server.url()
    )
}

fn page(blobs: &str) -> String {
    format!("<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>")
}

fn blob(name: &str, more: &str) -> String {
    format!(
        "<Blob><Name>p/{name}</Name><Properties><Content-Length>1</Content-Length>\
         <Etag>0x1</Etag><BlobType>BlockBlob</BlobType>{more}</Properties></Blob>"
    )
}

fn is_container(request: &Request) -> bool {
    request.method() == "HEAD" || request.method() == "GET" && !request.query().contains("comp=")
}

const UNTIL: &str = "Thu, 01 Jan 2099 00:00:00 GMT";

fn until() -> Timestamp {
    "2099-01-01T00:00:00Z".parse().expect("an instant")
}

#[tokio::test]
async fn many_are_deleted_in_few_requests() {
    let Some(server) = Azurite::start() else {
        return;
    };
    let direct = container(&server, "batches").await;
    let keys: Vec<Key> = (0..300)
        .map(|number| key(&format!("many/{number} ü")))
        .collect();
    for key in &keys[..150] {
        direct
            .put_text(key, "x", PutMode::Create)
            .await
            .expect("written");
    }
    let upstream = server.url();
    let proxy = Standin::new(move |request| forward(request, &upstream));
    let options = server.options(proxy.url());
    let account = account_url(proxy.url());
    let store = Azure::open(&account, "batches", "some/prefix", &options).expect("a store");
    let deleted = store.delete(&keys).await;
    assert!(
        deleted.iter().all(|deleted| deleted.outcome.is_ok()),
        "{deleted:?}"
    );
    let asked = proxy.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(
        asked
            .iter()
            .all(|request| request.query().contains("comp=batch"))
    );
    let left: Vec<_> = direct
        .list_all("many/")
        .try_collect()
        .await
        .expect("a listing");
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn of_a_batch_each_is_answered_for_and_silence_is_no_success() {
    let answer = "--b\r\nContent-ID: 1\r\n\r\nHTTP/1.1 409 No\r\n\
                  x-ms-error-code: BlobImmutableDueToPolicy\r\n\r\n\
                  --b\r\nContent-ID: 0\r\n\r\nHTTP/1.1 202 Accepted\r\n\r\n--b--";
    let server = Standin::new(move |_| Answer::new(202, answer));
    let deleted = store(&server).delete(&["a", "b", "c"].map(key)).await;
    let meanings: Vec<_> = deleted
        .into_iter()
        .map(|deleted| meaning(deleted.outcome))
        .collect();
    assert_eq!(
        meanings,
        [None, Some(Meaning::Locked), Some(Meaning::Unreachable)]
    );
}

#[tokio::test]
async fn where_there_are_no_batches_each_is_deleted_by_itself() {
    let server = Standin::new(|request| match request.method() {
        "POST" => Answer::new(405, "").with("x-ms-error-code", "UnsupportedHttpVerb"),
        _ => Answer::new(202, ""),
    });
    let store = store(&server);
    for requests in [3, 2] {
        let before = server.asked().len();
        let deleted = store.delete(&["a", "b"].map(key)).await;
        assert!(
            deleted.iter().all(|deleted| deleted.outcome.is_ok()),
            "{deleted:?}"
        );
        assert_eq!(server.asked().len() - before, requests);
    }
}

#[tokio::test]
async fn a_listing_begins_where_it_is_asked_to_also_at_a_service_that_ignores_it() {
    let server = Standin::new(|_| {
        Answer::new(
            200,
            page(&["a", "b", "c"].map(|name| blob(name, "")).concat()),
        )
    });
    let request = ListRequest {
        start_after: Some("b".to_owned()),
        ..ListRequest::below("")
    };
    let listed = store(&server).list(request).await.expect("a page").objects;
    let listed: Vec<_> = listed.iter().map(|object| object.key.as_str()).collect();
    assert_eq!(listed, ["c"]);
    let query = server.asked()[0].query().to_owned();
    assert!(query.contains("startFrom=p%2Fb"), "{query}");
    assert!(
        query.contains("include=immutabilitypolicy%2Clegalhold"),
        "{query}"
    );
}

#[tokio::test]
async fn a_service_that_knows_no_locks_is_listed_plainly() {
    let server = Standin::new(|request| {
        if request.query().contains("include=") {
            Answer::new(400, "").with("x-ms-error-code", "InvalidQueryParameterValue")
        } else {
            Answer::new(200, page(&blob("a", "")))
        }
    });
    let store = store(&server);
    for requests in [2, 1] {
        let before = server.asked().len();
        let listed = store.list(ListRequest::below("")).await.expect("a page");
        assert_eq!(listed.objects.len(), 1);
        assert_eq!(server.asked().len() - before, requests);
    }
}

#[tokio::test]
async fn where_nothing_can_be_locked_one_request_says_so() {
    let server = Standin::new(|_| Answer::new(200, ""));
    let locks = store(&server).locks(&["a", "b"].map(key)).await;
    assert_eq!(locks, [Lock::Free, Lock::Free]);
    assert_eq!(server.asked().len(), 1);
}

/// A service with the blobs `a`, which is locked, `b`, which is held, and `c`, in a container whose blobs may be.
fn locked_or_held() -> Standin {
    let policy = format!(
        "<ImmutabilityPolicyUntilDate>{UNTIL}</ImmutabilityPolicyUntilDate>\
         <ImmutabilityPolicyMode>locked</ImmutabilityPolicyMode>"
    );
    let listed = [
        ("a", policy.as_str()),
        ("b", "<LegalHold>true</LegalHold>"),
        ("c", ""),
    ];
    let listed = page(&listed.map(|(name, more)| blob(name, more)).concat());
    Standin::new(move |request| {
        let told = Answer::new(200, "x");
        // Not every client escapes the slashes of a name.
        match request.path().replace("%2F", "/").as_str() {
            "/acc/backups/p/a" => told
                .with("x-ms-immutability-policy-until-date", UNTIL)
                .with("x-ms-immutability-policy-mode", "locked"),
            "/acc/backups/p/b" => told.with("x-ms-legal-hold", "true"),
            "/acc/backups/p/c" => told,
            "/acc/backups/p/none" => Answer::new(404, "").with("x-ms-error-code", "BlobNotFound"),
            _ if is_container(request) => {
                Answer::new(200, "").with("x-ms-immutable-storage-with-versioning-enabled", "true")
            }
            _ => Answer::new(200, listed.clone()).with("content-type", "application/xml"),
        }
    })
}

/// The pretended service is one to Microsoft's client for Python, too.
#[test]
fn what_is_pretended_of_locks_is_what_microsofts_client_reads() {
    let server = locked_or_held();
    let Some(read) = sdk::ask("microsofts.py", &connection_string(&server)) else {
        return;
    };
    let a = "p/a 2099-01-01T00:00:00+00:00 locked";
    let lines: Vec<&str> = read.lines().collect();
    assert_eq!(lines[0], "container True None None");
    assert!(lines[1].starts_with(&format!("listed {a}")), "{read}");
    assert!(lines[2].starts_with(&format!("asked {a}")), "{read}");
    assert_eq!(
        lines[3..5],
        ["listed p/b None None True", "asked p/b None None True"]
    );
    assert_eq!(
        lines[5..],
        ["listed p/c None None None", "asked p/c None None None"]
    );
}

#[tokio::test]
async fn what_is_locked_or_held_by_itself_is_told_by_answers_and_by_listings() {
    let server = locked_or_held();
    let store = store(&server);
    let expected = [
        Lock::until(until(), LockMode::Compliance),
        Lock::Held,
        Lock::Free,
    ];
    // Before anybody has asked what holds for all of it, silence of a blob is none of the container.
    let before = store
        .list(ListRequest::below(""))
        .await
        .expect("a page")
        .objects;
    let before: Vec<_> = before.into_iter().map(|object| object.lock).collect();
    assert_eq!(before, [Some(expected[0].clone()), Some(Lock::Held), None]);
    let locks = store.locks(&["a", "b", "c", "none"].map(key)).await;
    assert_eq!(locks[..3], expected);
    assert_eq!(locks[3], Lock::Free);
    let after = store
        .list(ListRequest::below(""))
        .await
        .expect("a page")
        .objects;
    let after: Vec<_> = after.into_iter().filter_map(|object| object.lock).collect();
    assert_eq!(after, expected);
}

#[tokio::test]
async fn a_policy_of_the_container_locks_all_of_it_until_a_time_that_is_not_told() {
    let locked = Lock::LockedUntil {
        until: None,
        mode: LockMode::Compliance,
    };
    for (header, expected) in [
        ("x-ms-has-immutability-policy", locked),
        ("x-ms-has-legal-hold", Lock::Held),
    ] {
        let server = Standin::new(move |request| {
            let told = Answer::new(200, "");
            if request.path().ends_with("/backups") {
                told.with(header, "true")
            } else {
                told
            }
        });
        assert_eq!(
            store(&server).locks(&[key("a")]).await,
            [expected],
            "{header}"
        );
    }
}

#[tokio::test]
async fn what_may_not_be_seen_is_unknown() {
    let server =
        Standin::new(|_| Answer::new(403, "").with("x-ms-error-code", "AuthorizationFailure"));
    let locks = store(&server).locks(&[key("a")]).await;
    assert!(matches!(&locks[..], [Lock::Unknown(_)]), "{locks:?}");
    let retention = store(&server).retention().await.expect("it is told");
    assert!(
        matches!(retention.locking, Locking::Unknown(_)),
        "{retention:?}"
    );
    assert!(
        matches!(retention.remains, Remains::Unknown(_)),
        "{retention:?}"
    );
}

#[tokio::test]
async fn what_a_delete_leaves_behind_is_told() {
    let kept = Remains::SoftDeleted {
        kept: std::time::Duration::from_hours(7 * 24),
    };
    let version = "</Properties><VersionId>2026-11-21T10:00:00Z</VersionId><Properties>";
    let cases = [
        ("<Enabled>false</Enabled>", "", Remains::Nothing),
        ("<Enabled>true</Enabled><Days>7</Days>", "", kept),
        (
            "<Enabled>false</Enabled>",
            version,
            Remains::Version { kept: None },
        ),
    ];
    for (policy, more, expected) in cases {
        let (policy, listed) = (policy.to_owned(), page(&blob("a", more)));
        let server = Standin::new(move |request| {
            if request.query().contains("restype=service") {
                let policy = format!(
                    "<StorageServiceProperties><DeleteRetentionPolicy>{policy}\
                     </DeleteRetentionPolicy></StorageServiceProperties>"
                );
                Answer::new(200, policy)
            } else if is_container(request) {
                Answer::new(200, "")
            } else {
                Answer::new(200, listed.clone())
            }
        });
        let retention = store(&server).retention().await.expect("it is told");
        assert_eq!(
            (retention.locking, retention.remains),
            (Locking::Off, expected)
        );
    }
}

#[tokio::test]
async fn what_arrives_otherwise_than_it_was_sent_is_no_part() {
    // CRC-64/NVME of `x`, in the order of bytes that Azure documents, and something else.
    for (crc64, expected) in [("seRUZAJnvS0=", true), ("AAAAAAAAAAA=", false)] {
        let server = Standin::new(move |_| Answer::new(201, "").with("x-ms-content-crc64", crc64));
        let options = barkeep::store::UploadOptions {
            part_bytes: 65_536,
            mode: PutMode::Create,
            tags: barkeep::store::Tags::default(),
        };
        let upload = store(&server)
            .begin_upload(&key("a"), options)
            .await
            .expect("begun");
        let sent = upload.put_part(1, bytes::Bytes::from_static(b"x")).await;
        let expected = (!expected).then_some(Meaning::Checksum);
        assert_eq!(meaning(sent), expected, "{crc64}");
    }
}
