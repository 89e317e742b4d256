use super::*;

#[test]
fn words_of_the_configuration_are_told_as_they_are_written() {
    let modes = [Mode::Observe, Mode::Additive, Mode::Full];
    assert_eq!(
        modes.map(|mode| mode.to_string()),
        ["observe", "additive", "full"]
    );
    let methods = [Method::Files, Method::Stream, Method::Snapshot];
    assert_eq!(
        methods.map(|method| method.to_string()),
        ["files", "stream", "snapshot"]
    );
    let periods = [Period::Day, Period::Week, Period::Month, Period::Year];
    assert_eq!(
        periods.map(|period| period.to_string()),
        ["day", "week", "month", "year"]
    );
}

#[test]
fn what_is_controlled_from_elsewhere_is_written_once() {
    let mut destination = Destination {
        name: "primary".parse().expect("a name"),
        location: "file:///srv/backup".parse().expect("a place"),
        provider: ProviderOptions::Directory,
        max_bandwidth: None,
        max_parallel: NonZeroUsize::MIN,
        single_writer: false,
        object_lock: ObjectLock::Respect,
        control: None,
    };
    assert_eq!(destination.overwriting(), Overwriting::Allowed);
    destination.control = Some("other".parse().expect("a name"));
    assert_eq!(destination.overwriting(), Overwriting::Forbidden);
}

#[test]
fn histories_have_tags_of_their_own_where_somebody_says_so() {
    let tags = BTreeMap::from([("team".to_owned(), "db".to_owned())]);
    let history_tags = tags.clone();
    let azure = AzureOptions {
        history_tags: history_tags.clone(),
        ..AzureOptions::default()
    };
    let gcs = GcsOptions {
        history_tags: history_tags.clone(),
        ..GcsOptions::default()
    };
    let s3 = S3Options {
        history_tags,
        ..S3Options::default()
    };
    for (options, expected) in [
        (ProviderOptions::Azure(azure), Some(&tags)),
        (ProviderOptions::Gcs(gcs), Some(&tags)),
        (ProviderOptions::S3(s3), Some(&tags)),
        (ProviderOptions::S3(S3Options::default()), None),
        (ProviderOptions::Directory, None),
    ] {
        assert_eq!(options.history_tags(), expected, "{options:?}");
    }
}

#[test]
fn snapshots_are_asked_for_in_the_name_that_their_place_says() {
    let aws = Place::Aws {
        profile: Some("backup".to_owned()),
        region: None,
    };
    let azure = Place::Azure {
        subscription: None,
        resource_group: None,
        credential: Some(AzureCredential::ManagedIdentity),
    };
    let google = Place::Gcp {
        project: None,
        zone: None,
    };
    for (place, aws_profile, azure_credential) in [
        (aws, Some("backup".to_owned()), None),
        (azure, None, Some(AzureCredential::ManagedIdentity)),
        (google, None, None),
    ] {
        let access = Access {
            aws_profile,
            azure_credential,
        };
        assert_eq!(snapshot(place).access(), access);
    }
}

fn snapshot(place: Place) -> SnapshotOptions {
    SnapshotOptions {
        place,
        instance: "db1".to_owned(),
        disks: Vec::new(),
        await_timeout: Duration::from_hours(1),
        tags: BTreeMap::new(),
        lock: None,
        mounts: MountsFrom::Here,
    }
}
