//! What is on the wire: a server that answers by script and remembers what it was asked.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use barkeep::{
    model::{
        desired::{Checksums, S3Encryption, S3Options},
        lock::{Lock, LockMode},
    },
    store::{
        GetOptions, Key, Meaning, ObjectVersion, PutMode, PutOptions, Store, StoreExt, Tags,
        UploadOptions, s3::S3,
    },
};
use bytes::Bytes;
use futures_util::TryStreamExt;

use super::{keys, options};
use crate::{
    key, meaning,
    support::http::{Answer, Reply, Request, Standin},
};

/// A server that gives one answer after another.
struct Script {
    server: Standin,
    left: Arc<Mutex<VecDeque<Reply>>>,
}

impl Script {
    fn new(answers: Vec<Reply>) -> Self {
        let left = Arc::new(Mutex::new(VecDeque::from(answers)));
        let next = left.clone();
        let server = Standin::new(move |_| {
            let next = next.lock().expect("no panic").pop_front();
            // What was not expected is refused, and counted.
            next.unwrap_or_else(|| error("400 Bad Request", "Unexpected"))
        });
        Self { server, left }
    }

    async fn store(&self, checksums: Checksums) -> S3 {
        self.with(&options(self.server.url(), checksums)).await
    }

    async fn with(&self, options: &S3Options) -> S3 {
        S3::with_keys("bucket", "p", options, Some(keys("secret"))).await
    }

    /// What it was asked, which was as much as it had answers for.
    fn asked(&self) -> Vec<Request> {
        let left = self.left.lock().expect("no panic").len();
        assert_eq!(left, 0, "all answers were asked for");
        self.server.asked()
    }
}

fn whole(status: &str, headers: &str, body: &str) -> Answer {
    let status = status.split(' ').next().expect("a number").parse();
    let answer = Answer::new(status.expect("a number"), body);
    let headers = headers
        .lines()
        .map(|line| line.split_once(": ").expect("a header"));
    headers.fold(answer, |answer, (name, value)| {
        answer.with(&name.to_lowercase(), value)
    })
}

fn answer(status: &str, headers: &str, body: &str) -> Reply {
    whole(status, headers, body).into()
}

fn error(status: &str, code: &str) -> Reply {
    answer(status, "", &format!("<Error><Code>{code}</Code></Error>"))
}

fn in_parts(part_bytes: u64) -> UploadOptions {
    UploadOptions {
        part_bytes,
        mode: PutMode::Overwrite,
        tags: Tags::default(),
    }
}

#[tokio::test]
async fn a_put_is_one_request_with_a_checksum_in_its_header_and_a_body_as_it_is() {
    for (checksums, crc32, sha256) in [
        (
            Checksums::WhenSupported,
            Some("jNwWgw=="),
            "UNSIGNED-PAYLOAD",
        ),
        (
            Checksums::WhenRequired,
            None,
            "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
        ),
    ] {
        let script = Script::new(vec![answer("200 OK", "ETag: \"e\"\r\n", "")]);
        let store = script.store(checksums).await;
        let put = PutOptions {
            mode: PutMode::Create,
            tags: Tags::default(),
        };
        let content = Bytes::from_static(b"x");
        let stored = store
            .put(&key("a b"), content, put)
            .await
            .expect("it is written");
        assert_eq!(stored.date.to_string(), "2026-11-21T10:00:00Z");
        let [request] = &script.asked()[..] else {
            panic!("one request")
        };
        assert!(
            request.line.starts_with("PUT /bucket/p/a%20b?"),
            "{}",
            request.line
        );
        assert_eq!(request.header("x-amz-checksum-crc32"), crc32);
        assert_eq!(request.header("x-amz-content-sha256"), Some(sha256));
        assert_eq!(request.header("if-none-match"), Some("*"));
        for absent in [
            "x-amz-trailer",
            "content-encoding",
            "transfer-encoding",
            "x-amz-storage-class",
        ] {
            assert_eq!(request.header(absent), None, "{absent}");
        }
        assert_eq!(request.body, b"x");
    }
}

