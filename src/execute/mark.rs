//! Marks backups that are to go, and withdraws marks.
//!
//! A mark is written once: of two that mark the same backup the first stays, so that nobody begins a grace anew or shortens one. Only one that
//! was set on another version of the backup is written over. Whoever undeletes a backup has it kept before the mark goes: at no
//! instant is it neither.

use super::Error;
use crate::{
    format::keys::{ObjectKey, OwnObject},
    model::{
        backup::BackupId,
        desired::Overwriting,
        record::{KeepRecord, Mark},
        semantics::Records,
    },
    store::{Archive, ArchiveError, PutMode},
};

/// Marks a backup, unless it has changed or somebody has kept it since it was judged.
pub(super) async fn set(archive: &Archive, mark: &Mark) -> Result<(), Error> {
    let id = &mark.backup;
    let failed = |source: ArchiveError| Error::Mark {
        backup: id.clone(),
        source,
    };
    let head = |object| async move {
        let head = archive.head(&object).await;
        head.map_err(|error| failed(error.into()))
    };
    if head(ObjectKey::keep(id)).await?.is_some() {
        return Err(Error::Kept(id.clone()));
    }
    let info = head(ObjectKey::info(id)).await?;
    // An empty version says that there was none: snapshots of disks are marked whose tags name the backup.
    let version = info.map_or_else(String::new, |info| info.meta.version.0);
    if version != mark.epitaph.version {
        return Err(Error::Changed(id.clone()));
    }
    let object = OwnObject::Mark(id.clone());
    let written = archive.write_record(object.clone(), mark, PutMode::Create);
    match written.await {
        Err(error) if error.is_conflict() => {}
        written => return written.map(drop).map_err(failed),
    }
    let earlier = archive.read_record::<Mark>(object.clone()).await;
    if let Some((earlier, _)) = earlier.map_err(failed)?
        && earlier.epitaph.version == mark.epitaph.version
    {
        return Ok(());
    }
    let written = archive.write_record(object, mark, PutMode::Overwrite);
    written.await.map(drop).map_err(failed)
}

/// Withdraws the mark of a backup.
pub(super) async fn withdraw(archive: &Archive, id: &BackupId) -> Result<(), Error> {
    let object = ObjectKey::Own(OwnObject::Mark(id.clone()));
    let removed = archive.remove(&object).await;
    removed.map_err(|error| Error::Mark {
        backup: id.clone(),
        source: error.into(),
    })
}

