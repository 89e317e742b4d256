//! What only one of the clouds has.

use barkeep::{
    cli::exit::Exit,
    snapshot::{
        Error,
        making::{Made, MadeState},
    },
};

use crate::{
    conformance::{FIRST, Own, SECOND, everywhere, tags},
    fake::{Fault, INSTANCE, Kind, RECOVERY, SCOPE, Style},
    haste::in_haste,
};

/// On AWS only, an instance has an identifier beside its name, and a name may be that of several.
#[tokio::test]
async fn an_instance_of_aws_is_meant_by_identifier_or_by_a_name_of_its_own() {
    let own = Own::new(Kind::Aws).await;
    own.cloud.state().instances.push(("i-0cc", "i-am-pg"));
    let attached = async |name| {
        let attached = own.subject.provider.attached(name).await;
        attached.map(|disks| disks.len())
    };
    assert_eq!(attached("i-0aaaaaaaaaaaaaaaa").await.expect("disks"), 3);
    assert_eq!(attached("i-am-pg").await.expect("it is a name"), 0);
    let absent = attached("i-0123456789abcdef0").await.expect_err("none");
    assert!(matches!(absent, Error::NoInstance(_)), "{absent}");
    own.cloud.state().page = 1;
    own.cloud.state().instances.push(("i-0dd", INSTANCE));
    let two = attached(INSTANCE).await.expect_err("there are two");
    let Error::Ambiguous { candidates, .. } = &two else {
        panic!("{two}");
    };
    assert_eq!(candidates, &["i-0aaaaaaaaaaaaaaaa", "i-0dd"]);
    assert_eq!(Exit::from(two.kind()).code(), 4);
}

/// An operation that takes long is told in several ways.
#[tokio::test]
async fn azure_may_tell_in_three_ways_how_far_it_is() {
    for style in [Style::AsyncOperation, Style::Location, Style::State] {
        let own = Own::new(Kind::Azure).await;
        own.cloud.state().style = style;
        own.cloud.state().pace = (2, 0);
        in_haste(everywhere(&own.subject)).await;
        if style == Style::State {
            continue;
        }
        let deleted = own.subject.take("pgdata-z", &tags(SECOND)).await.id;
        own.cloud.state().faults.push_back(Fault::Later("Conflict"));
        let failed = own.subject.provider.delete(&deleted).await;
        let failed = failed.expect_err("the operation failed").to_string();
        assert!(
            failed.contains("Conflict: it failed"),
            "{style:?}: {failed}"
        );
    }
}

#[tokio::test]
async fn a_lock_of_a_group_of_azure_shows_when_its_snapshot_is_deleted() {
    let own = Own::new(Kind::Azure).await;
    let id = own.subject.take("pgdata-a", &tags(FIRST)).await.id;
    let lock = Some((SCOPE.to_owned(), String::new()));
    own.cloud.state().snapshots.get_mut(&id).expect("it").lock = lock;
    let refused = own.subject.provider.delete(&id).await.expect_err("locked");
    assert!(matches!(refused, Error::Locked { .. }), "{refused}");
}

/// A disk of a region is a disk as any other.
#[tokio::test]
async fn a_disk_of_a_region_of_google_cloud_is_taken() {
    let own = Own::new(Kind::Google).await;
    let id = "projects/project/regions/europe-west8/disks/pgdata";
    id.clone_into(&mut own.cloud.state().disks[1].id);
    own.subject.take("pgdata-a", &tags(FIRST)).await;
    let state = own.cloud.state();
    assert_eq!(state.snapshots["pgdata-a"].disk, id);
}

/// An instance that has a disk under every name gets no other.
#[tokio::test]
async fn a_disk_needs_a_free_place() {
    for (kind, places, told) in [
        (Kind::Aws, 11, "NoFreeDevice"),
        (Kind::Azure, 64, "NoFreeLun"),
    ] {
        let own = Own::new(kind).await;
        let disk = own.cloud.state().disks[1].clone();
        for place in 0..places {
            let mut disk = disk.clone();
            disk.id = format!("{}{place}", disk.id);
            disk.instance = Some(RECOVERY);
            disk.device = match kind {
                Kind::Aws => format!("/dev/sd{}", char::from(b'f' + place)),
                _ => place.to_string(),
            };
            own.cloud.state().disks.push(disk);
        }
        let made = Made {
            id: disk.id,
            name: disk.name,
            state: MadeState::Ready,
        };
        let full = own.subject.provider.attach(RECOVERY, &made).await;
        let full = full.expect_err("there is no place").to_string();
        assert!(full.contains(told), "{full}");
    }
}
