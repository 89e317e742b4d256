//! Forgets the records of deletes that nothing can need any more, so that what is read of them does not grow for ever.
//!
//! A record tells the budget how much went within a day, tells a run that follows what was begun and not ended and that nothing has vanished,
//! and keeps what was deleted from among copies from being copied again. All of that is over once none of its backups is anywhere any
//! more: in no catalog of the server, nor in what a run says it last saw; and to be sure, once it is older than anything that the
//! server's retention reaches back to. What is not known forgets nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    super::{Outcome, Workshop},
    BATCH, CHECKS_MAX,
};
use crate::{
    format::keys::{self, ObjectKey, OwnObject},
    model::{
        action::Action,
        backup::BackupId,
        catalog::Catalog,
        desired::Server,
        names::DestinationName,
        observed::{Knowledge, Observed, Stored},
        record::Deletion,
        retention::RetentionPolicy,
        time::Timestamp,
    },
    store::{Archive, ArchiveError, Key},
};

/// No younger record is forgotten, however short the server's retention is.
const AGE_MIN: Duration = Duration::from_hours(7 * 24);

/// Where backups were deleted, takes away records of deletes that nothing needs any more. What stays costs nothing but being read.
pub(in crate::execute) async fn forget(outcomes: &[Outcome], workshop: &Workshop<'_>) {
    let deleted = outcomes.iter().filter(|outcome| {
        let is_delete = matches!(outcome.step.action, Action::DeleteBackup { .. });
        is_delete && outcome.result.is_ok()
    });
    let deleted: BTreeMap<_, _> = deleted
        .map(|outcome| (&outcome.step.destination, &outcome.step))
        .collect();
    let known = deleted.into_iter().filter_map(|(destination, step)| {
        let needed = Needed::of(workshop.server, workshop.observed, destination)?;
        Some((destination, needed, workshop.archive(step)?))
    });
    for (destination, needed, archive) in known {
        if let Err(error) = prune(&archive, &needed).await {
            let error = crate::failure::chain(&error);
            tracing::warn!(%destination, error, "cannot forget old records of deletes");
        }
    }
}

/// What is still needed of the records of deletes.
#[derive(Debug, PartialEq, Eq)]
struct Needed {
    /// Those written since.
    since: Timestamp,
    /// Those that name any of these.
    backups: BTreeSet<BackupId>,
}

impl Needed {
    /// In one destination of a server; `None` if that is not known.
    fn of(server: &Server, observed: &Observed, destination: &DestinationName) -> Option<Self> {
        let now = *observed.destinations.get(destination)?.store_time.known()?;
        let mut backups = BTreeSet::new();
        for entry in &server.entries {
            backups.extend(named(observed.destinations.get(&entry.destination)?)?);
        }
        let windows = server
            .entries
            .iter()
            .filter_map(|entry| match entry.retention {
                Some(RetentionPolicy::RecoveryWindow(window)) => Some(window.duration()),
                Some(RetentionPolicy::Redundancy(_)) | None => None,
            });
        let graces = server.entries.iter().map(|entry| entry.grace);
        let age = windows.chain(graces).fold(AGE_MIN, Duration::max);
        Some(Self {
            since: now - age,
            backups,
        })
    }
}

/// The backups that a catalog holds, or did at the end of the last run; `None` if they are not known.
fn named(stored: &Stored) -> Option<Vec<BackupId>> {
    let present: Vec<BackupId> = match &stored.catalog {
        Knowledge::Known(catalog) => Catalog::ids(catalog).cloned().collect(),
        Knowledge::Absent => Vec::new(),
        Knowledge::Unknown(_) => return None,
    };
    let seen = match &stored.baseline {
        Knowledge::Known(baseline) => Some(baseline),
        Knowledge::Absent => None,
        Knowledge::Unknown(_) => return None,
    };
    let seen = seen.into_iter().flat_map(|baseline| &baseline.backups);
    Some(present.into_iter().chain(seen.cloned()).collect())
}

/// Deletes the records that are not needed. Returns how many.
async fn prune(archive: &Archive, needed: &Needed) -> Result<usize, ArchiveError> {
    let listed = archive.objects(keys::DELETED).await?.into_iter();
    let old = listed.filter(|meta| meta.last_modified < needed.since);
    let read = old.take(BATCH).map(|meta| over(archive, meta.key, needed));
    let read = stream::iter(read).buffered(CHECKS_MAX);
    let over: Vec<Option<Key>> = read.try_collect().await?;
    let over: Vec<Key> = over.into_iter().flatten().collect();
    for deleted in archive.store().delete(&over).await {
        deleted.outcome?;
    }
    Ok(over.len())
}

