//! `sslmode` in all its meanings, against servers with certificates of several kinds.

use std::os::unix::fs::PermissionsExt;

use barkeep::postgres::{
    Connector, Environment, Error, Session, TlsError, replication::Replication,
};

use crate::support::{
    certificates::{Authority, Issued},
    cluster::Cluster,
};

/// A started server that shows a certificate, and lets in `me` as the lines say.
fn server(shown: &Issued, authority: &Authority, lines: &str) -> Option<Cluster> {
    let mut cluster = Cluster::create(17)?;
    cluster.listen();
    cluster.install(&shown.certificate, "server.crt");
    cluster.install(&shown.key, "server.key");
    cluster.install(&authority.certificate(), "root.crt");
    cluster.configure(&[("ssl", "on"), ("ssl_ca_file", "root.crt")]);
    // Replication has lines of its own.
    let replication = lines.replace(" all ", " replication ");
    cluster.let_in(&format!("{lines}\n{replication}"));
    cluster.start();
    cluster.sql(
        "CREATE ROLE me LOGIN REPLICATION PASSWORD 'right'; \
         CREATE ROLE certified LOGIN REPLICATION",
    );
    Some(cluster)
}

fn connector(cluster: &Cluster, conninfo: &str) -> Result<Connector, Error> {
    let port = cluster.port();
    let conninfo = format!("hostaddr=127.0.0.1 port={port} user=me dbname=postgres {conninfo}");
    Connector::new(&conninfo, None, &Environment::default())
}

async fn connect(cluster: &Cluster, conninfo: &str) -> Result<Session, Error> {
    connector(cluster, conninfo)?.connect().await
}

async fn replicate(cluster: &Cluster, conninfo: &str) -> Result<Replication, Error> {
    connector(cluster, conninfo)?.replicate().await
}

/// `encrypted`, `plain`, or `refused` by whom.
fn outcome(is_encrypted: Result<bool, Error>) -> &'static str {
    match is_encrypted {
        Ok(true) => "encrypted",
        Ok(false) => "plain",
        Err(error) if barkeep::failure::chain(&error).contains("SQLSTATE") => "refused there",
        Err(_) => "refused here",
    }
}

/// Sessions for SQL and for replication are made by different code, and must agree.
async fn check(cluster: &Cluster, cases: &[(&str, &str)]) {
    for (conninfo, expected) in cases {
        let session = connect(cluster, conninfo).await;
        let session = session.map(|session| session.is_encrypted());
        assert_eq!(outcome(session), *expected, "{conninfo}");
        let session = replicate(cluster, conninfo).await;
        let session = session.map(|session| session.is_encrypted());
        assert_eq!(outcome(session), *expected, "replication: {conninfo}");
    }
}

const TRUST: &str = "host all me 127.0.0.1/32 trust";

#[tokio::test]
async fn a_chain_is_verified_where_there_are_authorities_and_a_name_when_asked() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let shown = authority.issue(
        "ignored",
        "subjectAltName=DNS:db.example,DNS:*.wild.example",
    );
    let Some(cluster) = server(&shown, &authority, TRUST) else {
        return;
    };
    let (trusted, strange) = (authority.certificate(), stranger.certificate());
    let (trusted, strange) = (trusted.display(), strange.display());
    let cases = [
        ("sslmode=disable".to_owned(), "plain"),
        ("sslmode=allow".to_owned(), "plain"),
        ("sslmode=prefer".to_owned(), "encrypted"),
        (String::new(), "encrypted"),
        ("sslmode=require".to_owned(), "encrypted"),
        ("sslmode=require host=other.example".to_owned(), "encrypted"),
        (
            "sslmode=require ssl_max_protocol_version=TLSv1.2".to_owned(),
            "encrypted",
        ),
        (
            "sslmode=require sslnegotiation=direct host=db.example".to_owned(),
            "encrypted",
        ),
        (
            format!("sslmode=require sslrootcert={trusted}"),
            "encrypted",
        ),
        (
            format!("sslmode=require sslrootcert={strange}"),
            "refused here",
        ),
        (format!("sslmode=prefer sslrootcert={strange}"), "plain"),
        (
            format!("sslmode=verify-ca sslrootcert={trusted}"),
            "encrypted",
        ),
        (
            format!("sslmode=verify-ca sslrootcert={strange}"),
            "refused here",
        ),
        (
            format!("sslmode=verify-ca sslrootcert={trusted} host=other.example"),
            "encrypted",
        ),
        (
            format!("sslmode=verify-full sslrootcert={trusted} host=db.example"),
            "encrypted",
        ),
        (
            format!("sslmode=verify-full sslrootcert={trusted} host=a.wild.example"),
            "encrypted",
        ),
        (
            format!("sslmode=verify-full sslrootcert={trusted} host=other.example"),
            "refused here",
        ),
        // The common name does not count beside alternative names.
        (
            format!("sslmode=verify-full sslrootcert={trusted} host=ignored"),
            "refused here",
        ),
        (
            format!("sslmode=verify-full sslrootcert={trusted}"),
            "refused here",
        ),
        (
            format!("sslmode=verify-full sslrootcert={strange} host=db.example"),
            "refused here",
        ),
        (
            "sslmode=verify-full sslrootcert=system host=db.example".to_owned(),
            "refused here",
        ),
    ];
    let cases = cases
        .each_ref()
        .map(|(conninfo, expected)| (conninfo.as_str(), *expected));
    check(&cluster, &cases).await;
}

