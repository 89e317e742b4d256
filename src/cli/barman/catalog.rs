//! The backups of a catalog, as Barman's commands look at them: every record, and every keep.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tracing::warn;

use super::{error::Error, record::Record};
use crate::{
    failure::chain,
    format::{
        backup_info::BackupInfo,
        keys::{self, BaseObject, ObjectKey},
    },
    model::{
        backup::{BackupId, BackupStatus},
        recovery,
    },
    store::{Archive, ObjectMeta},
};

/// How many small objects are read at once.
const READS_MAX: usize = 32;

/// What lies below `base/`.
pub(super) struct Listed {
    /// The directories with a `backup.info`.
    backups: Vec<BackupId>,
    /// Those with a keep.
    kept: BTreeSet<BackupId>,
}

impl Listed {
    /// Lists it.
    pub(super) async fn of(archive: &Archive) -> Result<Self, Error> {
        let mut listed = Self {
            backups: Vec::new(),
            kept: BTreeSet::new(),
        };
        for ObjectMeta { key, .. } in archive.objects(keys::BASE).await? {
            match archive.parse(&key) {
                Some(ObjectKey::Base(id, BaseObject::Info)) => listed.backups.push(id),
                Some(ObjectKey::Base(id, BaseObject::Keep)) => drop(listed.kept.insert(id)),
                _ => {}
            }
        }
        listed.backups.sort();
        Ok(listed)
    }

    /// The records, ordered by id. One that cannot be understood is told and passed over, as Barman does. One that could not be read
    /// ends it: whoever reads a list takes what is not in it for deleted.
    pub(super) async fn records(&self, archive: &Archive) -> Result<Vec<Record>, Error> {
        let read = |id: &BackupId| {
            let id = id.clone();
            async move {
                let record = understood(archive, &id).await?;
                if let Err(why) = &record {
                    warn!("Unable to open backup.info file for {id}: {why}");
                }
                Ok::<_, Error>(record.ok().flatten())
            }
        };
        let records = stream::iter(&self.backups).map(read).buffered(READS_MAX);
        let present = |record| std::future::ready(Ok(record));
        records.try_filter_map(present).try_collect().await
    }

    /// The texts of the keeps.
    pub(super) async fn keeps(
        &self,
        archive: &Archive,
    ) -> Result<BTreeMap<BackupId, String>, Error> {
        let read = |id: &BackupId| {
            let id = id.clone();
            async move {
                let text = keep(archive, &id).await?;
                Ok::<_, Error>((id, text.unwrap_or_default()))
            }
        };
        let keeps = stream::iter(&self.kept).map(read).buffered(READS_MAX);
        keeps.try_collect().await
    }
}

/// A backup's record; none if there is none.
pub(super) async fn record(archive: &Archive, id: &BackupId) -> Result<Option<Record>, Error> {
    understood(archive, id).await?.map_err(Error::General)
}

/// The same, where what is there makes no sense apart from what could not be read.
async fn understood(
    archive: &Archive,
    id: &BackupId,
) -> Result<Result<Option<Record>, String>, Error> {
    let Some((content, _)) = archive.read(&ObjectKey::info(id)).await? else {
        return Ok(Ok(None));
    };
    let info = BackupInfo::parse(&content).map_err(|error| chain(&error));
    Ok(info.and_then(|info| Record::read(id.clone(), &info, &super::zone()).map(Some)))
}

/// What a backup's keep says: its first line as it is.
pub(super) async fn keep(archive: &Archive, id: &BackupId) -> Result<Option<String>, Error> {
    let content = archive.read(&ObjectKey::keep(id)).await?;
    Ok(content.map(|(content, _)| {
        let text = String::from_utf8_lossy(&content);
        text.split_inclusive('\n')
            .next()
            .unwrap_or_default()
            .to_owned()
    }))
}

/// The same, under either spelling of the place.
pub(super) async fn kept(
    archive: &Archive,
    other: Option<&Archive>,
    id: &BackupId,
) -> Result<Option<String>, Error> {
    match (keep(archive, id).await?, other) {
        (None, Some(other)) => keep(other, id).await,
        (found, _) => Ok(found),
    }
}

/// The backup that a text means: an id is believed; a shortcut or a name is looked up among those that can be read.
pub(super) async fn resolve(archive: &Archive, text: &str) -> Result<BackupId, Error> {
    if recovery::is_id(text) {
        return Ok(BackupId::new(text));
    }
    let records = Listed::of(archive).await?.records(archive).await?;
    let known: Vec<_> = records.iter().map(called).collect();
    recovery::resolve_among(&known, text).map_err(|error| unresolved(&error, archive.server()))
}

/// Why a text means no backup, in Barman's words.
pub(super) fn unresolved(error: &recovery::ResolveError, server: &str) -> Error {
    Error::General(match error {
        recovery::ResolveError::Unknown(text) => {
            format!("Unknown backup '{text}' for server '{server}'")
        }
        recovery::ResolveError::Ambiguous { name, ids } => {
            let ids: Vec<_> = ids.iter().map(BackupId::as_str).collect();
            let ids = ids.join(" ");
            format!(
                "Multiple backups found matching name '{name}' (try using backup ID instead): {ids}"
            )
        }
    })
}

fn called(record: &Record) -> recovery::Called<'_> {
    recovery::Called {
        id: &record.id,
        name: record.value("backup_name").as_str(),
        // What Barman does not know is at least not running.
        status: record.text("status").parse().unwrap_or(BackupStatus::Empty),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{
        Meaning, Operation, PutMode,
        fault::{Effect, Faults, Faulty, Rule},
        memory::Memory,
    };

    #[tokio::test]
    async fn a_list_lacks_what_makes_no_sense_and_never_what_could_not_be_read() {
        let now = "2026-11-21T03:00:00Z".parse().expect("an instant");
        let (memory, faults) = (Memory::new(now), Faults::default());
        let store = Faulty::new(Arc::new(memory), faults.clone());
        let archive = Archive::new(Arc::new(store), &"srv".parse().expect("a name"));
        for (id, text) in [
            ("20261120T020000", "status=DONE\n"),
            ("20261121T020000", "nonsense\n"),
        ] {
            let object = ObjectKey::info(&BackupId::new(id));
            let written = archive.write(&object, text, PutMode::Overwrite);
            written.await.expect("memory");
        }
        let listed = Listed::of(&archive).await.expect("a list");
        let records = listed.records(&archive).await.expect("records");
        assert_eq!(records.len(), 1);
        for meaning in [Meaning::Unreachable, Meaning::PermissionDenied] {
            faults.add(Rule::next(Operation::Get, "", Effect::Before(meaning)));
            let failed = listed.records(&archive).await;
            assert!(matches!(failed, Err(Error::General(_))), "{meaning:?}");
        }
    }
}
