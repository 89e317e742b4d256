//! Sets and releases keeps.
//!
//! The record of a keep of ours is written before the annotation and removed after it. Killed in between, there is a record without a keep,
//! which the next activation sets again; never a keep of ours that would count as a person's, nor one that nobody remembers.

use super::Error;
use crate::{
    format::keys::{ObjectKey, OwnObject},
    model::{
        backup::{BackupId, BackupStatus},
        desired::Overwriting,
        record::{KeepRecord, SetBy},
        semantics::Records,
        time::Timestamp,
    },
    store::{Archive, PutMode},
};

/// Keeps a backup, which must be complete.
pub(super) async fn set(
    archive: &Archive,
    record: &KeepRecord,
    records: Records,
) -> Result<(), Error> {
    let id = &record.backup;
    if archive.overwriting() == Overwriting::Forbidden {
        return Err(Error::WrittenOnce(id.clone()));
    }
    match records {
        Records::Written => note(archive, record).await?,
        Records::None => is_done(archive, id).await?,
    }
    let kept = archive.write_keep(id, record.target).await;
    kept.map(drop).map_err(|error| Error::Keep {
        backup: id.clone(),
        source: error.into(),
    })
}

/// Writes down that a backup is kept, which must be complete. Against barkeep's own deletes that alone holds it.
pub(super) async fn note(archive: &Archive, record: &KeepRecord) -> Result<(), Error> {
    is_done(archive, &record.backup).await?;
    let object = OwnObject::Keep(record.backup.clone());
    let written = archive.write_record(object, record, PutMode::Overwrite);
    written.await.map(drop).map_err(|source| Error::Keep {
        backup: record.backup.clone(),
        source,
    })
}

async fn is_done(archive: &Archive, id: &BackupId) -> Result<(), Error> {
    let failed = |source| Error::Keep {
        backup: id.clone(),
        source,
    };
    let info = archive.read_info(id).await.map_err(failed)?;
    let status = info
        .ok_or_else(|| Error::NoSuchBackup(id.clone()))?
        .info
        .status();
    if status.ok() != Some(BackupStatus::Done) {
        return Err(Error::NotDone(id.clone()));
    }
    Ok(())
}

/// Gives a keep of ours an end. One without a record, or a person's, is left alone.
pub(super) async fn end(archive: &Archive, id: &BackupId, until: Timestamp) -> Result<(), Error> {
    let failed = |source| Error::Keep {
        backup: id.clone(),
        source,
    };
    let object = OwnObject::Keep(id.clone());
    let read = archive.read_record::<KeepRecord>(object.clone()).await;
    let Some((record, _)) = read.map_err(failed)? else {
        return Err(Error::Changed(id.clone()));
    };
    if record.by != SetBy::Policy {
        return Err(Error::Kept(id.clone()));
    }
    let until = record.until.map_or(until, |earlier| earlier.min(until));
    let record = KeepRecord {
        until: Some(until),
        ..record
    };
    let written = archive.write_record(object, &record, PutMode::Overwrite);
    written.await.map(drop).map_err(failed)
}

