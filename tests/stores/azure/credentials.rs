//! Where credentials come from: the program, with an environment of its own, against stand-ins for the services that hand out tokens.
//!
//! None of this has met the live services; what is asked of the stand-ins, and what they answer, is what Microsoft documents.

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use crate::support::{
    certificates::Authority,
    http::{Answer, Request, Standin},
};

const EMPTY: &str = "<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>";

/// The program, a store over TLS that remembers who asked, and nothing of this machine's environment.
struct Scene {
    directory: tempfile::TempDir,
    authority: Authority,
    store: Standin,
}

impl Scene {
    fn new() -> Self {
        Self::answering(|_| Answer::new(200, EMPTY))
    }

    fn answering(respond: fn(&Request) -> Answer) -> Self {
        let authority = Authority::new();
        let issued = authority.issue("localhost", "subjectAltName=DNS:localhost");
        Self {
            directory: tempfile::tempdir().expect("a directory"),
            store: Standin::with_tls(&issued, respond),
            authority,
        }
    }

    /// A service over TLS that hands out a token.
    fn entra(&self) -> Standin {
        let issued = self
            .authority
            .issue("localhost", "subjectAltName=DNS:localhost");
        Standin::with_tls(&issued, |request| match request.path() {
            "/tenant/oauth2/v2.0/token" => Answer::new(
                200,
                r#"{"token_type":"Bearer","expires_in":3600,"access_token":"from-entra"}"#,
            ),
            _ => Answer::new(404, ""),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("it is written");
        path.display().to_string()
    }

    /// Lists the backups with these settings of the store and this environment; what was said of failures.
    fn list(&self, settings: &str, environment: &[(&str, &str)]) -> String {
        let config = format!(
            "version = 1\n[servers.orders]\ndestination = \"blobs\"\n\
             [destinations.blobs]\nurl = \"{}/acc/backups/p\"\n\
             [destinations.blobs.azure]\n{settings}",
            self.store.url()
        );
        let config = self.write("barkeep.toml", &config);
        let output = Command::new(env!("CARGO_BIN_EXE_barkeep"))
            .args(["list", "--config", &config])
            .env_clear()
            .env("HOME", self.directory.path())
            .env("SSL_CERT_FILE", self.authority.certificate())
            // Nobody listens there.
            .env("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9")
            .envs(environment.iter().copied())
            .output()
            .expect("it runs");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// How the first request to the store was signed.
    fn signed(&self) -> String {
        let asked = self.store.asked();
        let request = asked.first().expect("the store was asked");
        request
            .header("authorization")
            .unwrap_or_default()
            .to_owned()
    }
}

fn metadata(request: &Request) -> Answer {
    let known = request.header("metadata") == Some("true")
        && request
            .query()
            .contains("resource=https%3A%2F%2Fstorage.azure.com");
    let token = match request.path() {
        "/metadata/identity/oauth2/token" if request.query().contains("client_id=chosen") => {
            "of-chosen"
        }
        "/metadata/identity/oauth2/token" => "of-machine",
        "/msi/token" if request.header("x-identity-header") == Some("secret") => "of-service",
        _ => return Answer::new(404, ""),
    };
    if !known {
        return Answer::new(400, "");
    }
    let body = format!(
        r#"{{"access_token":"{token}","expires_on":"4102444800","token_type":"Bearer",
             "resource":"https://storage.azure.com"}}"#
    );
    Answer::new(200, body)
}

#[test]
fn the_machine_is_asked_for_its_own_identity_or_the_one_that_is_named() {
    for (client, token) in [(None, "of-machine"), (Some("chosen"), "of-chosen")] {
        for settings in [
            "credential = \"managed-identity\"",
            "credential = \"default\"",
            "",
        ] {
            let (scene, imds) = (Scene::new(), Standin::new(metadata));
            let mut environment = vec![("AZURE_POD_IDENTITY_AUTHORITY_HOST", imds.url())];
            environment.extend(client.map(|client| ("AZURE_CLIENT_ID", client)));
            let said = scene.list(settings, &environment);
            assert_eq!(
                scene.signed(),
                format!("Bearer {token}"),
                "{settings}: {said}"
            );
        }
    }
}

#[test]
fn a_service_that_gives_identities_of_its_own_is_asked_with_its_secret() {
    let (scene, service) = (Scene::new(), Standin::new(metadata));
    let url = format!("{}/msi/token", service.url());
    let environment = [
        ("IDENTITY_ENDPOINT", url.as_str()),
        ("IDENTITY_HEADER", "secret"),
    ];
    let said = scene.list("credential = \"managed-identity\"", &environment);
    assert_eq!(scene.signed(), "Bearer of-service", "{said}");
}

#[test]
fn a_pods_token_is_exchanged() {
    let scene = Scene::new();
    let (entra, file) = (scene.entra(), scene.write("token", "pod-token"));
    let environment = [
        ("AZURE_AUTHORITY_HOST", entra.url()),
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_CLIENT_ID", "client"),
        ("AZURE_FEDERATED_TOKEN_FILE", &file),
    ];
    let said = scene.list("", &environment);
    assert_eq!(scene.signed(), "Bearer from-entra", "{said}");
    let form = entra.asked()[0].text();
    assert!(form.contains("client_assertion=pod-token"), "{form}");
    assert!(
        form.contains("scope=https%3A%2F%2Fstorage.azure.com%2F.default"),
        "{form}"
    );
}

#[test]
fn a_clients_secret_comes_before_all_other_identities() {
    let scene = Scene::new();
    let entra = scene.entra();
    let environment = [
        ("AZURE_AUTHORITY_HOST", entra.url()),
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_CLIENT_ID", "client"),
        ("AZURE_CLIENT_SECRET", "s3cret"),
        ("AZURE_FEDERATED_TOKEN_FILE", "/nowhere"),
    ];
    let said = scene.list("credential = \"default\"", &environment);
    assert_eq!(scene.signed(), "Bearer from-entra", "{said}");
    assert!(entra.asked()[0].text().contains("client_secret=s3cret"));
}

#[test]
fn what_is_configured_and_refused_ends_the_search_without_showing_the_secret() {
    let scene = Scene::new();
    let issued = scene
        .authority
        .issue("localhost", "subjectAltName=DNS:localhost");
    let entra = Standin::with_tls(&issued, |_| {
        let said = r#"{"error":"invalid_client","error_description":"AADSTS7000215: no."}"#;
        Answer::new(401, said)
    });
    let imds = Standin::new(metadata);
    let environment = [
        ("AZURE_AUTHORITY_HOST", entra.url()),
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_CLIENT_ID", "client"),
        ("AZURE_CLIENT_SECRET", "s3cret"),
        ("AZURE_POD_IDENTITY_AUTHORITY_HOST", imds.url()),
    ];
    let said = scene.list("", &environment);
    assert!(
        said.contains("application `client` from AZURE_CLIENT_SECRET"),
        "{said}"
    );
    assert!(
        said.contains("AADSTS7000215") && !said.contains("s3cret"),
        "{said}"
    );
    assert!(scene.store.asked().is_empty() && imds.asked().is_empty());
}

#[test]
fn the_cli_is_asked_last_and_by_name() {
    let scene = Scene::new();
    let script = "#!/bin/sh\necho \"$@\" > \"$HOME/asked\"\n\
                  echo '{\"accessToken\": \"of-az\", \"expires_on\": 4102444800, \"tokenType\": \"Bearer\"}'\n";
    let az = scene.write("az", script);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(az, mode).expect("it is ours");
    let path = format!("{}:/usr/bin:/bin", scene.directory.path().display());
    for settings in ["credential = \"azure-cli\"", ""] {
        let said = scene.list(settings, &[("PATH", &path)]);
        assert_eq!(scene.signed(), "Bearer of-az", "{settings}: {said}");
        let asked = std::fs::read_to_string(scene.path("asked")).expect("it was asked");
        assert!(
            asked.contains("--scope https://storage.azure.com/.default"),
            "{asked}"
        );
    }
}

#[test]
fn without_any_identity_every_place_that_was_looked_at_is_named() {
    let scene = Scene::new();
    let said = scene.list("", &[("PATH", "/nowhere")]);
    for place in [
        "`AZURE_CLIENT_SECRET` is not set",
        "`AZURE_FEDERATED_TOKEN_FILE` is not set",
        "this machine has none",
        "from `az`",
    ] {
        assert!(said.contains(place), "{place}: {said}");
    }
    assert!(scene.store.asked().is_empty());
}

#[test]
fn an_identity_that_is_asked_for_is_never_replaced_by_a_key() {
    let (scene, imds) = (Scene::new(), Standin::new(metadata));
    let environment = [
        ("AZURE_STORAGE_KEY", "a2V5"),
        ("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=x"),
        ("AZURE_POD_IDENTITY_AUTHORITY_HOST", imds.url()),
    ];
    scene.list("credential = \"managed-identity\"", &environment);
    assert_eq!(scene.signed(), "Bearer of-machine");
    let scene = Scene::new();
    scene.list("", &environment[..1]);
    assert!(
        scene.signed().starts_with("SharedKey acc:"),
        "{}",
        scene.signed()
    );
}

#[test]
fn a_refusal_names_who_asked_and_what_is_missing_and_no_secret() {
    let refuse = |_: &Request| {
        Answer::new(403, "<Error><Message>No.\nTime:1</Message></Error>")
            .with("x-ms-error-code", "AuthorizationPermissionMismatch")
            .with("x-ms-request-id", "r1")
    };
    let scene = Scene::answering(refuse);
    let said = scene.list("", &[("AZURE_STORAGE_SAS_TOKEN", "?sv=1&sig=c2VjcmV0")]);
    let expected = "Azure shared access signature from AZURE_STORAGE_SAS_TOKEN needs `sp=rl`: \
                    AuthorizationPermissionMismatch: No. (status 403, request r1)";
    assert!(said.contains(expected), "{said}");
    assert!(!said.contains("c2VjcmV0"), "{said}");
    assert!(
        scene.store.asked()[0]
            .query()
            .ends_with("sv=1&sig=c2VjcmV0")
    );

    let (scene, imds) = (Scene::answering(refuse), Standin::new(metadata));
    let environment = [("AZURE_POD_IDENTITY_AUTHORITY_HOST", imds.url())];
    let said = scene.list("", &environment);
    let expected = "Azure managed identity from this machine needs \
                    `Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read`";
    assert!(said.contains(expected), "{said}");
}
