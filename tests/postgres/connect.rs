//! Finding the server and logging in: sockets, several hosts, services, passwords, deadlines.

use std::{
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use barkeep::{
    failure::{Disposition, Kind, chain},
    postgres::{
        BackupRequest, BackupSession, Checkpoint, Connector, Deadlines, Environment, Error,
    },
    secret::Secret,
};
use rustix::process::Signal;

use crate::support::{cluster::Cluster, wait::until};

fn connector(conninfo: &str, environment: &Environment) -> Connector {
    Connector::new(conninfo, None, environment).expect("a valid connection string")
}

/// Where a connection string leads: a socket or port, or the message.
async fn place(conninfo: &str) -> String {
    match connector(conninfo, &Environment::default()).connect().await {
        Ok(session) => session.endpoint().to_owned(),
        Err(error) => chain(&error),
    }
}

/// A started server with `me`, whose password is `right`.
fn server(lines: &str) -> Option<Cluster> {
    let mut cluster = Cluster::create(17)?;
    cluster.listen();
    cluster.let_in(lines);
    cluster.start();
    cluster.sql("CREATE ROLE me LOGIN PASSWORD 'right'");
    Some(cluster)
}

/// A port on which nobody listens.
fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

#[tokio::test]
async fn the_first_host_that_answers_is_taken() {
    let Some(cluster) = server("local all me trust\nhost all me 127.0.0.1/32 trust") else {
        return;
    };
    let (open, closed) = (cluster.port(), closed_port());
    let socket = cluster.socket_directory().display();
    let me = "user=me dbname=postgres";
    let by_port = format!("localhost:{open}");
    let hosts = format!("host=localhost,localhost port={closed},{open} {me}");
    assert_eq!(place(&hosts).await, by_port);
    let uri = format!("postgresql://me@localhost:{closed},localhost:{open}/postgres");
    assert_eq!(place(&uri).await, by_port);
    let mixed = format!("host=/nonexistent,{socket} port={open} {me}");
    assert_eq!(place(&mixed).await, format!("{socket}/.s.PGSQL.{open}"));
    let random =
        format!("host=localhost,localhost port={open},{closed} {me} load_balance_hosts=random");
    assert_eq!(place(&random).await, by_port);
    let nowhere = place(&format!("host=localhost,/nonexistent port={closed} {me}")).await;
    assert!(
        nowhere.starts_with("none of the 2 endpoints can be used: cannot connect"),
        "{nowhere}"
    );
    // Somebody answered, and the answer was no: the other host is not asked.
    let refused = format!("host=localhost,{socket} port={open} user=nobody dbname=postgres");
    assert!(place(&refused).await.contains("SQLSTATE 28000"));
}

#[tokio::test]
async fn a_session_is_of_the_kind_that_is_asked_for() {
    let Some(mut primary) = Cluster::create(17) else {
        return;
    };
    primary.start();
    primary.sql("CREATE ROLE me LOGIN");
    let mut standby = primary.standby();
    standby.start();
    let hosts =
        [&primary, &standby].map(|cluster| cluster.socket_directory().display().to_string());
    let [at_primary, at_standby] = hosts.clone().map(|host| format!("{host}/.s.PGSQL.5432"));
    let cases = [
        ("any", &at_primary),
        ("read-write", &at_primary),
        ("primary", &at_primary),
        ("read-only", &at_standby),
        ("standby", &at_standby),
        ("prefer-standby", &at_standby),
    ];
    for (wanted, expected) in cases {
        let conninfo = format!(
            "host={} user=me dbname=postgres target_session_attrs={wanted}",
            hosts.join(",")
        );
        assert_eq!(place(&conninfo).await, *expected, "{wanted}");
    }
    let only = |host: &str, wanted: &str| {
        format!("host={host} user=me dbname=postgres target_session_attrs={wanted}")
    };
    assert_eq!(place(&only(&hosts[0], "prefer-standby")).await, at_primary);
    let unsuited = place(&only(&hosts[1], "primary")).await;
    let expected = format!("`{at_standby}` is a standby, but the connection asks for a primary");
    assert_eq!(unsuited, expected);
}

fn write_private(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).expect("write");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
}

