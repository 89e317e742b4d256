//! What must be known before anything is added, and what more before anything is deleted.
//!
//! Unknown never authorises destruction: a failed or partial listing, an unreadable `backup.info`, a record that could not be read, a
//! server that does not answer, or clocks that disagree stop deletes, but not backups. Another cluster in the same prefix stops
//! everything.

use std::time::Duration;

use super::{Scene, baseline};
use crate::model::{
    observed::{Knowledge, Locality, Role},
    reason::Waiting,
    time::Timestamp,
};

/// How far the clocks of host, store and PostgreSQL may lie apart.
pub(super) const SKEW_MAX: Duration = Duration::from_mins(5);

/// How old an observation may be that something is deleted from.
pub(super) const OBSERVATION_AGE_MAX: Duration = Duration::from_mins(5);

/// Whether something may be added: the catalog was read, and it belongs to the cluster.
pub(super) fn additive(scene: &Scene<'_>) -> Result<(), Waiting> {
    if let Some(failure) = scene.stored.catalog.unknown() {
        return Err(unknown("the catalog", &failure.message));
    }
    if let Some(failure) = scene.stored.identity.unknown() {
        return Err(unknown("the identity on record", &failure.message));
    }
    same_cluster(scene)
}

/// Whether something may be deleted. Says everything that stands against it.
pub(super) fn destructive(scene: &Scene<'_>) -> Result<(), Vec<Waiting>> {
    let stored = scene.stored;
    let mut against: Vec<Waiting> = additive(scene).err().into_iter().collect();
    if stored.catalog.unknown().is_some() {
        // What else could not be read hardly has another cause.
        return Err(against);
    }
    if let Knowledge::Known(catalog) = &stored.catalog {
        let unreadable = catalog.unreadable.iter();
        against.extend(unreadable.map(|(id, why)| unknown(&format!("backup {id}"), &why.message)));
    }
    against.extend(unknown_records(scene));
    // Whether it is still the cluster of this prefix, and whether it can make new backups, only the server tells.
    let silent = scene.postgres.unknown();
    against.extend(silent.map(|why| unknown("the server", &why.message)));
    against.extend(skew(scene).map(|by| Waiting::ClockSkew { by }));
    against.extend(baseline::against(scene));
    if against.is_empty() {
        Ok(())
    } else {
        Err(against)
    }
}

/// What nobody knows of the things beside the catalog that a delete depends on.
pub(super) fn unknown_records<'a>(scene: &Scene<'a>) -> impl Iterator<Item = Waiting> + use<'a> {
    let stored = scene.stored;
    // Where the whole catalog is unknown, that says it all.
    let told = stored.catalog.unknown().is_some();
    let records = [
        ("the baseline", stored.baseline.unknown()),
        ("the attempts on record", stored.attempts.unknown()),
        ("the record of deletes", stored.tombstones.unknown()),
        ("the record of marks", stored.marks.unknown()),
        ("the record of keeps", stored.keep_records.unknown()),
        ("the store's clock", stored.store_time.unknown()),
        (
            "what snapshots of disks there are",
            stored.snapshots.unknown(),
        ),
    ];
    let records = records.into_iter().filter(move |_| !told);
    records.filter_map(|(what, why)| Some(unknown(what, &why?.message)))
}

fn same_cluster(scene: &Scene<'_>) -> Result<(), Waiting> {
    let (Some(identity), Some(facts)) = (scene.stored.identity.known(), scene.postgres.known())
    else {
        return Ok(());
    };
    if identity.system_id == facts.system_id {
        return Ok(());
    }
    Err(Waiting::ForeignSystem {
        pinned: identity.system_id,
        found: facts.system_id,
    })
}

/// By how much the clocks of host, store and PostgreSQL disagree, if by too much.
pub(super) fn skew(scene: &Scene<'_>) -> Option<Duration> {
    let ours = scene.stored.read_at;
    let others = [
        scene.stored.store_time.known().copied(),
        scene.postgres.known().map(|facts| facts.clock),
    ];
    let distance = |other: Timestamp| other.since(ours).max(ours.since(other));
    let worst = others.into_iter().flatten().map(distance).max()?;
    (worst > SKEW_MAX).then_some(worst)
}

/// Whether a backup of the server can be started, and its files be read here or sent.
pub(super) fn reachable(scene: &Scene<'_>) -> Result<(), Waiting> {
    match scene.postgres {
        Knowledge::Known(_) => {}
        Knowledge::Absent => {
            return Err(Waiting::NotLocal {
                why: "no connection is configured".to_owned(),
            });
        }
        Knowledge::Unknown(failure) => return Err(unknown("the server", &failure.message)),
    }
    match scene.locality {
        // Whoever is sent the files can be anywhere.
        _ if !scene.entry.is_read_here() => Ok(()),
        Locality::Local => Ok(()),
        Locality::NotLocal { why } => Err(Waiting::NotLocal { why: why.clone() }),
    }
}

/// Whether the server replays instead of writing.
pub(super) fn is_standby(scene: &Scene<'_>) -> bool {
    scene
        .postgres
        .known()
        .is_some_and(|facts| facts.role == Role::Standby)
}

/// The instant that expiry is judged at: a clock that runs ahead must not delete more.
pub(super) fn expiry_now(scene: &Scene<'_>) -> Timestamp {
    let store = scene.stored.store_time.known().copied();
    store.map_or(scene.now, |store| store.min(scene.now))
}

pub(super) fn unknown(what: &str, why: &str) -> Waiting {
    Waiting::Unknown {
        what: what.to_owned(),
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::testing::{stands, steps, waits};

    #[test]
    fn clocks_that_disagree_stop_deletes() {
        let text = "retention=1x | done 1d | done 9d";
        assert!(steps(text).starts_with("delete 9d"));
        for clock in [
            "store 6m",
            "store -6m",
            "postgres clock:6m",
            "postgres clock:-6m",
        ] {
            let text = format!("{text} | {clock}");
            assert_eq!(steps(&text), "", "{clock}");
            assert_eq!(waits(&text), "clocks disagree by 6m", "{clock}");
            assert_eq!(
                stands(&text),
                "stalled: clocks disagree by 6m; no deletes",
                "{clock}"
            );
        }
        assert!(steps(&format!("{text} | store 5m")).starts_with("delete 9d"));
    }

    #[test]
    fn what_cannot_be_understood_stops_deletes_but_not_backups() {
        let text = "schedule=@hourly retention=1x | done 1d | done 9d | unreadable 3d";
        assert!(steps(text).starts_with("backup: due"));
        let text = text.replace("schedule=@hourly", "");
        assert_eq!(steps(&text), "");
        assert_eq!(waits(&text), "backup 3d is unknown: nonsense");
    }

    #[test]
    fn another_cluster_stops_everything() {
        let text = "schedule=@hourly retention=1x | done 1d | done 9d | identity 2";
        assert_eq!(steps(text), "");
        assert_eq!(waits(text), "the prefix belongs to system 2, found 1");
    }
}