/// Keeps a backup, then withdraws its mark. Where nothing is written twice, the record alone keeps it.
pub(super) async fn undelete(archive: &Archive, record: &KeepRecord) -> Result<(), Error> {
    match archive.overwriting() {
        Overwriting::Allowed => super::keep::set(archive, record, Records::Written).await?,
        Overwriting::Forbidden => super::keep::note(archive, record).await?,
    }
    withdraw(archive, &record.backup).await
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{
        model::{
            backup::KeepTarget,
            record::{Epitaph, SetBy},
            scene,
        },
        store::{
            Meaning,
            fault::{Effect, Faults, Faulty, Rule},
            scene::{Bed, paths, write_backup},
        },
    };

    async fn mark(bed: &Bed, label: &str) -> Mark {
        let backup = bed.id(label);
        Mark {
            at: scene::now(),
            epitaph: Epitaph {
                version: bed.version(&backup).await,
                reason: "old".to_owned(),
            },
            backup,
        }
    }

    fn keep(bed: &Bed, label: &str) -> KeepRecord {
        KeepRecord {
            backup: bed.id(label),
            target: KeepTarget::Full,
            reason: "not this one".to_owned(),
            until: None,
            set_at: scene::now(),
            by: SetBy::Person("alice".to_owned()),
        }
    }

    async fn stored(bed: &Bed) -> Option<Mark> {
        let object = OwnObject::Mark(bed.id("8d"));
        let read = bed.archive.read_record::<Mark>(object).await;
        read.expect("memory").map(|(mark, _)| mark)
    }

    #[tokio::test]
    async fn the_first_mark_of_a_backup_stays() {
        let bed = Bed::new("done 1d | done 8d").await;
        let first = mark(&bed, "8d").await;
        set(&bed.archive, &first).await.expect("memory");
        let later = Mark {
            at: first.at + Duration::from_hours(3),
            ..first.clone()
        };
        set(&bed.archive, &later).await.expect("it is marked");
        assert_eq!(stored(&bed).await, Some(first.clone()));
        // It came back under the same id.
        let mut backup = bed.scene.catalog.backups[0].clone();
        backup.name = Some("other".to_owned());
        write_backup(&bed.archive, &backup).await;
        let changed = set(&bed.archive, &first).await;
        assert!(matches!(changed, Err(Error::Changed(_))), "{changed:?}");
        let anew = mark(&bed, "8d").await;
        set(&bed.archive, &anew).await.expect("memory");
        assert_eq!(stored(&bed).await, Some(anew));
    }

    #[tokio::test]
    async fn what_was_kept_since_is_not_marked() {
        let bed = Bed::new("done 1d | done 8d").await;
        let mark = mark(&bed, "8d").await;
        let kept = bed.archive.write_keep(&mark.backup, KeepTarget::Full);
        kept.await.expect("memory");
        let refused = set(&bed.archive, &mark).await;
        assert!(matches!(refused, Err(Error::Kept(_))), "{refused:?}");
        assert_eq!(stored(&bed).await, None);
    }

    #[tokio::test]
    async fn nothing_is_marked_that_cannot_be_looked_at() {
        let bed = Bed::new("done 1d | done 8d").await;
        let mark = mark(&bed, "8d").await;
        for nth in 0..3 {
            let faults = Faults::default();
            let store = Faulty::new(Arc::new(bed.memory.clone()), faults.clone());
            let server = "orders".parse().expect("a name");
            let archive = Archive::new(Arc::new(store), &server);
            faults.add(Rule::nth(nth, Effect::Before(Meaning::Unreachable)));
            let ended = set(&archive, &mark).await;
            assert!(matches!(ended, Err(Error::Mark { .. })), "{nth} {ended:?}");
            assert_eq!(stored(&bed).await, None);
        }
    }

    #[tokio::test]
    async fn killed_at_any_request_an_undelete_leaves_a_mark_or_a_keep() {
        for effect in [Effect::Before, Effect::After].map(|effect| effect(Meaning::Unreachable)) {
            for nth in 0..4 {
                let bed = Bed::new("done 1d | done 8d").await;
                let mark = mark(&bed, "8d").await;
                set(&bed.archive, &mark).await.expect("memory");
                let faults = Faults::default();
                let store = Faulty::new(Arc::new(bed.memory.clone()), faults.clone());
                let server = "orders".parse().expect("a name");
                let archive = Archive::new(Arc::new(store), &server);
                faults.add(Rule::nth(nth, effect));
                let ended = undelete(&archive, &keep(&bed, "8d")).await;
                ended.expect_err("a fault");
                let paths = paths(&bed.archive).await;
                let has = |part: &str| paths.iter().any(|path| path.contains(part));
                let is_held = has("barkeep/marks/") || has("annotations/keep");
                assert!(is_held, "{nth} {effect:?}");
                faults.clear();
                undelete(&archive, &keep(&bed, "8d")).await.expect("memory");
                assert_eq!(stored(&bed).await, None);
            }
        }
    }

    #[tokio::test]
    async fn where_nothing_is_written_twice_the_record_alone_keeps() {
        let bed = Bed::new("done 1d | done 8d").await;
        let written_once = bed.archive.clone();
        let written_once = written_once.with_overwriting(Overwriting::Forbidden);
        let record = keep(&bed, "8d");
        undelete(&written_once, &record).await.expect("memory");
        let paths = paths(&bed.archive).await;
        assert!(!paths.iter().any(|path| path.contains("annotations/keep")));
        assert!(paths.iter().any(|path| path.contains("barkeep/keeps/")));
    }
}
