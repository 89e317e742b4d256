//! Faults on the way to the service.

use std::{sync::Arc, time::Duration};

use barkeep::{
    model::desired::GcsOptions,
    store::{GetOptions, Meaning, SharedStore, Store},
};

use super::{emulated, service};
use crate::{faults::one_fault_is_made_good, key, support::gcs::Rules};

#[tokio::test(flavor = "multi_thread")]
async fn one_fault_is_made_good_wherever_it_strikes() {
    let (service, _store) = service(Rules::default());
    let options = GcsOptions {
        read_timeout: Some(Duration::from_secs(3)),
        ..GcsOptions::default()
    };
    let open = |name: &str, url: &str| -> SharedStore { Arc::new(emulated(url, name, &options)) };
    one_fault_is_made_good(&service.url(), &open).await;
}

#[tokio::test]
async fn what_goes_on_failing_is_given_up_in_time_and_told() {
    let (service, store) = service(Rules::default());
    for (status, expected) in [(500, Meaning::Unreachable), (503, Meaning::Throttled)] {
        service.refuse(&[status; 5]);
        let read = store.get(&key("a"), GetOptions::default()).await;
        assert_eq!(read.err().map(|error| error.meaning), Some(expected));
        assert_eq!(service.asked().len(), 5, "every try was made");
    }
}
