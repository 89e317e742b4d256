//! A backup from the files of a server on this host: copied while PostgreSQL is in backup mode.

use super::{
    Backup, CopiedFiles, Error, WalProof,
    copy::{self, Copy, CopyPorts, Order},
    exclude::Rules,
    last,
    walk::Tree,
};
use crate::{
    model::{
        backup::{ArchiveRoot, BackupId},
        progress::Event,
    },
    postgres::{self, ArchiverWait, BackupStart, BackupStop},
};

impl Backup<'_> {
    pub(super) async fn start(&mut self, id: &BackupId) -> Result<BackupStart, Error> {
        let request = postgres::BackupRequest {
            label: self.label(id),
            checkpoint: super::checkpoint(&self.request.files),
        };
        tokio::select! {
            biased;
            () = self.ports.cancel.cancelled() => Err(Error::Interrupted),
            start = self.ports.postgres.start(&request) => {
                start.map_err(Error::server("start the backup"))
            }
        }
    }

    pub(super) async fn copy_and_stop(
        &mut self,
        id: &BackupId,
        start: &BackupStart,
    ) -> Result<CopiedFiles, Error> {
        let copy = self.copy(id, start).await?;
        let (memory, bytes) = (copy.memory, copy.bytes);
        let mut findings = copy.findings.clone();
        let last = match self.before_stop() {
            Ok(files) => files,
            Err(error) => return Err(copy.give_up(error).await),
        };
        let copy = copy.append(last).await?;
        let stop = match self.stop().await {
            Ok(stop) => stop,
            Err(error) => return Err(copy.give_up(error).await),
        };
        self.ports.progress.report(Event::Stopped);
        let label = match last::backup_label(&self.pgdata, &stop) {
            Ok(label) => label,
            Err(error) => return Err(copy.give_up(error).await),
        };
        let copy = copy.append(vec![label]).await?;
        let (archives, files) = copy.finish().await?;
        findings.files = files.files;
        findings.warnings.extend(self.unstored_settings());
        Ok(CopiedFiles {
            stop,
            archives,
            findings,
            bytes,
            memory,
        })
    }

    async fn copy(&mut self, id: &BackupId, start: &BackupStart) -> Result<Copy, Error> {
        let order = self.order(id, start);
        let cancel = self.ports.cancel.child_token();
        let ports = CopyPorts {
            catalog: &self.ports.catalog,
            throttle: self.ports.throttle.as_ref(),
            progress: &*self.ports.progress,
            cancel: &cancel,
        };
        let copying = Copy::run(order, &ports);
        tokio::pin!(copying);
        tokio::select! {
            biased;
            copy = &mut copying => Ok(copy?),
            () = self.ports.postgres.lost() => {
                cancel.cancel();
                Err(match copying.await {
                    Ok(copy) => copy.give_up(Error::SessionLost).await,
                    Err(_cancelled) => Error::SessionLost,
                })
            }
        }
    }

    fn order(&self, id: &BackupId, start: &BackupStart) -> Order {
        let locations: Vec<_> = self
            .facts
            .tablespaces
            .iter()
            .map(|space| space.location.clone())
            .collect();
        let outside = last::outside(&self.facts);
        let data = Tree {
            root: ArchiveRoot::Data,
            path: self.pgdata.clone(),
            rules: Rules::data(&self.facts.data_directory, &locations).without(outside),
        };
        let major = self.facts.major();
        let tablespaces = self.facts.tablespaces.iter().map(|space| Tree {
            root: ArchiveRoot::Tablespace(space.oid),
            path: last::here(&space.location, &self.facts.data_directory, &self.pgdata),
            rules: Rules::tablespace(space.oid, major),
        });
        let files = &self.request.files;
        Order {
            backup: id.clone(),
            trees: std::iter::once(data).chain(tablespaces).collect(),
            codec: self.codec,
            jobs: files.jobs.get(),
            max_archive_bytes: files.max_archive_bytes,
            part_bytes: files.part_bytes,
            verify_before: self.facts.data_checksums.then_some(start.lsn),
            estimate: self.facts.cluster_size,
        }
    }

    /// What is read when everything else has been read, and the proof that it was still the same server.
    fn before_stop(&self) -> Result<Vec<copy::LastFile>, Error> {
        if self.ports.cancel.is_cancelled() {
            return Err(Error::Interrupted);
        }
        let local = self.ports.postgres.prove_local(&self.pgdata, &self.facts);
        local.map_err(Error::NotLocal)?;
        last::before_stop(&self.pgdata, &self.facts)
    }

    pub(super) async fn stop(&mut self) -> Result<BackupStop, Error> {
        let wait = match self.request.wal {
            WalProof::Destination(_) => ArchiverWait::No,
            WalProof::Archiver => ArchiverWait::Yes,
        };
        tokio::select! {
            biased;
            () = self.ports.cancel.cancelled(), if wait == ArchiverWait::Yes => Err(Error::Interrupted),
            stop = self.ports.postgres.stop(wait) => stop.map_err(Error::server("stop the backup")),
        }
    }
}
