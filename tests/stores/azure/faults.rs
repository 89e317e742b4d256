//! Faults on the way to Azurite.

use std::{sync::Arc, time::Duration};

use barkeep::{
    model::desired::AzureOptions,
    store::{Store as _, azure::Azure},
};

use super::container;
use crate::{
    faults,
    support::azurite::{Azurite, account_url},
};

#[tokio::test(flavor = "multi_thread")]
async fn one_fault_is_made_good_wherever_it_strikes() {
    let Some(server) = Azurite::start() else {
        return;
    };
    container(&server, "faults")
        .await
        .check_reachable()
        .await
        .expect("a container");
    let open = |name: &str, url: &str| -> barkeep::store::SharedStore {
        let options = AzureOptions {
            read_timeout: Some(Duration::from_secs(3)),
            ..server.options(url)
        };
        let store = Azure::open(&account_url(url), "faults", name, &options);
        Arc::new(store.expect("a store"))
    };
    faults::one_fault_is_made_good(&server.url(), &open).await;
}