#[tokio::test]
async fn a_batch_deletion_always_has_its_md5_and_no_other_checksum_where_those_are_refused() {
    for (checksums, has_crc32) in [
        (Checksums::WhenSupported, true),
        (Checksums::WhenRequired, false),
    ] {
        let refusal = "<DeleteResult><Error><Key>p/b</Key><Code>AccessDenied</Code>\
                       <Message>no</Message></Error></DeleteResult>";
        let script = Script::new(vec![answer("200 OK", "", refusal)]);
        let deleted = script
            .store(checksums)
            .await
            .delete(&[key("a"), key("b")])
            .await;
        assert!(deleted[0].outcome.is_ok());
        assert_eq!(
            meaning(deleted[1].outcome.clone()),
            Some(Meaning::PermissionDenied)
        );
        let [request] = &script.asked()[..] else {
            panic!("one request")
        };
        assert_eq!(request.header("content-md5").map(str::len), Some(24));
        let crc32 = request
            .headers
            .iter()
            .any(|(name, _)| name.starts_with("x-amz-checksum-"));
        assert_eq!(crc32, has_crc32, "{request:?}");
        let signed = request.header("authorization").expect("it is signed");
        assert!(signed.contains("content-md5"), "{signed}");
    }
}

#[tokio::test]
async fn a_store_without_batches_is_asked_for_one_after_the_other() {
    let gone = || answer("204 No Content", "", "");
    let script = Script::new(vec![
        error("501 Not Implemented", "NotImplemented"),
        gone(),
        gone(),
    ]);
    let deleted = script
        .store(Checksums::WhenSupported)
        .await
        .delete(&[key("a"), key("b")])
        .await;
    assert!(
        deleted.iter().all(|deleted| deleted.outcome.is_ok()),
        "{deleted:?}"
    );
    let asked = script.asked();
    assert!(
        asked[0].line.starts_with("POST /bucket/?delete"),
        "{}",
        asked[0].line
    );
    assert!(
        asked[1..]
            .iter()
            .all(|request| request.line.starts_with("DELETE /bucket/p/"))
    );
}

#[tokio::test]
async fn a_refused_batch_is_not_done_by_other_means() {
    let script = Script::new(vec![error("403 Forbidden", "AccessDenied")]);
    let deleted = script
        .store(Checksums::WhenSupported)
        .await
        .delete(&[key("a")])
        .await;
    assert_eq!(
        meaning(deleted[0].outcome.clone()),
        Some(Meaning::PermissionDenied)
    );
    assert_eq!(script.asked().len(), 1);
}

#[tokio::test]
async fn reading_goes_on_where_it_broke_off_with_the_same_object() {
    let told = "ETag: \"e\"\r\nLast-Modified: Sat, 21 Nov 2026 09:00:00 GMT\r\n";
    let broken = Reply::Broken(whole("200 OK", told, "0123456789"));
    let ranged = format!("{told}Content-Range: bytes 5-9/10\r\n");
    let script = Script::new(vec![
        broken,
        answer("206 Partial Content", &ranged, "56789"),
    ]);
    let store = script.store(Checksums::WhenSupported).await;
    assert_eq!(
        store.get_text(&key("a")).await.expect("it is read"),
        "0123456789"
    );
    let asked = script.asked();
    assert_eq!(asked[0].header("x-amz-checksum-mode"), Some("ENABLED"));
    assert_eq!(asked[1].header("range"), Some("bytes=5-9"));
    assert_eq!(asked[1].header("if-match"), Some("\"e\""));
}

#[tokio::test]
async fn what_is_not_what_was_stored_is_an_error_at_the_end() {
    let headers = "ETag: \"e\"\r\nx-amz-checksum-crc32: jNwWgw==\r\n";
    let script = Script::new(vec![
        answer("200 OK", headers, "x"),
        answer("200 OK", headers, "y"),
    ]);
    let store = script.store(Checksums::WhenSupported).await;
    assert_eq!(store.get_text(&key("a")).await.expect("it is read"), "x");
    let result = store
        .get(&key("a"), GetOptions::default())
        .await
        .expect("it begins");
    let read: Result<Vec<Bytes>, _> = result.body.try_collect().await;
    assert_eq!(meaning(read), Some(Meaning::Checksum));
    script.asked();
}

