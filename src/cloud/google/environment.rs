//! What the environment says of Google Cloud, to every program alike.

use std::path::PathBuf;

/// The variables that Google's own clients read.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `STORAGE_EMULATOR_HOST`: the service of tests, which is asked without credentials.
    pub emulator: Option<String>,
    /// `CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE`: the URL of Compute Engine, if not the usual one.
    pub compute: Option<String>,
    /// `GOOGLE_CLOUD_UNIVERSE_DOMAIN`: the cloud, if not Google's own.
    pub universe: Option<String>,
    /// `GOOGLE_CLOUD_PROJECT`: where a missing bucket is created.
    pub project: Option<String>,
    /// `GOOGLE_APPLICATION_CREDENTIALS`: a file of credentials.
    pub credentials: Option<PathBuf>,
    /// `CLOUDSDK_CONFIG`, else `gcloud`'s own: a directory with the credentials of a login.
    pub gcloud: Option<PathBuf>,
    /// `GCE_METADATA_HOST`: the metadata server, if not the usual one.
    pub metadata_host: Option<String>,
    /// `GOOGLE_CLOUD_QUOTA_PROJECT`: who is billed.
    pub quota_project: Option<String>,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        let gcloud = || Some(std::env::home_dir()?.join(".config/gcloud"));
        Self {
            emulator: variable("STORAGE_EMULATOR_HOST"),
            compute: variable("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE"),
            universe: variable("GOOGLE_CLOUD_UNIVERSE_DOMAIN"),
            project: variable("GOOGLE_CLOUD_PROJECT"),
            credentials: variable("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from),
            gcloud: variable("CLOUDSDK_CONFIG")
                .map(PathBuf::from)
                .or_else(gcloud),
            metadata_host: variable("GCE_METADATA_HOST"),
            quota_project: variable("GOOGLE_CLOUD_QUOTA_PROJECT"),
        }
    }
}

/// A variable that is not empty.
#[expect(
    clippy::disallowed_methods,
    reason = "a port reads what its users expect of it"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
