//! What a backup leaves in the catalog while it runs: its attempt record and its `backup.info`.
//!
//! Without records of barkeep's own, `backup.info` is all there is, and what is not DONE or FAILED in the end stays as it is, as
//! Barman's does. With them, the record comes first and goes last, so a crash at any instant leaves nothing that looks like somebody else's: either only a
//! record, or a `backup.info` with the record beside it. `backup.info` is rewritten on condition that it is still the version
//! that was written last. An answer that got lost is told from a refusal by reading what is there.

use std::time::Duration;

use chrono::{NaiveDateTime, TimeDelta};
use tokio_util::sync::CancellationToken;

use super::{Error, chain, leftover};
use crate::{
    clock::Clock,
    failure,
    format::{
        backup_info::BackupInfo,
        keys::{ObjectKey, OwnObject, backup_directory},
        records,
    },
    model::{
        backup::{BackupId, BackupStatus},
        desired::Overwriting,
        record::{Actor, Attempt, Stopped},
        schedule::Zone,
        semantics::Records,
        snapshot::SnapshotSet,
        time::Timestamp,
    },
    store::{Archive, ListRequest, Meaning, ObjectVersion, PutMode},
};

/// How often the record says that the attempt lives.
pub(super) const BEAT: Duration = Duration::from_secs(30);

/// How many seconds in a row are tried for an id.
const IDS_MAX: u32 = 60;

/// How far an id may lie ahead without being from the future: clocks are set back by an hour once a year.
const AHEAD_MAX: TimeDelta = TimeDelta::minutes(61);

/// A backup under way, as the catalog shows it.
pub(super) struct Running<'a> {
    catalog: &'a Archive,
    clock: Clock,
    record: Attempt,
    records: Records,
    info: Visible,
}

/// Whether others can see the backup.
enum Visible {
    /// Nothing was written of it.
    No,
    /// It was to be written, or a parent to be told of it, and whether that was done nobody knows.
    InDoubt,
    /// Its record as it was written last.
    As(BackupInfo, ObjectVersion),
}

/// What a new attempt is recorded with.
pub(super) struct Claim<'a> {
    pub(super) above: Option<&'a BackupId>,
    pub(super) due: Option<Timestamp>,
    pub(super) zone: &'a Zone,
    pub(super) actor: &'a Actor,
    pub(super) records: Records,
}

impl<'a> Running<'a> {
    /// Finds a free id and records the attempt under it.
    pub(super) async fn claim(
        catalog: &'a Archive,
        clock: Clock,
        claim: &Claim<'_>,
    ) -> Result<Self, Error> {
        let now = clock.now();
        let mut local = first_id(claim.zone.local(now), claim.above)?;
        for _ in 0..IDS_MAX {
            let record = Attempt {
                backup: BackupId::at(local),
                started_at: now,
                by: claim.actor.clone(),
                due: claim.due,
                alive_at: now,
                stopped: None,
            };
            let running = Self {
                catalog,
                clock,
                record,
                records: claim.records,
                info: Visible::No,
            };
            if running.is_free().await? && running.create_record().await? {
                return Ok(running);
            }
            local += TimeDelta::seconds(1);
        }
        Err(Error::NoId(IDS_MAX))
    }

    /// The backup.
    pub(super) fn id(&self) -> &BackupId {
        &self.record.backup
    }

