use std::os::unix::fs::PermissionsExt;

use super::*;

fn environment() -> Environment {
    Environment::new([("PGPORT", "")]).of_user("me")
}

fn places_of(conninfo: &str) -> String {
    let target = Target::resolve(conninfo, None, &environment());
    match target {
        Ok(target) => {
            let shown = target.endpoints.iter().map(|endpoint| {
                let name = match &endpoint.address {
                    Address::Numeric {
                        name: Some(name), ..
                    } => format!("({name})"),
                    _ => String::new(),
                };
                format!("{endpoint}{name}")
            });
            shown.collect::<Vec<_>>().join(" ")
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn hosts_addresses_and_ports_make_places() {
    let cases = [
        ("", "/var/run/postgresql/.s.PGSQL.5432 /tmp/.s.PGSQL.5432"),
        (
            "port=6000",
            "/var/run/postgresql/.s.PGSQL.6000 /tmp/.s.PGSQL.6000",
        ),
        ("host=/run/pg", "/run/pg/.s.PGSQL.5432"),
        ("host=a,b port=1,2", "a:1 b:2"),
        ("host=a,b,/s port=7", "a:7 b:7 /s/.s.PGSQL.7"),
        ("host=a,b port=,2", "a:5432 b:2"),
        ("hostaddr=10.0.0.1", "10.0.0.1:5432"),
        ("host=a,b hostaddr=::1, port=1,2", "::1:1(a) b:2"),
        ("postgresql://[::1]:5433/x", "::1:5433"),
    ];
    for (conninfo, expected) in cases {
        assert_eq!(places_of(conninfo), expected, "{conninfo}");
    }
}

#[test]
fn places_that_make_no_sense_are_refused() {
    let cases = [
        (
            "host=a,b port=1,2,3",
            "the connection has 2 of `host` and 3 of `port`",
        ),
        (
            "host=a hostaddr=::1,::2",
            "the connection has 2 of `hostaddr` and 1 of `host`",
        ),
        (
            "hostaddr=a",
            "`a` is no value of `hostaddr`; expected a numeric IP address",
        ),
        (
            "port=0",
            "`0` is no value of `port`; expected a number from 1 to 65535",
        ),
        (
            "port=x",
            "`x` is no value of `port`; expected a number from 1 to 65535",
        ),
        (
            "host=@abstract",
            "`host` in the connection cannot be honoured: sockets in the abstract namespace are \
             not supported",
        ),
        (
            "target_session_attrs=rw",
            "`rw` is no value of `target_session_attrs`; expected `any`, `read-write`, \
             `read-only`, `primary`, `standby` or `prefer-standby`",
        ),
        (
            "connect_timeout=1s",
            "`1s` is no value of `connect_timeout`; expected a whole number",
        ),
    ];
    for (conninfo, expected) in cases {
        assert_eq!(places_of(conninfo), expected, "{conninfo}");
    }
}

#[test]
fn what_is_unset_gets_libpqs_defaults() {
    let target = Target::resolve("", None, &environment()).expect("all defaults");
    assert_eq!(
        (target.user.as_str(), target.database.as_str()),
        ("me", "me")
    );
    assert_eq!(target.application_name, "barkeep");
    assert_eq!(target.session_attributes, SessionAttributes::Any);
    assert_eq!(target.connect_timeout, None);
    assert!(target.keepalives.enabled);
    let nobody = Target::resolve("", None, &Environment::default());
    assert!(matches!(nobody, Err(Error::NoUser)));
}

#[test]
fn times_are_in_their_units() {
    let conninfo = "connect_timeout=1 tcp_user_timeout=1500 keepalives_idle=9 keepalives_count=3";
    let target = Target::resolve(conninfo, None, &environment()).expect("valid");
    assert_eq!(target.connect_timeout, Some(Duration::from_secs(2)));
    assert_eq!(
        target.keepalives.user_timeout,
        Some(Duration::from_millis(1500))
    );
    assert_eq!(target.keepalives.idle, Some(Duration::from_secs(9)));
    assert_eq!(target.keepalives.count, Some(3));
}

/// The password for the first place, and whether the file was passed over.
fn password_of(conninfo: &str, given: Option<&str>, mode: u32) -> (Option<String>, bool) {
    let home = tempfile::tempdir().expect("a temporary directory");
    let file = home.path().join(".pgpass");
    let content = "localhost:5432:*:me:socket\n/run/pg:*:*:*:other socket\n\
        h:5432:me:me:by name\n10.0.0.1:*:*:*:by address\n";
    std::fs::write(&file, content).expect("write");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("chmod");
    let given = given.map(|text| Secret::new(text.to_owned()));
    let environment = environment().at_home(home.path());
    let target = Target::resolve(conninfo, given.as_ref(), &environment).expect("valid");
    let password = target.endpoints[0].password.as_ref();
    (
        password.map(|secret| secret.expose().to_owned()),
        target.passed_over.is_some(),
    )
}

#[test]
fn a_password_comes_from_the_nearest_source() {
    let cases = [
        ("", None, Some("socket")),
        ("host=/run/pg", None, Some("other socket")),
        ("host=/elsewhere", None, None),
        ("host=h", None, Some("by name")),
        ("host=h user=you", None, None),
        ("hostaddr=10.0.0.1", None, Some("by address")),
        ("host=h hostaddr=10.0.0.1", None, Some("by name")),
        ("host=h password=written", None, Some("written")),
        ("host=h password=written", Some("given"), Some("given")),
    ];
    for (conninfo, given, expected) in cases {
        let (password, passed_over) = password_of(conninfo, given, 0o600);
        assert_eq!(password.as_deref(), expected, "{conninfo}");
        assert!(!passed_over);
    }
    assert_eq!(password_of("host=h", None, 0o644), (None, true));
    // A file that is not needed does not matter.
    assert_eq!(
        password_of("host=h password=x", None, 0o644),
        (Some("x".to_owned()), false)
    );
}
