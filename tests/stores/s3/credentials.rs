//! Where credentials come from: the program, with an environment of its own, against stand-ins for the services that hand them out.
//!
//! None of this has met the live services; what is asked of the stand-ins, and what they answer, is what the AWS SDKs and tools document.

use std::{path::PathBuf, process::Command};

use crate::support::{
    certificates::Authority,
    http::{Answer, Request, Standin},
};

/// The program, a store that remembers who asked, and nothing of this machine's environment.
struct Scene {
    directory: tempfile::TempDir,
    store: Standin,
}

impl Scene {
    fn new() -> Self {
        Self::at(Standin::new(store))
    }

    fn at(store: Standin) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { directory, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("below a directory")).expect("a directory");
        std::fs::write(&path, text).expect("it is written");
        path.display().to_string()
    }

    /// Lists the backups with these settings of the store and this environment; what was said of failures.
    fn list(&self, settings: &str, environment: &[(&str, &str)]) -> String {
        let config = format!(
            "version = 1\n[servers.orders]\ndestination = \"s3\"\n\
             [destinations.s3]\nurl = \"s3://bucket/p\"\n\
             [destinations.s3.s3]\nregion = \"eu-south-1\"\n{settings}"
        );
        let config = self.write("barkeep.toml", &config);
        let output = Command::new(env!("CARGO_BIN_EXE_barkeep"))
            .args(["list", "--config", &config])
            .env_clear()
            .env("HOME", self.directory.path())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ENDPOINT_URL_S3", self.store.url())
            .envs(environment.iter().copied())
            .output()
            .expect("it runs");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The access key and the session token of the requests to the store.
    fn signed(&self) -> (String, Option<String>) {
        let asked = self.store.asked();
        let request = asked.first().expect("the store was asked");
        let token = request.header("x-amz-security-token");
        (access_key(request), token.map(str::to_owned))
    }
}

fn store(_: &Request) -> Answer {
    Answer::new(200, "<ListBucketResult></ListBucketResult>")
}

fn access_key(request: &Request) -> String {
    let signed = request.header("authorization").expect("it is signed");
    let (_, rest) = signed.split_once("Credential=").expect("a credential");
    rest.split('/').next().expect("a key").to_owned()
}

fn both(key: &str, token: &str) -> (String, Option<String>) {
    (key.to_owned(), Some(token.to_owned()))
}

/// What the container's and the instance's endpoints answer.
const CREDENTIALS: &str = r#"{
    "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z",
    "AccessKeyId": "ASIAFROMENDPOINT", "SecretAccessKey": "secret", "Token": "endpoint-token",
    "Expiration": "2099-01-01T00:00:00Z"
}"#;

/// What STS answers when a role is assumed.
fn assumed(operation: &str) -> Answer {
    Answer::new(
        200,
        format!(
            "<{operation}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <{operation}Result><AssumedRoleUser>\
             <Arn>arn:aws:sts::123456789012:assumed-role/pg/barkeep</Arn>\
             <AssumedRoleId>AROA:barkeep</AssumedRoleId></AssumedRoleUser>\
             <Credentials><AccessKeyId>ASIAASSUMED</AccessKeyId>\
             <SecretAccessKey>secret</SecretAccessKey><SessionToken>assumed-token</SessionToken>\
             <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
             </{operation}Result></{operation}Response>"
        ),
    )
}

#[test]
fn the_environment_comes_first_and_a_profile_that_is_named_before_it() {
    let profiles = "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = s\n\
                    [pg]\naws_access_key_id = AKIAOFPG\naws_secret_access_key = s\n";
    let cases = [
        ("", vec![], "AKIADEFAULT"),
        ("", vec![("AWS_PROFILE", "pg")], "AKIAOFPG"),
        ("", vec![("AWS_ACCESS_KEY_ID", "AKIAENV")], "AKIAENV"),
        (
            "profile = \"pg\"",
            vec![("AWS_ACCESS_KEY_ID", "AKIAENV")],
            "AKIAOFPG",
        ),
    ];
    for (settings, mut environment, expected) in cases {
        let scene = Scene::new();
        let file = scene.write("credentials", profiles);
        environment.push(("AWS_SHARED_CREDENTIALS_FILE", &file));
        environment.push(("AWS_SECRET_ACCESS_KEY", "s"));
        scene.list(settings, &environment);
        assert_eq!(scene.signed(), (expected.to_owned(), None), "{settings}");
    }
}

