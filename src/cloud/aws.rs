//! Amazon's shared files, `~/.aws/config` and `~/.aws/credentials`.
//!
//! The SDK looks for them below `HOME`. PostgreSQL's commands have none on Debian, where a server starts with an empty environment; other
//! programs, Barman among them, then take the home directory that the system knows of the user. So does this.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};

/// Where the shared files are.
pub fn shared_files() -> EnvConfigFiles {
    match home() {
        Some(home) => below(&home, is_set),
        None => EnvConfigFiles::default(),
    }
}

/// The user's home directory, where `HOME` does not tell it to the SDK.
fn home() -> Option<PathBuf> {
    if is_set("HOME") {
        return None;
    }
    std::env::home_dir().filter(|home| !home.as_os_str().is_empty())
}

/// Those below a home directory. A variable that says where one is counts more.
fn below(home: &Path, is_set: fn(&str) -> bool) -> EnvConfigFiles {
    use EnvConfigFileKind::{Config, Credentials};
    let own = |name: &str, variable: &str| {
        let path = home.join(".aws").join(name);
        let is_taken = !is_set(variable) && File::open(&path).is_ok();
        is_taken.then_some(path)
    };
    let builder = EnvConfigFiles::builder();
    let builder = match own("config", "AWS_CONFIG_FILE") {
        Some(path) => builder.with_file(Config, path),
        None => builder.include_default_config_file(true),
    };
    let builder = match own("credentials", "AWS_SHARED_CREDENTIALS_FILE") {
        Some(path) => builder.with_file(Credentials, path),
        None => builder.include_default_credentials_file(true),
    };
    builder.build()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a port reads what its users expect of it"
)]
fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

// It asks the credentials that only S3's feature brings.
#[cfg(all(test, feature = "aws"))]
mod tests {
    use aws_config::profile::ProfileFileCredentialsProvider;
    use aws_credential_types::provider::ProvideCredentials as _;

    use super::*;

    #[tokio::test]
    async fn files_below_a_home_directory_are_read_unless_a_variable_names_others() {
        let home = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(home.path().join(".aws")).expect("mkdir");
        let keys = "[default]\naws_access_key_id = here\naws_secret_access_key = secret\n";
        std::fs::write(home.path().join(".aws/credentials"), keys).expect("write");
        let key = async |files| {
            let provider = ProfileFileCredentialsProvider::builder().profile_files(files);
            let found = provider.build().provide_credentials().await;
            found.map(|credentials| credentials.access_key_id().to_owned())
        };
        let found = key(below(home.path(), |_| false)).await;
        assert_eq!(found.expect("credentials"), "here");
        let elsewhere = key(below(home.path(), |_| true)).await;
        assert_ne!(elsewhere.unwrap_or_default(), "here");
    }
}