/// Releases the keep of a backup.
pub(super) async fn release(
    archive: &Archive,
    id: &BackupId,
    records: Records,
) -> Result<(), Error> {
    let failed = |source: crate::store::Error| Error::Keep {
        backup: id.clone(),
        source: source.into(),
    };
    archive.remove(&ObjectKey::keep(id)).await.map_err(failed)?;
    if records == Records::None {
        return Ok(());
    }
    archive
        .remove(&ObjectKey::Own(OwnObject::Keep(id.clone())))
        .await
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        model::{backup::KeepTarget, scene},
        store::{
            Meaning, Operation,
            fault::{Effect, Faults, Faulty, Rule},
            scene::{Bed, paths},
        },
    };

    fn record(bed: &Bed, label: &str) -> KeepRecord {
        KeepRecord {
            backup: bed.id(label),
            target: KeepTarget::Standalone,
            reason: "audit".to_owned(),
            until: None,
            set_at: scene::now(),
            by: SetBy::Policy,
        }
    }

    async fn marks(bed: &Bed) -> Vec<&'static str> {
        let paths = paths(&bed.archive).await;
        let has = |part: &str| paths.iter().any(|path| path.contains(part));
        [("annotations/keep", "kept"), ("barkeep/keeps/", "recorded")]
            .into_iter()
            .filter_map(|(part, mark)| has(part).then_some(mark))
            .collect()
    }

    #[tokio::test]
    async fn a_keep_is_set_and_released() {
        let bed = Bed::new("done 1d | failed 2d").await;
        set(&bed.archive, &record(&bed, "1d"), Records::Written)
            .await
            .expect("memory");
        assert_eq!(marks(&bed).await, ["kept", "recorded"]);
        release(&bed.archive, &bed.id("1d"), Records::Written)
            .await
            .expect("memory");
        assert!(marks(&bed).await.is_empty());
        release(&bed.archive, &bed.id("1d"), Records::Written)
            .await
            .expect("twice is once");
        let outcome = set(&bed.archive, &record(&bed, "2d"), Records::Written).await;
        assert!(matches!(outcome, Err(Error::NotDone(_))), "{outcome:?}");
        let outcome = set(&bed.archive, &record(&bed, "9d"), Records::Written).await;
        assert!(
            matches!(outcome, Err(Error::NoSuchBackup(_))),
            "{outcome:?}"
        );
    }

    #[tokio::test]
    async fn without_records_only_the_catalog_is_touched() {
        let bed = Bed::new("done 1d").await;
        set(&bed.archive, &record(&bed, "1d"), Records::None)
            .await
            .expect("memory");
        assert_eq!(marks(&bed).await, ["kept"]);
        release(&bed.archive, &bed.id("1d"), Records::None)
            .await
            .expect("memory");
        assert!(marks(&bed).await.is_empty());
    }

    #[tokio::test]
    async fn interrupted_there_is_never_a_keep_of_ours_without_its_record() {
        for effect in [Effect::Before, Effect::After].map(|effect| effect(Meaning::Unreachable)) {
            for nth in 0..3 {
                let bed = Bed::new("done 1d").await;
                let faults = Faults::default();
                let store = Faulty::new(Arc::new(bed.memory.clone()), faults.clone());
                let server = "orders".parse().expect("a name");
                let archive = Archive::new(Arc::new(store), &server);
                faults.add(Rule::nth(nth, effect));
                set(&archive, &record(&bed, "1d"), Records::Written)
                    .await
                    .expect_err("a fault");
                assert_ne!(marks(&bed).await, ["kept"], "{nth} {effect:?}");
                faults.clear();
                set(&archive, &record(&bed, "1d"), Records::Written)
                    .await
                    .expect("memory");
                assert_eq!(marks(&bed).await, ["kept", "recorded"]);
                faults.add(Rule::next(Operation::Delete, "keep", effect));
                release(&archive, &bed.id("1d"), Records::Written)
                    .await
                    .expect_err("a fault");
                assert_ne!(marks(&bed).await, ["kept"], "{effect:?}");
                release(&archive, &bed.id("1d"), Records::Written)
                    .await
                    .expect("memory");
                assert!(marks(&bed).await.is_empty());
            }
        }
    }

    #[tokio::test]
    async fn only_a_keep_of_ours_is_given_an_end_and_never_a_later_one() {
        let bed = Bed::new("done 1d").await;
        let until = scene::now();
        let later = until + std::time::Duration::from_secs(1);
        let id = bed.id("1d");
        let unknown = end(&bed.archive, &id, until).await;
        assert!(matches!(unknown, Err(Error::Changed(_))), "{unknown:?}");
        let ours = record(&bed, "1d");
        for (by, end_of) in [(SetBy::Policy, Some(until)), (SetBy::default(), None)] {
            let ours = KeepRecord { by, ..ours.clone() };
            note(&bed.archive, &ours).await.expect("memory");
            for instant in [until, later] {
                let ended = end(&bed.archive, &id, instant).await;
                assert_eq!(ended.is_ok(), end_of.is_some());
            }
            let read = bed.archive.read_record(OwnObject::Keep(id.clone())).await;
            let (read, _): (KeepRecord, _) = read.expect("memory").expect("it is there");
            assert_eq!(read.until, end_of);
        }
    }
}
