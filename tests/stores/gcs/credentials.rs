//! Whose credentials are found and used, against local stand-ins of what gives tokens.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use barkeep::{
    failure::chain,
    model::desired::{GcsOptions, SecretRef},
    store::{
        Meaning, PutMode, Store, StoreExt,
        gcs::{Environment, Gcs},
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    key,
    support::{
        bed::run,
        gcs::{Gcs as Service, Rules},
        http::{Answer, Request, Standin},
    },
};

/// Whatever gives tokens: it answers every request with this one.
fn issuer(answer: Value) -> Standin {
    Standin::new(move |_: &Request| {
        Answer::new(200, answer.to_string())
            .with("content-type", "application/json")
            .with("metadata-flavor", "Google")
    })
}

/// Where it is, without a scheme.
fn address(issuer: &Standin) -> String {
    issuer.url().trim_start_matches("http://").to_owned()
}

fn token(text: &str) -> Value {
    json!({
        "access_token": text,
        "expires_in": 3600,
        "token_type": "Bearer",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    })
}

/// A service that demands a token, and what reaches it.
struct Guarded {
    service: Service,
    directory: tempfile::TempDir,
}

impl Guarded {
    fn start(token: Option<&str>) -> Self {
        let service = Service::start();
        service.create_bucket("bucket", Rules::default());
        if let Some(token) = token {
            service.require_token(token);
        }
        Self {
            service,
            directory: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    fn file(&self, name: &str, content: &Value) -> PathBuf {
        self.text_file(name, &content.to_string())
    }

    fn text_file(&self, name: &str, content: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).expect("written");
        let owner_only = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, owner_only).expect("chmod");
        path
    }

    fn options(&self) -> GcsOptions {
        GcsOptions {
            endpoint_url: Some(self.service.url()),
            ..GcsOptions::default()
        }
    }

    fn store(&self, around: &Environment) -> Gcs {
        Gcs::open_in(around, "bucket", "p", &self.options()).expect("a store")
    }

    /// It reads and writes with them.
    async fn is_open_to(&self, store: &Gcs) {
        store.check_reachable().await.expect("it is let in");
        let put = store.put_text(&key("a"), "x", PutMode::Create).await;
        put.expect("it is let in");
        let deleted = store.delete(&[key("a"), key("b")]).await;
        assert!(deleted.iter().all(|deleted| deleted.outcome.is_ok()));
    }
}

fn with_file(path: PathBuf) -> Environment {
    Environment {
        credentials: Some(path),
        ..Environment::default()
    }
}

#[tokio::test]
async fn the_metadata_server_is_asked_where_nothing_else_is_found() {
    let issuer = issuer(token("of-the-machine"));
    let guarded = Guarded::start(Some("of-the-machine"));
    let around = Environment {
        metadata_host: Some(address(&issuer)),
        ..Environment::default()
    };
    guarded.is_open_to(&guarded.store(&around)).await;
    let asked = issuer.asked();
    assert_eq!(
        asked.len(),
        1,
        "a token is used until it expires: {asked:?}"
    );
    assert!(
        asked[0]
            .path()
            .ends_with("/instance/service-accounts/default/token")
    );
    assert_eq!(asked[0].header("metadata-flavor"), Some("Google"));
}

#[tokio::test]
async fn an_identity_from_elsewhere_is_exchanged_for_a_token() {
    let issuer = issuer(token("exchanged"));
    let guarded = Guarded::start(Some("exchanged"));
    let subject = guarded.text_file("subject", "who I am elsewhere");
    let file = guarded.file(
        "external.json",
        &json!({
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": format!("{}/v1/token", issuer.url()),
            "credential_source": { "file": subject },
        }),
    );
    guarded.is_open_to(&guarded.store(&with_file(file))).await;
    let asked = issuer.asked();
    assert_eq!((asked[0].method(), asked[0].path()), ("POST", "/v1/token"));
    assert!(asked[0].text().contains("who+I+am+elsewhere"), "{asked:?}");
}

#[tokio::test]
async fn a_login_is_renewed() {
    let issuer = issuer(token("renewed"));
    let guarded = Guarded::start(Some("renewed"));
    guarded.file(
        "application_default_credentials.json",
        &json!({
            "type": "authorized_user",
            "client_id": "id",
            "client_secret": "secret",
            "refresh_token": "for renewal",
            "token_uri": format!("{}/token", issuer.url()),
        }),
    );
    let around = Environment {
        gcloud: Some(guarded.directory.path().to_owned()),
        ..Environment::default()
    };
    guarded.is_open_to(&guarded.store(&around)).await;
    assert!(issuer.asked()[0].text().contains("for renewal"));
}