/// A record, if it is one of deletes that nothing can need any more.
async fn over(archive: &Archive, key: Key, needed: &Needed) -> Result<Option<Key>, ArchiveError> {
    let Some(ObjectKey::Own(object @ OwnObject::Deleted(_))) = archive.parse(&key) else {
        return Ok(None);
    };
    let record = archive.read_record::<Deletion>(object).await?;
    let is_over = record.is_some_and(|(record, _)| {
        let mut named = record.backups.keys();
        record.at < needed.since && !named.any(|id| needed.backups.contains(id))
    });
    Ok(is_over.then_some(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{record::Epitaph, scene},
        plan::testing::World,
        store::{
            PutMode,
            scene::{Bed, paths, put},
        },
    };

    const DAY: Duration = Duration::from_hours(24);

    fn needed(text: &str, also: impl FnOnce(&mut World)) -> Option<Needed> {
        let mut world = World::parse(text);
        also(&mut world);
        let destination = world.server.entries[0].destination.clone();
        Needed::of(&world.server, &world.observed, &destination)
    }

    /// Since how many days ago.
    fn days(text: &str) -> u64 {
        let needed = needed(text, |_| ()).expect("all is known");
        scene::now().since(needed.since).as_secs() / DAY.as_secs()
    }

    #[test]
    fn records_are_kept_as_long_as_anything_reaches_back() {
        assert_eq!(days("| done 1d"), 7);
        assert_eq!(days("retention=2x | done 1d"), 7);
        assert_eq!(days("retention=6d grace=24h | done 1d"), 7);
        assert_eq!(days("retention=30d grace=24h | done 1d"), 30);
        assert_eq!(days("retention=30d grace=960h | done 1d"), 40);
        // By the store's clock.
        let behind = needed("| done 1d | store 3d", |_| ()).expect("all is known");
        assert_eq!(behind.since, scene::now() - DAY * 10);
    }

    #[test]
    fn whoever_is_in_a_catalog_or_was_at_the_last_run_is_needed() {
        let text = "| done 1d | unreadable 2d | orphan 3d | baseline gone:20261101T020000";
        let found = needed(text, |_| ()).expect("all is known");
        assert_eq!(found.backups.len(), 4);
        let elsewhere = needed("| nothing", |world| {
            let mut other = world.server.entries[0].clone();
            other.destination = "dr".parse().expect("a name");
            let there = World::parse("| done 1d | done 2d").observed.destinations;
            let there = there.into_values().next().expect("one");
            world
                .observed
                .destinations
                .insert(other.destination.clone(), there);
            world.server.entries.push(other);
        });
        assert_eq!(elsewhere.expect("all is known").backups.len(), 2);
        let first = needed("| done 1d | baseline none", |_| ()).expect("all is known");
        assert_eq!(first.backups.len(), 1);
        let none = needed("| without catalog", |_| ()).expect("all is known");
        assert!(none.backups.is_empty());
    }

    #[test]
    fn what_is_not_known_forgets_nothing() {
        for lost in ["catalog", "baseline", "clock"] {
            assert_eq!(
                needed(&format!("| done 1d | lose {lost}"), |_| ()),
                None,
                "{lost}"
            );
        }
        let unlooked = needed("| done 1d", |world| {
            let mut other = world.server.entries[0].clone();
            other.destination = "dr".parse().expect("a name");
            world.server.entries.push(other);
        });
        assert_eq!(unlooked, None);
    }

    async fn record(bed: &Bed, name: &str, at: Timestamp, backups: &[&str]) {
        let epitaph = Epitaph {
            version: String::new(),
            reason: String::new(),
        };
        let backups = backups
            .iter()
            .map(|id| (BackupId::new(*id), epitaph.clone()));
        let deletion = Deletion {
            at,
            plan: name.to_owned(),
            backups: backups.collect(),
        };
        let object = OwnObject::Deleted(name.to_owned());
        let written = bed.archive.write_record(object, &deletion, PutMode::Create);
        written.await.expect("memory");
    }

    #[tokio::test]
    async fn a_record_goes_when_it_is_old_and_names_nothing_that_is_needed() {
        let bed = Bed::new("done 1d").await;
        let now = scene::now();
        bed.memory.set_time(now - DAY);
        record(&bed, "old", now - DAY * 20, &["a", "b"]).await;
        record(&bed, "needed", now - DAY * 20, &["a", "c"]).await;
        record(&bed, "says-later", now, &["a"]).await;
        put(&bed.archive, "barkeep/deleted/what/is/this", "x").await;
        bed.memory.set_time(now);
        record(&bed, "young", now - DAY * 20, &["a"]).await;
        let needed = Needed {
            since: now,
            backups: BTreeSet::from([BackupId::new("c")]),
        };
        let found = bed.memory.contents().len();
        let pruned = prune(&bed.archive, &needed).await;
        assert_eq!(pruned.expect("memory"), 1);
        assert_eq!(bed.memory.contents().len(), found - 1);
        let left = paths(&bed.archive).await;
        let left: Vec<_> = left
            .iter()
            .filter(|path| path.contains("deleted/"))
            .collect();
        assert_eq!(
            left,
            [
                "barkeep/deleted/needed",
                "barkeep/deleted/says-later",
                "barkeep/deleted/what/is/this",
                "barkeep/deleted/young"
            ]
        );
        assert_eq!(prune(&bed.archive, &needed).await.expect("memory"), 0);
    }
}
