//! Azurite: each test's own, with an account of its own, stopped when dropped.

use std::process::Command;

use barkeep::{
    model::desired::{AzureOptions, SecretRef},
    store::{Store as _, azure::Azure},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{bed::bed, s3::Server};

/// The account of these tests.
pub(crate) const ACCOUNT: &str = "barkeeptests";

/// A server that speaks Azure Blob, and checks signatures.
pub(crate) struct Azurite {
    server: Server,
    secrets: tempfile::TempDir,
}

impl Azurite {
    pub(crate) fn start() -> Option<Self> {
        let program = bed().get("AZURITE")?;
        let server = Server::start(move |port, _| {
            let mut command = Command::new(&program);
            command
                .args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()])
                .args(["--inMemoryPersistence", "--silent"])
                .args(["--skipApiVersionCheck", "--disableTelemetry"])
                .env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{}", key()));
            command
        });
        let secrets = tempfile::tempdir().expect("a directory");
        Some(Self { server, secrets })
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    pub(crate) fn account_url(&self) -> String {
        account_url(&self.url())
    }

    /// Options by which a store finds its way to the account at this place.
    pub(crate) fn options(&self, url: &str) -> AzureOptions {
        let path = self.secrets.path().join(url.replace(['/', ':'], "-"));
        std::fs::write(&path, connection_string(url)).expect("it is written");
        private(&path);
        AzureOptions {
            connection_string: Some(SecretRef::File(path)),
            ..AzureOptions::default()
        }
    }

    /// Makes a container, wherever a runtime may run.
    pub(crate) fn create_container(&self, container: &str) {
        let store = self.store(container, "");
        let created = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().expect("a runtime");
            runtime.block_on(store.create_destination())
        });
        let created = created.join().expect("no panic");
        created.expect("a container");
    }

    /// A store on a container.
    pub(crate) fn store(&self, container: &str, prefix: &str) -> Azure {
        let options = self.options(&self.url());
        Azure::open(&self.account_url(), container, prefix, &options).expect("a store")
    }
}

/// A connection string for the account, here or where its requests pass through.
pub(crate) fn connection_string(url: &str) -> String {
    format!(
        "DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={};BlobEndpoint={};",
        key(),
        account_url(url)
    )
}

/// The URL of the account at such a place.
pub(crate) fn account_url(url: &str) -> String {
    format!("{url}/{ACCOUNT}")
}

/// A key that is one only here.
fn key() -> String {
    STANDARD.encode([7; 64])
}

fn private(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, mode).expect("it is ours");
}