/// Google's library signs its tokens itself: nobody is asked for one.
#[tokio::test]
async fn a_service_account_signs_for_itself() {
    let guarded = Guarded::start(None);
    let private_key = guarded.directory.path().join("key.pem");
    run(Command::new("openssl")
        .args([
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
            "-out",
        ])
        .arg(&private_key));
    let account = json!({
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "k",
        "private_key": std::fs::read_to_string(&private_key).expect("a key"),
        "client_email": "pg@p.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "http://127.0.0.1:1/token",
    });
    let options = GcsOptions {
        credentials: Some(SecretRef::File(guarded.file("account.json", &account))),
        ..guarded.options()
    };
    let store = Gcs::open_in(&Environment::default(), "bucket", "", &options).expect("a store");
    guarded.is_open_to(&store).await;
    let tokens = guarded.service.tokens();
    let mut pieces = tokens[0].split('.');
    let (head, claims) = (
        pieces.next().expect("a head"),
        pieces.next().expect("claims"),
    );
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("Base64");
    let told: Value = serde_json::from_slice(&decode(claims)).expect("JSON");
    assert_eq!(told["iss"], "pg@p.iam.gserviceaccount.com");
    assert_eq!(
        told["scope"],
        "https://www.googleapis.com/auth/devstorage.full_control"
    );
    let signature = decode(pieces.next().expect("a signature"));
    assert!(is_signed(
        &guarded,
        &private_key,
        &format!("{head}.{claims}"),
        &signature
    ));
}

fn is_signed(guarded: &Guarded, private_key: &Path, text: &str, signature: &[u8]) -> bool {
    let path = |name: &str| guarded.directory.path().join(name);
    std::fs::write(path("text"), text).expect("written");
    std::fs::write(path("signature"), signature).expect("written");
    let said = run(Command::new("openssl")
        .args(["dgst", "-sha256", "-prverify"])
        .arg(private_key)
        .arg("-signature")
        .arg(path("signature"))
        .arg(path("text")));
    said.contains("Verified OK")
}

#[tokio::test]
async fn a_refusal_names_who_was_refused_what_and_what_is_missing() {
    let issuer = issuer(token("weak"));
    let guarded = Guarded::start(None);
    let around = Environment {
        metadata_host: Some(address(&issuer)),
        ..Environment::default()
    };
    let store = guarded.store(&around);
    guarded.service.refuse(&[403]);
    let refused = store.put_text(&key("a"), "x", PutMode::Create).await;
    let refused = refused.expect_err("it is refused");
    assert_eq!(refused.meaning, Meaning::PermissionDenied);
    let told = chain(&refused);
    for expected in [
        "cannot write `a` in `gs://bucket/p`",
        "Google Cloud",
        "default service account of the machine",
        &address(&issuer),
        "`storage.objects.create`",
        "/upload/storage/v1/b/bucket/o: ",
    ] {
        assert!(told.contains(expected), "`{expected}` is not in `{told}`");
    }
    guarded.service.require_token("another");
    let refused = store.head(&key("a")).await.expect_err("it is refused");
    assert_eq!(refused.meaning, Meaning::PermissionDenied);
    assert!(
        chain(&refused).contains("is not accepted"),
        "{}",
        chain(&refused)
    );
}

#[tokio::test]
async fn credentials_that_cannot_be_read_are_named_and_not_shown() {
    let guarded = Guarded::start(None);
    let file = guarded.text_file("broken.json", "{ \"private_key\": \"hush, ");
    let opened = Gcs::open_in(&with_file(file), "bucket", "", &guarded.options());
    let told = chain(&opened.expect_err("it is no JSON"));
    assert!(
        told.contains("broken.json") && !told.contains("hush"),
        "{told}"
    );
    let file = guarded.file("odd.json", &json!({ "type": "odd" }));
    let store = guarded.store(&with_file(file));
    let refused = store
        .check_reachable()
        .await
        .expect_err("of an unknown kind");
    assert!(chain(&refused).contains("`odd`"), "{}", chain(&refused));
}

#[tokio::test]
async fn an_emulator_never_sees_a_token() {
    let guarded = Guarded::start(None);
    let around = Environment {
        emulator: Some(guarded.service.url()),
        // Not even looked at.
        credentials: Some(PathBuf::from("/nowhere.json")),
        ..Environment::default()
    };
    let store = Gcs::open_in(&around, "bucket", "", &GcsOptions::default()).expect("a store");
    guarded.is_open_to(&store).await;
    assert!(guarded.service.tokens().iter().all(String::is_empty));
}