#[test]
fn a_process_of_a_profile_is_asked() {
    let scene = Scene::new();
    let answer = r#"{"Version": 1, "AccessKeyId": "ASIAPROCESS", "SecretAccessKey": "s",
                     "SessionToken": "process-token"}"#;
    let answer = scene.write("answer.json", answer);
    let profile = format!("[profile pg]\ncredential_process = cat {answer}\n");
    let file = scene.write("config", &profile);
    let path = ("PATH", "/usr/bin:/bin");
    scene.list("profile = \"pg\"", &[("AWS_CONFIG_FILE", &file), path]);
    assert_eq!(scene.signed(), both("ASIAPROCESS", "process-token"));
}

#[test]
fn the_instance_is_asked_with_a_session_token_only() {
    let imds = Standin::new(|request| {
        let known = request.header("x-aws-ec2-metadata-token") == Some("imds-token");
        match (request.method(), request.path(), known) {
            ("PUT", "/latest/api/token", _) => {
                Answer::new(200, "imds-token").with("x-aws-ec2-metadata-token-ttl-seconds", "21600")
            }
            (_, _, false) => Answer::new(401, ""),
            ("GET", "/latest/meta-data/iam/security-credentials/", _) => Answer::new(200, "pg"),
            ("GET", "/latest/meta-data/iam/security-credentials/pg", _) => {
                Answer::new(200, CREDENTIALS)
            }
            _ => Answer::new(404, ""),
        }
    });
    let scene = Scene::new();
    scene.list(
        "",
        &[
            ("AWS_EC2_METADATA_DISABLED", "false"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.url()),
        ],
    );
    assert_eq!(scene.signed(), both("ASIAFROMENDPOINT", "endpoint-token"));
}

#[test]
fn the_container_is_asked_with_its_authorization() {
    let container = Standin::new(|request| match request.header("authorization") {
        Some("pod-token") if request.path() == "/v1/credentials" => Answer::new(200, CREDENTIALS),
        _ => Answer::new(403, ""),
    });
    let url = format!("{}/v1/credentials", container.url());
    let scene = Scene::new();
    let token = scene.write("token", "pod-token");
    for authorization in [
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-token"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token),
    ] {
        let scene = Scene::new();
        let full = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str());
        scene.list("", &[full, authorization]);
        let expected = both("ASIAFROMENDPOINT", "endpoint-token");
        assert_eq!(scene.signed(), expected, "{authorization:?}");
    }
}

#[test]
fn the_containers_own_address_is_asked_where_only_a_path_is_given() {
    // Nobody answers at that address here, but a proxy is asked for it.
    let proxy = Standin::new(|request| match request.target() {
        "http://169.254.170.2/v2/credentials" => Answer::new(200, CREDENTIALS),
        _ => Answer::new(404, ""),
    });
    let environment = [
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials"),
        ("HTTP_PROXY", proxy.url()),
        ("NO_PROXY", "127.0.0.1"),
    ];
    let scene = Scene::new();
    scene.list("", &environment);
    assert_eq!(scene.signed(), both("ASIAFROMENDPOINT", "endpoint-token"));
}

#[test]
fn a_web_identity_is_exchanged_for_a_role() {
    let sts = Standin::new(|request| {
        let form = request.text();
        let wanted = [
            "Action=AssumeRoleWithWebIdentity",
            "WebIdentityToken=jwt",
            "RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fpg",
        ];
        if wanted.iter().all(|part| form.contains(part)) {
            assumed("AssumeRoleWithWebIdentity")
        } else {
            Answer::new(400, "")
        }
    });
    let scene = Scene::new();
    let token = scene.write("token", "jwt");
    let environment = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/pg"),
        ("AWS_ENDPOINT_URL_STS", sts.url()),
    ];
    scene.list("", &environment);
    assert_eq!(scene.signed(), both("ASIAASSUMED", "assumed-token"));
}