#[tokio::test]
async fn a_common_name_counts_where_there_is_no_alternative_name() {
    let authority = Authority::new();
    let shown = authority.issue("*.cn.example", "");
    let Some(cluster) = server(&shown, &authority, TRUST) else {
        return;
    };
    let full = format!(
        "sslmode=verify-full sslrootcert={}",
        authority.certificate().display()
    );
    let cases = [
        (format!("{full} host=db.cn.example"), "encrypted"),
        (format!("{full} host=cn.example"), "refused here"),
    ];
    let cases = cases
        .each_ref()
        .map(|(conninfo, expected)| (conninfo.as_str(), *expected));
    check(&cluster, &cases).await;
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_by_itself() {
    let authority = Authority::new();
    let shown = authority.self_signed("own.example");
    let Some(cluster) = server(&shown, &authority, TRUST) else {
        return;
    };
    let own = format!("sslrootcert={}", shown.certificate.display());
    let cases = [
        (
            format!("{own} sslmode=verify-full host=own.example"),
            "encrypted",
        ),
        (
            format!("{own} sslmode=verify-full host=other.example"),
            "refused here",
        ),
        (
            format!("{own} sslmode=verify-ca host=other.example"),
            "encrypted",
        ),
    ];
    let cases = cases
        .each_ref()
        .map(|(conninfo, expected)| (conninfo.as_str(), *expected));
    check(&cluster, &cases).await;
}

#[tokio::test]
async fn an_old_certificate_encrypts_but_cannot_be_verified() {
    let authority = Authority::new();
    let shown = authority.issue_version_1("db.example");
    let Some(cluster) = server(&shown, &authority, TRUST) else {
        return;
    };
    let verify = format!(
        "sslmode=verify-ca sslrootcert={}",
        authority.certificate().display()
    );
    check(
        &cluster,
        &[("sslmode=require", "encrypted"), (&verify, "refused here")],
    )
    .await;
}

#[tokio::test]
async fn what_a_mode_leaves_open_the_server_decides() {
    let authority = Authority::new();
    let shown = authority.issue("x", "subjectAltName=IP:127.0.0.1");
    let only_encrypted = "hostssl all me 127.0.0.1/32 trust";
    let Some(cluster) = server(&shown, &authority, only_encrypted) else {
        return;
    };
    let ip = format!(
        "sslmode=verify-full host=127.0.0.1 sslrootcert={}",
        authority.certificate().display()
    );
    let cases = [
        ("sslmode=allow", "encrypted"),
        ("sslmode=disable", "refused there"),
        (ip.as_str(), "encrypted"),
    ];
    check(&cluster, &cases).await;

    let only_plain = "hostnossl all me 127.0.0.1/32 trust";
    let Some(cluster) = server(&shown, &authority, only_plain) else {
        return;
    };
    let cases = [
        ("sslmode=prefer", "plain"),
        ("sslmode=require", "refused there"),
    ];
    check(&cluster, &cases).await;

    let Some(mut cluster) = Cluster::create(17) else {
        return;
    };
    cluster.listen();
    cluster.let_in(&format!(
        "{TRUST}\n{}",
        TRUST.replace(" all ", " replication ")
    ));
    cluster.start();
    cluster.sql("CREATE ROLE me LOGIN REPLICATION");
    check(
        &cluster,
        &[
            ("sslmode=prefer", "plain"),
            ("sslmode=require", "refused here"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_client_certificate_logs_in() {
    let authority = Authority::new();
    let shown = authority.issue("localhost", "subjectAltName=DNS:localhost");
    let lines = "hostssl all certified 127.0.0.1/32 cert";
    let Some(cluster) = server(&shown, &authority, lines) else {
        return;
    };
    let own = authority.issue("certified", "");
    let other = authority.issue("somebody", "");
    let conninfo = |with: &Issued| {
        format!(
            "user=certified sslmode=require sslcert={} sslkey={}",
            with.certificate.display(),
            with.key.display()
        )
    };
    let cases = [
        (conninfo(&own), "encrypted"),
        (conninfo(&other), "refused there"),
        ("user=certified sslmode=require".to_owned(), "refused there"),
        (conninfo(&own) + " sslcertmode=disable", "refused there"),
    ];
    let cases = cases
        .each_ref()
        .map(|(conninfo, expected)| (conninfo.as_str(), *expected));
    check(&cluster, &cases).await;

    let exposed = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&own.key, exposed).expect("chmod");
    let refused = connect(&cluster, &conninfo(&own)).await;
    let refused = refused.expect_err("others may read the key");
    assert!(
        matches!(refused, Error::Tls(TlsError::KeyExposed(_))),
        "{refused}"
    );
}

#[tokio::test]
async fn scram_can_be_bound_to_the_session() {
    let authority = Authority::new();
    let shown = authority.issue("localhost", "subjectAltName=DNS:localhost");
    let lines = "host all me 127.0.0.1/32 scram-sha-256";
    let Some(cluster) = server(&shown, &authority, lines) else {
        return;
    };
    let cases = [
        ("password=right channel_binding=require", "encrypted"),
        (
            "password=right channel_binding=require sslmode=disable",
            "refused here",
        ),
        ("password=right channel_binding=disable", "encrypted"),
        ("password=wrong", "refused there"),
        ("", "refused here"),
    ];
    check(&cluster, &cases).await;
}