    /// Nothing lies in the directory, whoever would have put it there.
    async fn is_free(&self) -> Result<bool, Error> {
        let prefix = self.catalog.prefix(&backup_directory(self.id()));
        let request = ListRequest {
            limit: Some(1),
            ..ListRequest::below(prefix)
        };
        let page = self.catalog.store().list(request).await;
        match page.map_err(Error::catalog("look for a free backup id")) {
            Ok(page) => Ok(page.objects.is_empty()),
            // Barman never lists before it writes.
            Err(error) if self.records == Records::None && error.is_denied() => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn create_record(&self) -> Result<bool, Error> {
        if self.records == Records::None {
            return Ok(true);
        }
        let object = ObjectKey::Own(OwnObject::Attempt(self.id().clone()));
        let text = records::render(&self.record);
        create(self.catalog, &object, text)
            .await
            .map(|version| version.is_some())
    }

    /// Makes the backup visible, which what it builds on says before. `false` if somebody else has just made one with the same id.
    pub(super) async fn begin(
        &mut self,
        info: BackupInfo,
        parent: Option<&BackupId>,
    ) -> Result<bool, Error> {
        self.info = Visible::InDoubt;
        if let Some(parent) = parent {
            chain::link(self.catalog, parent, self.id()).await?;
        }
        if self.catalog.overwriting() == Overwriting::Forbidden {
            // The claimed record stands for it until the end.
            self.info = Visible::As(info, ObjectVersion(String::new()));
            return Ok(true);
        }
        let object = ObjectKey::info(self.id());
        let version = create(self.catalog, &object, info.render()).await?;
        let is_ours = version.is_some();
        if let Some(parent) = parent.filter(|_| !is_ours) {
            chain::unlink(self.catalog, parent, self.id()).await?;
        }
        self.info = version.map_or(Visible::No, |version| Visible::As(info, version));
        Ok(is_ours)
    }

    /// Goes on under the next free id, leaving this one to whoever has it.
    pub(super) async fn move_on(&mut self, claim: &Claim<'_>) -> Result<(), Error> {
        let taken = self.id().clone();
        let claim = Claim {
            above: Some(&taken),
            ..*claim
        };
        let next = Self::claim(self.catalog, self.clock, &claim).await?;
        std::mem::replace(self, next).remove_record().await
    }

    /// Says every now and then that the attempt lives, until told to stop. It never stops half way through a write, which could
    /// otherwise arrive after a later one.
    pub(super) async fn beat(&self, stop: &CancellationToken) {
        let mut record = self.record.clone();
        let mut ticks = tokio::time::interval(BEAT);
        ticks.tick().await;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            record.alive_at = self.clock.now();
            if let Err(error) = self.write_record(&record).await {
                let error = failure::chain(&error);
                tracing::warn!(backup = %self.id(), error, "cannot say that the attempt lives");
            }
        }
    }

    async fn write_record(&self, record: &Attempt) -> Result<(), Error> {
        if self.records == Records::None {
            return Ok(());
        }
        let object = OwnObject::Attempt(record.backup.clone());
        let written = self
            .catalog
            .write_record(object, record, PutMode::Overwrite)
            .await;
        written
            .map(|_| ())
            .map_err(Error::catalog("record the attempt"))
    }

    /// Records all that is needed to finish without this process.
    pub(super) async fn stopped(&mut self, stopped: Stopped) -> Result<(), Error> {
        self.record.stopped = Some(stopped);
        self.record.alive_at = self.clock.now();
        self.write_record(&self.record).await
    }

    /// Rewrites `backup.info`, if it is still what was written last. Where nothing is written twice, only what is final is written.
    pub(super) async fn rewrite(&mut self, info: BackupInfo) -> Result<(), Error> {
        if self.catalog.overwriting() == Overwriting::Forbidden {
            if is_final(&info) {
                write_once(self.catalog, self.id(), &info).await?;
            }
            return Ok(());
        }
        let Visible::As(_, version) = &self.info else {
            unreachable!("what was begun is rewritten");
        };
        let version = match self.records {
            Records::Written => replace(self.catalog, self.id(), &info, version.clone()).await?,
            Records::None => {
                let written = self
                    .catalog
                    .write_info(self.id(), &info, PutMode::Overwrite)
                    .await;
                let written = written.map_err(Error::catalog("rewrite the backup's record"));
                written?.version
            }
        };
        self.info = Visible::As(info, version);
        Ok(())
    }

    /// Records that the backup failed, with snapshots that are left of it, and forgets the attempt. What cannot be written now, and what may
    /// only now begin to arrive, is left for whoever finds the record. What it was to build on forgets it, if it never came to be.
    pub(super) async fn fail(
        mut self,
        error: &Error,
        name: Option<&str>,
        parent: Option<&BackupId>,
        left: Option<&SnapshotSet>,
    ) {
        if let Visible::As(info, _) = &self.info {
            let mut info = info.clone();
            info.set_name(name);
            if let Some(left) = left {
                info.set_snapshots(left);
            }
            info.set_failed(&format!(
                "failure uploading data ({})",
                failure::chain(error)
            ));
            if let Err(error) = self.rewrite(info).await {
                let error = failure::chain(&error);
                tracing::warn!(backup = %self.id(), error, "cannot record that the backup failed");
                return;
            }
        } else if let Some(parent) = parent
            && let Err(error) = chain::unlink(self.catalog, parent, self.id()).await
        {
            let error = failure::chain(&error);
            tracing::warn!(backup = %self.id(), %parent, error, "cannot tell the parent that there is no backup");
            return;
        }
        if error.may_arrive() || matches!(self.info, Visible::InDoubt) {
            return;
        }
        if let Err(error) = self.free().await {
            let error = failure::chain(&error);
            tracing::warn!(backup = %self.id(), error, "cannot forget the attempt");
        }
    }

    /// Frees the uploads that could not be given up when they failed, or of which nobody was told that they had begun, and forgets the
    /// attempt: without its record nobody would know whose they are.
    pub(super) async fn free(&self) -> Result<(), Error> {
        if self.records == Records::Written {
            leftover::abort_uploads(self.catalog, self.id()).await?;
        }
        self.remove_record().await
    }

    /// Forgets the attempt.
    async fn remove_record(&self) -> Result<(), Error> {
        if self.records == Records::None {
            return Ok(());
        }
        let object = ObjectKey::Own(OwnObject::Attempt(self.id().clone()));
        let removed = self.catalog.remove(&object).await;
        removed.map_err(Error::catalog("forget the attempt"))
    }
}

/// Creates an object; `None` if another one is there.
async fn create(
    catalog: &Archive,
    object: &ObjectKey,
    text: String,
) -> Result<Option<ObjectVersion>, Error> {
    const DOING: &str = "claim an id for the backup";
    match catalog.write(object, text.clone(), PutMode::Create).await {
        Ok(stored) => Ok(Some(stored.version)),
        // What is there may be our own earlier try, of which no answer came.
        Err(error) if error.is_conflict() => {
            let present = catalog.read(object).await.map_err(Error::catalog(DOING))?;
            let ours = present.filter(|(content, _)| *content == text);
            Ok(ours.map(|(_, version)| version))
        }
        // A store without conditional writes: whoever looked last wins, within milliseconds.
        Err(error) if error.meaning == Meaning::Unsupported => {
            let head = catalog.head(object).await.map_err(Error::catalog(DOING))?;
            if head.is_some() {
                return Ok(None);
            }
            let stored = catalog.write(object, text, PutMode::Overwrite).await;
            let stored = stored.map_err(Error::catalog(DOING))?;
            Ok(Some(stored.version))
        }
        Err(error) => Err(Error::catalog(DOING)(error)),
    }
}

fn is_final(info: &BackupInfo) -> bool {
    let status = info.status();
    status.is_ok_and(|status| matches!(status, BackupStatus::Done | BackupStatus::Failed))
}

/// Writes a backup's `backup.info`, which nobody has written yet.
pub(super) async fn write_once(
    catalog: &Archive,
    id: &BackupId,
    info: &BackupInfo,
) -> Result<(), Error> {
    match create(catalog, &ObjectKey::info(id), info.render()).await? {
        Some(_) => Ok(()),
        None => Err(Error::Changed(id.clone())),
    }
}

/// Replaces a backup's `backup.info`, if it is still of this version, and answers the new one.
pub(super) async fn replace(
    catalog: &Archive,
    id: &BackupId,
    info: &BackupInfo,
    version: ObjectVersion,
) -> Result<ObjectVersion, Error> {
    const DOING: &str = "rewrite the backup's record";
    let object = ObjectKey::info(id);
    let text = info.render();
    let mode = PutMode::Replace(version.clone());
    match catalog.write(&object, text.clone(), mode).await {
        Ok(stored) => Ok(stored.version),
        Err(error) if error.is_conflict() => {
            let present = catalog.read(&object).await.map_err(Error::catalog(DOING))?;
            let ours = present.filter(|(content, _)| *content == text);
            ours.map(|(_, version)| version)
                .ok_or_else(|| Error::Changed(id.clone()))
        }
        Err(error) if error.meaning == Meaning::Unsupported => {
            let head = catalog.head(&object).await.map_err(Error::catalog(DOING))?;
            if head.is_none_or(|head| head.meta.version != version) {
                return Err(Error::Changed(id.clone()));
            }
            let stored = catalog.write(&object, text, PutMode::Overwrite).await;
            Ok(stored.map_err(Error::catalog(DOING))?.version)
        }
        Err(error) => Err(Error::catalog(DOING)(error)),
    }
}

/// The local time of a new id: now, or the second after the newest one where that is not the past.
fn first_id(now: NaiveDateTime, above: Option<&BackupId>) -> Result<NaiveDateTime, Error> {
    // A name that is no time is older or newer than any other by its text only, and stands in nobody's way.
    let Some((newest, above)) = above.and_then(|id| Some((id.local_time()?, id))) else {
        return Ok(now);
    };
    if newest < now {
        return Ok(now);
    }
    if newest - now > AHEAD_MAX {
        return Err(Error::Future {
            newest: above.clone(),
            now: BackupId::at(now),
        });
    }
    Ok(newest + TimeDelta::seconds(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_at(now: &str, above: &str) -> String {
        let now = BackupId::new(now).local_time().expect("a time");
        let above = (!above.is_empty()).then(|| BackupId::new(above));
        match first_id(now, above.as_ref()) {
            Ok(local) => BackupId::at(local).to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_new_id_is_now_but_above_the_newest() {
        for (now, above, id) in [
            ("20261120T020000", "", "20261120T020000"),
            ("20261120T020000", "20261120T015959", "20261120T020000"),
            ("20261120T020000", "20261120T020000", "20261120T020001"),
            // The clock was set back from three to two.
            ("20261025T020010", "20261025T025959", "20261025T030000"),
            ("20261120T020000", "imported", "20261120T020000"),
        ] {
            assert_eq!(id_at(now, above), id, "{now} above {above}");
        }
        assert_eq!(
            id_at("20261120T020000", "20271120T020000"),
            "the backup `20271120T020000` is from the future; it is now 20261120T020000"
        );
    }
}