#[tokio::test]
async fn a_completion_whose_answer_was_lost_is_recognised() {
    // MD5 of "x", and of that digest; the same of CRC-32.
    let (part, whole) = (
        "9dd4e461268c8034f5c8564e155c67a6",
        "9affad555af89da9b0bfcd5e45bc93da",
    );
    let (part_crc, whole_crc) = ("x-amz-checksum-crc32: jNwWgw==", "anF9hg==-1");
    let cases = [
        (format!("ETag: \"{whole}-1\""), true),
        ("ETag: \"another-1\"".to_owned(), false),
        (
            format!("ETag: \"encrypted\"\r\nx-amz-checksum-crc32: {whole_crc}"),
            true,
        ),
        (
            "ETag: \"encrypted\"\r\nx-amz-checksum-crc32: AAAAAA==-1".to_owned(),
            false,
        ),
    ];
    for (found, expected) in cases {
        let script = Script::new(vec![
            answer(
                "200 OK",
                "",
                "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>",
            ),
            answer("200 OK", &format!("ETag: \"{part}\"\r\n{part_crc}"), ""),
            error("404 Not Found", "NoSuchUpload"),
            answer("200 OK", &found, "x"),
        ]);
        let store = script.store(Checksums::WhenSupported).await;
        let upload = store
            .begin_upload(&key("a"), in_parts(1))
            .await
            .expect("it begins");
        let sent = upload
            .put_part(1, Bytes::from_static(b"x"))
            .await
            .expect("it is sent");
        let completed = upload.complete(vec![sent]).await;
        assert_eq!(completed.is_ok(), expected, "{completed:?}");
        script.asked();
    }
}

#[tokio::test]
async fn an_answer_that_is_no_answer_is_not_an_absence() {
    // A proxy's page; the SDK repeats what may pass.
    for (status, expected, answers) in [
        ("403 Forbidden", Meaning::PermissionDenied, 1),
        ("404 Not Found", Meaning::Unreachable, 1),
        ("502 Bad Gateway", Meaning::Unreachable, 5),
    ] {
        let page = answer(status, "", "<html>sorry</html>");
        let script = Script::new(vec![page; answers]);
        let store = script.store(Checksums::WhenSupported).await;
        let read = store.get(&Key::verbatim("a"), GetOptions::default()).await;
        assert_eq!(meaning(read), Some(expected), "{status}");
        script.asked();
    }
}

#[tokio::test]
async fn a_replacement_names_the_version_that_was_read() {
    let script = Script::new(vec![error("412 Precondition Failed", "PreconditionFailed")]);
    let store = script.store(Checksums::WhenSupported).await;
    let mode = PutMode::Replace(ObjectVersion("abc".to_owned()));
    let refused = store.put_text(&key("a"), "x", mode).await;
    assert_eq!(meaning(refused), Some(Meaning::Precondition));
    assert_eq!(script.asked()[0].header("if-match"), Some("\"abc\""));
}

#[tokio::test]
async fn a_bucket_of_another_region_is_followed_there_once_and_for_all() {
    let moved = answer(
        "301 Moved Permanently",
        "x-amz-bucket-region: eu-south-1\r\n",
        "<Error><Code>PermanentRedirect</Code></Error>",
    );
    let stored = || answer("200 OK", "ETag: \"e\"\r\n", "");
    let script = Script::new(vec![moved, stored(), stored()]);
    let store = script.store(Checksums::WhenSupported).await;
    for text in ["1", "2"] {
        let put = store.put_text(&key("a"), text, PutMode::Overwrite).await;
        put.expect("it is written");
    }
    let asked = script.asked();
    let region = |request: &Request| {
        let signed = request.header("authorization").expect("it is signed");
        signed.contains("/eu-south-1/s3/")
    };
    assert_eq!(
        asked.iter().map(region).collect::<Vec<_>>(),
        [false, true, true]
    );
    assert_eq!(asked[1].body, b"1");
}

