use super::*;

/// What the `ssl…` keywords come to, with these files in `~/.postgresql`.
fn read(conninfo: &str, files: &[&str]) -> String {
    let home = tempfile::tempdir().expect("a temporary directory");
    let own = home.path().join(".postgresql");
    std::fs::create_dir(&own).expect("mkdir");
    for file in files {
        std::fs::write(own.join(file), "").expect("write");
    }
    let environment = Environment::default().at_home(home.path());
    let settings = Settings::gather(conninfo, &environment);
    let tls = match settings.and_then(|settings| resolve(&settings, &environment)) {
        Ok(tls) => tls,
        Err(error) => return error.to_string(),
    };
    let roots = match tls.roots {
        TrustRoots::None => "nobody".to_owned(),
        TrustRoots::System => "system".to_owned(),
        TrustRoots::File(file) => file.display().to_string(),
    };
    let client = tls.client.map_or_else(String::new, |client| {
        format!(
            " as {} {}",
            client.certificate.display(),
            client.key.display()
        )
    });
    let text = format!("{:?} {:?} trusts {roots}{client}", tls.mode, tls.versions);
    text.replace(&own.display().to_string(), "~")
}

#[test]
fn the_usual_files_count_where_they_exist() {
    let cases: [(&str, &[&str], &str); 8] = [
        ("", &[], "Prefer Any trusts nobody"),
        (
            "sslmode=require",
            &["root.crt"],
            "Require Any trusts ~/root.crt",
        ),
        (
            "sslmode=verify-ca",
            &["root.crt"],
            "VerifyCa Any trusts ~/root.crt",
        ),
        (
            "sslmode=disable",
            &["root.crt", "postgresql.crt"],
            "Disable Any trusts nobody",
        ),
        (
            "",
            &["postgresql.crt"],
            "Prefer Any trusts nobody as ~/postgresql.crt ~/postgresql.key",
        ),
        (
            "sslcertmode=disable",
            &["postgresql.crt"],
            "Prefer Any trusts nobody",
        ),
        (
            "sslrootcert=/nonexistent sslmode=require",
            &["root.crt"],
            "Require Any trusts nobody",
        ),
        (
            "sslcert=/c sslkey=/k",
            &["postgresql.crt"],
            "Prefer Any trusts nobody as /c /k",
        ),
    ];
    for (conninfo, files, expected) in cases {
        assert_eq!(read(conninfo, files), expected, "{conninfo}");
    }
}

#[test]
fn the_systems_authorities_need_the_host_to_be_verified() {
    assert_eq!(
        read("sslrootcert=system", &[]),
        "VerifyFull Any trusts system"
    );
    let refused = read("sslrootcert=system sslmode=require", &[]);
    assert!(refused.contains("needs `sslmode=verify-full`"), "{refused}");
}

#[test]
fn verification_without_authorities_is_refused() {
    let refused = read("sslmode=verify-full", &[]);
    assert!(refused.contains("does not exist"), "{refused}");
    let revoked = read("sslmode=require", &["root.crt", "root.crl"]);
    assert!(revoked.contains("revocation"), "{revoked}");
}

#[test]
fn versions_and_negotiation_are_honoured_or_refused() {
    let cases = [
        (
            "ssl_min_protocol_version=TLSv1.3",
            "Prefer Only13 trusts nobody",
        ),
        (
            "ssl_max_protocol_version=tlsv1.2",
            "Prefer Only12 trusts nobody",
        ),
        ("ssl_min_protocol_version=TLSv1", "Prefer Any trusts nobody"),
        (
            "ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2",
            "`ssl_min_protocol_version` lies above `ssl_max_protocol_version`",
        ),
        (
            "sslnegotiation=direct sslmode=require",
            "Require Any trusts nobody",
        ),
        (
            "sslnegotiation=direct",
            "`sslnegotiation=direct` needs `sslmode=require` or stricter",
        ),
        (
            "sslcert=/c sslkey=engine:key",
            "`sslkey` in the connection cannot be honoured: keys in a cryptographic engine are \
             not supported",
        ),
    ];
    for (conninfo, expected) in cases {
        assert_eq!(read(conninfo, &[]), expected, "{conninfo}");
    }
}
