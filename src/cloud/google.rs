//! Whose credentials a request carries, and where they were found.
//!
//! The order is Google's own for application default credentials: the configured ones, `GOOGLE_APPLICATION_CREDENTIALS`, those of
//! `gcloud auth application-default login`, the metadata server. Every kind of file that Google's library reads is
//! read by it: service account, user, workload and workforce identity, impersonation. A token is asked for with the first request
//! and renewed by the library; nothing is contacted before.

use std::{fmt, path::Path, time::Duration};

use google_cloud_auth::credentials::{
    CacheableResource, Credentials as Library, external_account, impersonated, mds,
    service_account, user_account,
};
use http::{Extensions, HeaderMap};
use serde_json::Value;
use tokio::sync::OnceCell;

pub use self::environment::Environment;
use super::{Cloud, Principal};
use crate::{
    failure::{Disposition, chain},
    model::desired::SecretRef,
    secret,
};

mod environment;

/// How long a token may take, with all tries to get one.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Somebody's credentials.
pub(crate) struct Credentials {
    /// The file; without one, the metadata server.
    file: Option<Value>,
    metadata_host: Option<String>,
    quota_project: Option<String>,
    principal: Principal,
    /// What a token allows, within what its owner may.
    scope: &'static str,
    library: OnceCell<Library>,
}

/// Why there is no token.
#[derive(Debug)]
pub(crate) struct NoToken {
    /// Whether another try may help.
    pub(crate) disposition: Disposition,
    pub(crate) why: String,
}

impl Credentials {
    /// Those of nobody, for an emulator.
    pub(crate) fn anonymous() -> Self {
        let library = google_cloud_auth::credentials::anonymous::Builder::new().build();
        Self {
            file: None,
            metadata_host: None,
            quota_project: None,
            principal: Principal {
                cloud: Cloud::Google,
                name: "anonymous caller".to_owned(),
                origin: "`STORAGE_EMULATOR_HOST`".to_owned(),
            },
            scope: "",
            library: OnceCell::new_with(Some(library)),
        }
    }

    /// Looks where they may be. Says why what is there cannot be used.
    pub(crate) fn find(
        configured: Option<&SecretRef>,
        around: &Environment,
        scope: &'static str,
    ) -> Result<Self, String> {
        let (file, origin) = match (configured, &around.credentials) {
            (Some(reference), _) => {
                let secret = secret::resolve(reference).map_err(|error| chain(&error))?;
                let origin = "`credentials` of the destination".to_owned();
                (Some(parsed(secret.expose(), &origin)?), origin)
            }
            (None, Some(path)) => {
                let origin = format!("`GOOGLE_APPLICATION_CREDENTIALS`, `{}`", path.display());
                (Some(read(path, &origin)?), origin)
            }
            (None, None) => login_or_machine(around)?,
        };
        let name = match &file {
            Some(file) => name(file),
            None => "default service account of the machine".to_owned(),
        };
        Ok(Self {
            file,
            metadata_host: around.metadata_host.clone(),
            quota_project: around.quota_project.clone(),
            principal: Principal {
                cloud: Cloud::Google,
                name,
                origin,
            },
            scope,
            library: OnceCell::new(),
        })
    }

    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// A text of the file: its universe, its project.
    pub(crate) fn told(&self, field: &str) -> Option<&str> {
        self.file.as_ref()?.get(field)?.as_str()
    }

    /// The headers that prove who asks.
    pub(crate) async fn headers(&self) -> Result<HeaderMap, NoToken> {
        let library = self.library.get_or_try_init(async || self.build()).await;
        let library = library.map_err(|why| NoToken {
            disposition: Disposition::Permanent,
            why: format!("{}: {why}", self.principal),
        })?;
        let headers = library.headers(Extensions::new());
        let failed = |disposition, why: &str| NoToken {
            disposition,
            why: format!("no token for {}: {why}", self.principal),
        };
        match tokio::time::timeout(TOKEN_TIMEOUT, headers).await {
            Ok(Ok(CacheableResource::New { data, .. })) => Ok(data),
            Ok(Ok(CacheableResource::NotModified)) => Err(failed(
                Disposition::Permanent,
                "the library keeps the old one",
            )),
            Ok(Err(error)) if error.is_transient() => {
                Err(failed(Disposition::Transient, &chain(&error)))
            }
            Ok(Err(error)) => Err(failed(Disposition::Permanent, &chain(&error))),
            Err(_) => Err(failed(Disposition::Transient, "it took too long")),
        }
    }

