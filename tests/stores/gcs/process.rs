//! The program itself: what it takes from its environment, over TLS and through a proxy.

use std::{path::Path, process::Command};

use crate::support::{
    certificates::Authority,
    http::{Answer, Request, Standin},
};

/// An empty bucket, for whoever asks.
fn empty_bucket(_: &Request) -> Answer {
    Answer::new(200, "{}")
}

/// What lists the backups in a bucket of this service, with nothing of this machine's environment.
fn listing(directory: &Path, settings: &str) -> Command {
    let config = directory.join("barkeep.toml");
    let text = format!(
        "version = 1\n[servers.orders]\ndestination = \"g\"\n\
         [destinations.g]\nurl = \"gs://bucket/p\"\n{settings}\n"
    );
    std::fs::write(&config, text).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_barkeep"));
    command
        .args(["list", "--config"])
        .arg(config)
        .env_clear()
        .env("HOME", directory);
    command
}

/// What it said of a failure.
fn said(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_certificate_is_trusted_for_who_has_signed_it() {
    let authority = Authority::new();
    let issued = authority.issue("localhost", "subjectAltName=DNS:localhost");
    let service = Standin::with_tls(&issued, empty_bucket);
    let machine = Standin::new(|_: &Request| {
        Answer::new(
            200,
            r#"{"access_token": "t", "expires_in": 3600, "token_type": "Bearer"}"#,
        )
        .with("content-type", "application/json")
        .with("metadata-flavor", "Google")
    });
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = format!("gcs.endpoint_url = \"{}\"", service.url());
    let host = machine.url().trim_start_matches("http://");
    let mut command = listing(directory.path(), &settings);
    command.env("GCE_METADATA_HOST", host);
    let refused = said(&mut command);
    assert!(refused.contains("certificate"), "{refused}");
    assert!(service.asked().is_empty());
    command.env("SSL_CERT_FILE", authority.certificate());
    let listed = said(&mut command);
    let asked = service.asked();
    assert!(!asked.is_empty(), "{listed}");
    assert!(
        asked
            .iter()
            .all(|asked| asked.header("authorization") == Some("Bearer t"))
    );
}

#[test]
fn a_proxy_of_the_environment_is_used() {
    let proxy = Standin::new(empty_bucket);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = listing(directory.path(), "");
    command
        .env("STORAGE_EMULATOR_HOST", "http://storage.example.org")
        .env("http_proxy", proxy.url());
    let listed = said(&mut command);
    let asked = proxy.asked();
    let target = asked.first().map(Request::target).unwrap_or_default();
    assert!(
        target.starts_with("http://storage.example.org/storage/v1/b/bucket/o"),
        "{listed}"
    );
}
