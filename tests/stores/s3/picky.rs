//! Stores that speak S3 with peculiarities: what such a store refuses or ignores is put in front of a server that does not.

use std::process::Command;

use barkeep::{
    model::desired::Checksums,
    store::{PutMode, Store, StoreExt, conformance},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use md5::{Digest as _, Md5};

use super::{options, store};
use crate::{
    key,
    support::{
        http::{Answer, Request, Standin, forward},
        s3::Server,
    },
};

/// What a store does otherwise.
#[derive(Clone, Copy, Debug)]
enum Peculiarity {
    /// A batch deletion must have its MD5, as AWS demanded for years.
    DemandsMd5,
    /// Checksums in headers and trailers are not known.
    RefusesCrc,
    /// There are no batch deletions.
    HasNoBatches,
    /// Conditions are read over.
    IgnoresConditions,
}

impl Peculiarity {
    fn serve(self, request: &Request, upstream: &str) -> Answer {
        let is_batch = request.method() == "POST" && request.query().starts_with("delete");
        let refusal = match self {
            Self::DemandsMd5 if is_batch => wrong_md5(request),
            Self::RefusesCrc => checksum(request),
            Self::HasNoBatches if is_batch => Some((501, "NotImplemented")),
            _ => None,
        };
        if let Some((status, code)) = refusal {
            let body = format!("<Error><Code>{code}</Code><Message>peculiar</Message></Error>");
            return Answer::new(status, body);
        }
        let mut request = request.clone();
        if matches!(self, Self::IgnoresConditions) {
            let is_condition = |name: &str| name == "if-match" || name == "if-none-match";
            request.headers.retain(|(name, _)| !is_condition(name));
        }
        forward(&request, upstream)
    }

    fn before(self, server: &Server) -> Standin {
        let upstream = server.url();
        Standin::new(move |request| self.serve(request, &upstream))
    }
}

fn wrong_md5(request: &Request) -> Option<(u16, &'static str)> {
    let expected = STANDARD.encode(Md5::digest(&request.body));
    match request.header("content-md5") {
        None => Some((400, "InvalidRequest")),
        Some(told) if told != expected => Some((400, "BadDigest")),
        Some(_) => None,
    }
}

fn checksum(request: &Request) -> Option<(u16, &'static str)> {
    let is_checksum = |name: &str| {
        name.starts_with("x-amz-checksum-") && name != "x-amz-checksum-mode"
            || name == "x-amz-sdk-checksum-algorithm"
            || name == "x-amz-trailer"
    };
    let mut headers = request.headers.iter();
    let has_one = headers.any(|(name, _)| is_checksum(name));
    has_one.then_some((501, "NotImplemented"))
}

#[tokio::test]
async fn a_store_that_demands_md5_or_refuses_checksums_conforms() {
    let Some(server) = Server::s3s() else { return };
    let cases = [
        (
            Peculiarity::DemandsMd5,
            Checksums::WhenSupported,
            "supported",
        ),
        (Peculiarity::DemandsMd5, Checksums::WhenRequired, "required"),
        (Peculiarity::RefusesCrc, Checksums::WhenRequired, "refusing"),
    ];
    for (peculiarity, checksums, bucket) in cases {
        let front = peculiarity.before(&server);
        let store = store((bucket, "p"), &options(front.url(), checksums)).await;
        store.create_destination().await.expect("a bucket");
        // Many at once, and the one of a keep that is released.
        conformance::basic(&store).await;
        let keep = key("srv/base/20261120T020003/annotations/keep");
        let set = store.put_text(&keep, "full", PutMode::Create).await;
        set.expect("the keep is set");
        let released = store.delete(std::slice::from_ref(&keep)).await;
        assert!(released[0].outcome.is_ok(), "{peculiarity:?}: {released:?}");
        assert!(
            !store.exists(&keep).await.expect("an answer"),
            "{peculiarity:?}"
        );
    }
}

/// What `check --probe` prints, and its exit code, about a store before which stands a peculiar one.
fn checked(peculiarity: Option<Peculiarity>, format: &str) -> Option<(String, Option<i32>)> {
    let server = Server::moto()?;
    server.send("PUT", "/bucket", "", "");
    let front = peculiarity.map(|peculiarity| peculiarity.before(&server));
    let url = front
        .as_ref()
        .map_or(server.url(), |front| front.url().to_owned());
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("barkeep.toml");
    let text = format!(
        "version = 1\n[servers.orders]\ndestination = \"far\"\n\
         [destinations.far]\nurl = \"s3://bucket/p\"\n\
         [destinations.far.s3]\nregion = \"us-east-1\"\nendpoint_url = \"{url}\"\n"
    );
    std::fs::write(&config, text).expect("it is written");
    let output = Command::new(env!("CARGO_BIN_EXE_barkeep"))
        .args(["check", "--probe", "--format", format, "--config"])
        .arg(&config)
        .env_clear()
        .envs([
            ("AWS_ACCESS_KEY_ID", "testkey"),
            ("AWS_SECRET_ACCESS_KEY", "testsecret1"),
        ])
        .output()
        .expect("it runs");
    let left = server.send("GET", "/bucket?list-type=2", "", "");
    assert!(!left.contains("<Key>"), "nothing is left: {left}");
    let text = String::from_utf8(output.stdout).expect("text");
    Some((text, output.status.code()))
}

#[test]
fn a_probe_tells_what_a_store_can_and_in_which_mode_barkeep_works_there() {
    let cases = [
        (
            None,
            "conditional writes, leases, no checksums, batch deletes",
            Some(0),
            "",
        ),
        (
            Some(Peculiarity::HasNoBatches),
            "conditional writes, leases, no checksums, single deletes",
            Some(0),
            "one by one",
        ),
        (
            Some(Peculiarity::IgnoresConditions),
            "plain writes, no leases, no checksums, batch deletes",
            Some(0),
            "what exists is created again",
        ),
        (
            Some(Peculiarity::RefusesCrc),
            "conditional writes, leases, no checksums, batch deletes",
            Some(1),
            "hint: set `checksums = \"when_required\"` in `[destinations.far.s3]`",
        ),
    ];
    for (peculiarity, mode, status, told) in cases {
        let Some((text, exit)) = checked(peculiarity, "text") else {
            return;
        };
        assert!(text.contains(mode), "{peculiarity:?}: {text}");
        assert!(text.contains(told), "{peculiarity:?}: {text}");
        assert_eq!(exit, status, "{peculiarity:?}: {text}");
    }
}

#[test]
fn a_probe_is_told_to_programs_too() {
    let Some((text, _)) = checked(Some(Peculiarity::IgnoresConditions), "json") else {
        return;
    };
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let checks = json["checks"].as_array().expect("a list");
    let found = |what: &str| {
        let mut named = checks.iter().filter(|check| check["what"] == what);
        named.next().map(|check| check["result"].clone())
    };
    assert_eq!(found("creating once in far"), Some("limited".into()));
    assert_eq!(found("overwriting in far"), Some("good".into()));
}