    /// What the library makes of them. It begins to ask for a token at once.
    fn build(&self) -> Result<Library, String> {
        /// All kinds are built alike, but not by one type.
        macro_rules! built {
            ($builder:expr) => {{
                let builder = $builder;
                let builder = match &self.quota_project {
                    Some(project) => builder.with_quota_project_id(project),
                    None => builder,
                };
                builder.build().map_err(|error| chain(&error))
            }};
        }
        let Some(file) = self.file.clone() else {
            let builder = mds::Builder::default().with_scopes([self.scope]);
            return built!(match &self.metadata_host {
                Some(host) => builder.with_endpoint(format!("http://{host}")),
                None => builder,
            });
        };
        match self.told("type").unwrap_or_default() {
            "service_account" => {
                let scope = service_account::AccessSpecifier::from_scopes([self.scope]);
                built!(service_account::Builder::new(file).with_access_specifier(scope))
            }
            "external_account" => {
                built!(external_account::Builder::new(file).with_scopes([self.scope]))
            }
            "impersonated_service_account" => {
                built!(impersonated::Builder::new(file).with_scopes([self.scope]))
            }
            // A login has the scopes that it was made with.
            "authorized_user" => built!(user_account::Builder::new(file)),
            other => Err(format!("credentials of type `{other}` are not supported")),
        }
    }
}

// A file may hold a private key.
impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.principal.fmt(formatter)
    }
}

/// What `gcloud` has left, else the machine's own.
fn login_or_machine(around: &Environment) -> Result<(Option<Value>, String), String> {
    let path = around.gcloud.as_ref();
    let path = path.map(|directory| directory.join("application_default_credentials.json"));
    if let Some(path) = path.filter(|path| path.exists()) {
        let origin = format!("`{}`", path.display());
        return Ok((Some(read(&path, &origin)?), origin));
    }
    let host = around.metadata_host.as_deref();
    let host = host.unwrap_or("metadata.google.internal");
    let origin = format!("the metadata server `{host}`, as no others were found");
    Ok((None, origin))
}

fn read(path: &Path, origin: &str) -> Result<Value, String> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| format!("cannot read {origin}: {error}"))?;
    parsed(&text, origin)
}

fn parsed(text: &str, origin: &str) -> Result<Value, String> {
    // Where in the text it breaks, but never what is there.
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("{origin} is no JSON: line {line}, column {column}")
    })
}

/// Whose a file of credentials is.
fn name(file: &Value) -> String {
    let told = |field: &str| file.get(field).and_then(Value::as_str);
    let impersonated = told("service_account_impersonation_url").map(|url| {
        let address = url.rsplit('/').next().unwrap_or(url);
        address.split(':').next().unwrap_or(address)
    });
    let account = told("client_email").or(impersonated);
    match (account, told("type")) {
        (Some(account), _) => format!("service account `{account}`"),
        (None, Some("external_account")) => {
            let audience = told("audience").unwrap_or_default();
            format!("workload identity `{audience}`")
        }
        (None, Some("authorized_user")) => match told("account").filter(|name| !name.is_empty()) {
            Some(account) => format!("user `{account}`"),
            None => "user of a login with gcloud".to_owned(),
        },
        (None, _) => "unknown credentials".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_tells_whose_it_is_and_never_a_secret() {
        let cases = [
            (
                r#"{"type": "service_account", "client_email": "a@p", "private_key": "k"}"#,
                "service account `a@p`",
            ),
            (
                r#"{"type": "external_account", "audience": "//iam/x"}"#,
                "workload identity `//iam/x`",
            ),
            (
                r#"{"type": "external_account", "audience": "//iam/x",
                    "service_account_impersonation_url": "https://iam/v1/b@p:generateAccessToken"}"#,
                "service account `b@p`",
            ),
            (
                r#"{"type": "authorized_user", "refresh_token": "k"}"#,
                "user of a login with gcloud",
            ),
        ];
        for (file, expected) in cases {
            let file = serde_json::from_str(file).expect("JSON");
            assert_eq!(name(&file), expected);
        }
    }

    #[test]
    fn the_environment_is_searched_in_googles_order() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        let file =
            |email: &str| format!(r#"{{"type": "service_account", "client_email": "{email}"}}"#);
        std::fs::write(path("own.json"), file("own")).expect("written");
        let login = path("application_default_credentials.json");
        std::fs::write(&login, file("login")).expect("written");
        let mut around = Environment {
            credentials: Some(path("own.json")),
            gcloud: Some(directory.path().to_owned()),
            metadata_host: Some("127.0.0.1:1".to_owned()),
            ..Environment::default()
        };
        let found = |around: &Environment| {
            let found = Credentials::find(None, around, "scope").expect("credentials");
            found.principal().to_string()
        };
        let own = "Google Cloud service account `own` from `GOOGLE_APPLICATION_CREDENTIALS`";
        assert!(found(&around).starts_with(own));
        around.credentials = None;
        assert!(found(&around).starts_with("Google Cloud service account `login` from `/"));
        std::fs::remove_file(login).expect("removed");
        let machine = "Google Cloud default service account of the machine from the metadata server `127.0.0.1:1`, \
                       as no others were found";
        assert_eq!(found(&around), machine);
        around.credentials = Some(path("nowhere.json"));
        let missing = Credentials::find(None, &around, "scope").expect_err("no such file");
        assert!(missing.contains("nowhere.json"), "{missing}");
    }
}