#[test]
fn a_role_is_assumed_with_what_there_is() {
    let sts = Standin::new(|request| {
        let is_ours =
            request.text().contains("Action=AssumeRole&") && access_key(request) == "AKIABASE";
        if is_ours {
            assumed("AssumeRole")
        } else {
            Answer::new(400, "")
        }
    });
    let role = "arn:aws:iam::123456789012:role/pg";
    let scene = Scene::new();
    let profiles = format!(
        "[profile base]\naws_access_key_id = AKIABASE\naws_secret_access_key = s\n\
         [profile pg]\nrole_arn = {role}\nsource_profile = base\n"
    );
    let file = scene.write("config", &profiles);
    let cases = [
        (
            format!("role = \"{role}\""),
            ("AWS_ACCESS_KEY_ID", "AKIABASE"),
        ),
        ("profile = \"pg\"".to_owned(), ("AWS_ACCESS_KEY_ID", "")),
        (
            format!("profile = \"base\"\nrole = \"{role}\""),
            ("AWS_ACCESS_KEY_ID", ""),
        ),
    ];
    for (settings, key) in cases {
        let scene = Scene::new();
        let environment = [
            key,
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("AWS_CONFIG_FILE", &file),
            ("AWS_ENDPOINT_URL_STS", sts.url()),
        ];
        scene.list(&settings, &environment);
        assert_eq!(
            scene.signed(),
            both("ASIAASSUMED", "assumed-token"),
            "{settings}"
        );
    }
}

#[test]
fn a_session_of_single_sign_on_is_exchanged_for_a_role() {
    let sso = Standin::new(|request| {
        let wanted = request.path() == "/federation/credentials"
            && request.query().contains("role_name=pg")
            && request.query().contains("account_id=123456789012")
            && request.header("x-amz-sso_bearer_token") == Some("sso-token");
        if !wanted {
            return Answer::new(401, "");
        }
        let answer = r#"{"roleCredentials": {"accessKeyId": "ASIASSO", "secretAccessKey": "s",
                         "sessionToken": "session", "expiration": 4070908800000}}"#;
        Answer::new(200, answer)
    });
    let profile = "sso_account_id = 123456789012\nsso_role_name = pg\n";
    let start = "sso_start_url = https://acme.awsapps.com/start\nsso_region = eu-south-1\n";
    let token = r#"{"accessToken": "sso-token", "expiresAt": "2099-01-01T00:00:00Z",
                    "region": "eu-south-1", "startUrl": "https://acme.awsapps.com/start"}"#;
    // The cache's file is named by the SHA-1 of the session's name, or of the URL where it has none.
    let cases = [
        (
            format!("[profile pg]\nsso_session = acme\n{profile}[sso-session acme]\n{start}"),
            "293abb6b76d7791c0732cc517d38c4b5c734b87f",
        ),
        (
            format!("[profile pg]\n{profile}{start}"),
            "40169cea58ca6cbf23fb27b2542923fb5f524af0",
        ),
    ];
    for (profiles, cached) in cases {
        let scene = Scene::new();
        let file = scene.write("config", &profiles);
        scene.write(&format!(".aws/sso/cache/{cached}.json"), token);
        let environment = [
            ("AWS_CONFIG_FILE", file.as_str()),
            ("AWS_ENDPOINT_URL_SSO", sso.url()),
        ];
        scene.list("profile = \"pg\"", &environment);
        assert_eq!(scene.signed(), both("ASIASSO", "session"), "{profiles}");
    }
}

#[test]
fn a_refusal_names_whose_credentials_were_refused() {
    let refused = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    let scene = Scene::at(Standin::new(move |_| Answer::new(403, refused)));
    let file = scene.write(
        "config",
        "[profile pg]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = s\n",
    );
    let said = scene.list("profile = \"pg\"", &[("AWS_CONFIG_FILE", &file)]);
    let expected = "AWS access key `AKIA…MPLE` from profile `pg` needs `s3:ListBucket`";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn certificates_of_ones_own_are_trusted_instead_of_the_systems() {
    let authority = Authority::new();
    let issued = authority.issue("localhost", "subjectAltName=DNS:localhost");
    let own = std::fs::read_to_string(authority.certificate()).expect("a certificate");
    let scene = Scene::at(Standin::with_tls(&issued, store));
    let odd = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let bundle = scene.write("bundle.pem", &format!("{odd}{own}"));
    let keys = [
        ("AWS_ACCESS_KEY_ID", "AKIAENV"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("AWS_MAX_ATTEMPTS", "1"),
    ];
    let said = scene.list("", &keys);
    assert!(said.contains("certificate"), "{said}");
    assert!(scene.store.asked().is_empty());
    let said = scene.list("", &[&keys[..], &[("AWS_CA_BUNDLE", &bundle)]].concat());
    assert_eq!(scene.signed().0, "AKIAENV", "{said}");
}