#[tokio::test]
async fn objects_are_encrypted_as_configured_and_else_as_the_bucket_says() {
    let aes = S3Encryption::Aes256;
    let own = S3Encryption::Kms {
        key: Some("alias/pg".to_owned()),
    };
    let default = S3Encryption::Kms { key: None };
    let cases = [
        (None, None, None),
        (Some(aes), Some("AES256"), None),
        (Some(own), Some("aws:kms"), Some("alias/pg")),
        (Some(default), Some("aws:kms"), None),
    ];
    for (encryption, kind, key_id) in cases {
        let begun = "<InitiateMultipartUploadResult><UploadId>u</UploadId>\
                     </InitiateMultipartUploadResult>";
        let script = Script::new(vec![
            answer("200 OK", "ETag: \"e\"", ""),
            answer("200 OK", "", begun),
            answer("200 OK", "ETag: \"e\"", ""),
        ]);
        let options = S3Options {
            encryption,
            ..options(script.server.url(), Checksums::WhenSupported)
        };
        let store = script.with(&options).await;
        let put = store.put_text(&key("a"), "x", PutMode::Overwrite).await;
        put.expect("it is written");
        let upload = store.begin_upload(&key("a"), in_parts(1)).await;
        let part = upload.expect("it begins").put_part(1, "x".into()).await;
        part.expect("it is sent");
        let asked = script.asked();
        let told = |request: &Request, header: &str| request.header(header).map(str::to_owned);
        for request in &asked[..2] {
            let told = [
                told(request, "x-amz-server-side-encryption"),
                told(request, "x-amz-server-side-encryption-aws-kms-key-id"),
            ];
            assert_eq!(told.each_ref().map(Option::as_deref), [kind, key_id]);
        }
        // A part must not say it again.
        assert_eq!(told(&asked[2], "x-amz-server-side-encryption"), None);
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_in_time_is_unreachable() {
    let script = Script::new(vec![Reply::Silence; 5]);
    let options = S3Options {
        read_timeout: Some(Duration::from_millis(50)),
        ..options(script.server.url(), Checksums::WhenSupported)
    };
    let store = script.with(&options).await;
    let read = store.get_text(&key("a")).await;
    assert_eq!(meaning(read), Some(Meaning::Unreachable));
}

#[tokio::test]
async fn locks_are_believed_only_where_the_store_shows_them() {
    let keys = [key("a"), key("b")];
    let none = "ObjectLockConfigurationNotFoundError";
    let script = Script::new(vec![error("404 Not Found", none)]);
    let store = script.store(Checksums::WhenSupported).await;
    assert_eq!(store.locks(&keys).await, [Lock::Free, Lock::Free]);
    assert_eq!(
        script.asked().len(),
        1,
        "without locks, one question answers all"
    );

    let enabled = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>\
                   </ObjectLockConfiguration>";
    let denied = || error("403 Forbidden", "AccessDenied");
    let script = Script::new(vec![answer("200 OK", "", enabled), denied()]);
    let locks = script
        .store(Checksums::WhenSupported)
        .await
        .locks(&keys)
        .await;
    let is_unknown = |lock: &Lock| matches!(lock, Lock::Unknown(_));
    assert!(locks.iter().all(is_unknown), "{locks:?}");

    let unlocked = || error("404 Not Found", "NoSuchObjectLockConfiguration");
    let until = "x-amz-object-lock-mode: GOVERNANCE\r\n\
                 x-amz-object-lock-retain-until-date: 2099-01-01T00:00:00Z\r\n";
    let script = Script::new(vec![
        answer("200 OK", "", enabled),
        unlocked(),
        unlocked(),
        answer("200 OK", until, ""),
    ]);
    let store = script.store(Checksums::WhenSupported).await;
    let until = "2099-01-01T00:00:00Z".parse().expect("an instant");
    let locked = Lock::until(until, LockMode::Governance);
    assert_eq!(store.locks(&keys[..1]).await, [locked]);

    let script = Script::new(vec![denied(), error("400 Bad Request", "InvalidRequest")]);
    let locks = script
        .store(Checksums::WhenSupported)
        .await
        .locks(&keys)
        .await;
    assert_eq!(
        locks,
        [Lock::Free, Lock::Free],
        "the bucket has no Object Lock"
    );
}