#[tokio::test]
async fn passwords_come_from_files_services_and_references() {
    let Some(cluster) = server("host all me 127.0.0.1/32 scram-sha-256") else {
        return;
    };
    let home = tempfile::tempdir().expect("a temporary directory");
    let passfile = home.path().join(".pgpass");
    let port = cluster.port();
    write_private(
        &passfile,
        &format!("localhost:{port}:postgres:me:right\n"),
        0o600,
    );
    let service = home.path().join("services");
    let group = format!("[billing]\nhost=localhost\nport={port}\nuser=me\ndbname=postgres\n");
    write_private(&service, &group, 0o644);
    let variables = [("PGSERVICEFILE", service.to_str().expect("UTF-8"))];
    let environment = Environment::new(variables).at_home(home.path());

    let session = connector("service=billing", &environment).connect().await;
    session.expect("by service and password file").close().await;

    let homeless = Environment::new(variables);
    let without = connector("service=billing", &homeless).connect().await;
    let without = without.expect_err("no password");
    let expected = "the server asks for a password and none was found";
    assert_eq!(without.hint().as_deref(), Some(expected));

    let right = Secret::new("right".to_owned());
    let given = Connector::new("service=billing", Some(&right), &homeless).expect("valid");
    given.connect().await.expect("by reference").close().await;

    let wrong = connector("service=billing password=wrong", &environment)
        .connect()
        .await;
    let wrong = wrong.expect_err("a wrong password");
    assert!(chain(&wrong).contains("SQLSTATE 28P01"), "{wrong:?}");
    assert_eq!(
        (wrong.kind(), wrong.disposition()),
        (Kind::Unreachable, Disposition::Permanent)
    );
    assert!(!format!("{wrong:?}").contains("wrong"), "{wrong:?}");

    write_private(&passfile, "*:*:*:*:right\n", 0o644);
    let exposed = connector("service=billing", &environment).connect().await;
    let exposed = exposed.expect_err("the password file is not read");
    assert!(
        exposed
            .hint()
            .is_some_and(|hint| hint.contains("others may read it"))
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    // It accepts connections, as far as the kernel does that for it, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = silent.local_addr().expect("an address").port();
    let deadlines = Deadlines {
        connect: Duration::from_millis(200),
        ..Deadlines::default()
    };
    let conninfo = format!("host=127.0.0.1 port={port} user=me");
    let connector = connector(&conninfo, &Environment::default()).with_deadlines(deadlines);
    let begun = Instant::now();
    let error = connector.connect().await.expect_err("nobody answers");
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert_eq!(
        (error.kind(), error.disposition()),
        (Kind::Unreachable, Disposition::Transient)
    );
}

#[tokio::test]
async fn a_deadline_names_what_it_waited_for_and_cancels_it() {
    let Some(cluster) = server("local all me trust") else {
        return;
    };
    cluster.sql("GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean) TO me");
    let deadlines = Deadlines {
        start: Duration::from_secs(1),
        ..Deadlines::default()
    };
    let connector = connector(&cluster.conninfo("me"), &Environment::default());
    let session = connector
        .with_deadlines(deadlines)
        .connect()
        .await
        .expect("a session");
    // A start waits for a checkpoint, and who makes it stands still.
    cluster.signal("checkpointer", Signal::STOP);
    let request = BackupRequest {
        label: "x".to_owned(),
        checkpoint: Checkpoint::Fast,
    };
    let begun = BackupSession::begin(session, &request).await;
    let error = begun.expect_err("no checkpoint is made");
    assert_eq!(
        error.to_string(),
        "PostgreSQL did not start the backup within 1s"
    );
    assert_eq!(error.disposition(), Disposition::Unknown);
    until("the request to be cancelled", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'me'";
        (cluster.sql(sql) == "0").then_some(())
    })
    .await;
    cluster.signal("checkpointer", Signal::CONT);
}
