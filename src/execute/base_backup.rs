//! A base backup: from the files of a server on this host, or sent by a server anywhere.
//!
//! [`take_backup`] claims an id, puts PostgreSQL into backup mode, copies or receives the files into Barman's archives on all cores,
//! leaves backup mode, waits until the WAL that the backup needs is in the destination, and writes the final `backup.info` last. What
//! it says is there was read back. A failure or an interruption leaves a record that says FAILED, no unfinished upload and no backup
//! mode; after a crash an attempt record tells [`finish_backup`] or [`abandon_attempt`] what to do.
//!
//! What PostgreSQL wants in a backup's `tablespace_map` is recorded in `backup.info` and not stored as a file: a restore with Barman
//! would leave the file in place, and PostgreSQL would then put tablespaces back to where they were instead of where they were asked
//! to be.
//!
//! [`relay_backup`] stores a backup that lies on this host's disk already, as a Barman server keeps it.

mod archive;
mod arrival;
mod attempt;
mod chain;
mod copy;
mod describe;
mod dimensions;
mod disks;
mod error;
mod exclude;
mod files;
mod findings;
mod last;
mod leftover;
mod outgoing;
mod queue;
mod relay;
mod server;
mod sink;
mod stream;
mod walk;

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::join;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

pub use self::{
    arrival::WalArrival,
    dimensions::Memory,
    disks::{Coverage, Disks},
    error::Error,
    findings::Warning,
    leftover::{Finished, abandon_attempt, abandon_foreign, finish_backup},
    relay::{Relay, RelayPorts, Relayed, relay_backup},
    server::{Postgres, Server, StreamEnd, StreamStart},
};
use self::{
    arrival::{Needed, Patience},
    attempt::{Claim, Running},
    findings::Findings,
    stream::Sending,
};
pub(super) use self::{
    chain::{link, unlink},
    stream::LEFT_OUT,
};
use crate::{
    clock::Clock,
    failure::chain,
    format::{backup_info::BackupInfo, keys::OwnObject},
    model::{
        backup::{BackupId, BackupStatus},
        compression::{Codec, Compression, Level},
        desired::{self, FilesOptions, Method},
        names::DestinationName,
        progress::{Event, Progress},
        record::{Actor, ArchiveEvidence, ArchiveRecord, DamagedPages, PageEvidence, Stopped},
        schedule::Zone,
        semantics::Records,
        snapshot::SnapshotSet,
        time::Timestamp,
        wal::{SegmentName, SystemId},
    },
    pipeline::throttle::Throttle,
    postgres::{BackupStart, BackupStop, Checkpoint, Role, ServerFacts},
    store::{Archive, PutMode},
};

/// What backup is wanted.
#[derive(Clone, Debug)]
pub struct BackupRequest {
    /// The destination, for messages.
    pub destination: DestinationName,
    /// The id that the new one must be above, if there is any.
    pub above: Option<BackupId>,
    /// The instant of the schedule that it answers.
    pub due: Option<Timestamp>,
    /// The name that it gets.
    pub name: Option<String>,
    /// The zone of its id.
    pub zone: Zone,
    /// How the files come here.
    pub method: Method,
    /// How the server compresses what it sends.
    pub server_compression: Compression,
    /// The backup that it builds on, if it is an incremental one.
    pub parent: Option<BackupId>,
    /// How its archives are made.
    pub files: FilesOptions,
    /// Where the server's files are on this host; where the server says, if unset.
    pub pgdata: Option<PathBuf>,
    /// The cluster that the catalog belongs to, if it belongs to one.
    pub pinned: Option<SystemId>,
    /// What proves that the WAL that it needs is archived.
    pub wal: WalProof,
    /// Whether the attempt is recorded, and what was noticed.
    pub records: Records,
    /// Whether its end gets a name that recovery can stop at.
    pub restore_point: RestorePoint,
    /// The process that takes it.
    pub actor: Actor,
}

/// What proves that the WAL that a backup needs is archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalProof {
    /// It was seen in the destination; waited for so long.
    Destination(Duration),
    /// PostgreSQL's archiver said so, wherever it archives to and however long it took: what Barman asks for.
    Archiver,
}

/// Whether a restore point named `barman_<id>` is written after the backup, as Barman does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestorePoint {
    /// None is.
    #[default]
    None,
    /// One is; that it cannot be is no failure.
    Create,
}

/// What a backup is taken with.
pub struct Ports {
    /// The server's catalog in the destination.
    pub catalog: Archive,
    /// The server.
    pub postgres: Box<dyn Postgres>,
    /// Who knows which WAL has arrived: the catalog itself, usually.
    pub wal: Arc<dyn WalArrival>,
    /// The disks, where these are snapshotted.
    pub disks: Option<Disks>,
    /// The limit on bandwidth.
    pub throttle: Option<Throttle>,
    /// Whoever watches.
    pub progress: Arc<dyn Progress>,
    /// The clock.
    pub clock: Clock,
    /// Ends it.
    pub cancel: CancellationToken,
}

/// A backup that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// Its id.
    pub backup: BackupId,
    /// Whether it is complete.
    pub state: TakenState,
    /// Its archives.
    pub archives: Vec<ArchiveRecord>,
    /// How many files it holds.
    pub files: u64,
    /// How many bytes of them were read.
    pub bytes: u64,
    /// The files with damaged pages; at most a thousand are named.
    pub damaged: Vec<DamagedPages>,
    /// How many files have damaged pages.
    pub damaged_files: u64,
    /// What people should know.
    pub warnings: Vec<Warning>,
    /// What was held in memory at most.
    pub memory: Memory,
    /// How long PostgreSQL took to start it, and copying it.
    pub times: Times,
}

/// Whether a backup is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakenState {
    /// It is, and was read back.
    Done,
    /// Its files are stored; this WAL segment is not. A later run finishes it.
    WaitingForWals(SegmentName),
}

impl TakenState {
    /// The segment that it waits for, if it is not complete.
    pub fn waiting_for(&self) -> Option<SegmentName> {
        match self {
            Self::Done => None,
            Self::WaitingForWals(first) => Some(*first),
        }
    }
}

/// Where the time went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Entering backup mode, which is mostly a checkpoint.
    pub start: Duration,
    /// From there to the arrival of the last byte.
    pub copy: Duration,
    /// Waiting for WAL.
    pub wal: Duration,
}

/// Takes a backup.
pub async fn take_backup(request: &BackupRequest, ports: &mut Ports) -> Result<Taken, Error> {
    let (server, destination) = (ports.catalog.server().to_owned(), &request.destination);
    let span = tracing::info_span!("backup", %server, %destination);
    let taken = async {
        // One heap allocation per backup, instead of a future that every caller has to carry.
        let taken = Box::pin(prepare_and_take(request, ports)).await;
        ports.postgres.close().await;
        taken
    };
    taken.instrument(span).await
}

async fn prepare_and_take(request: &BackupRequest, ports: &mut Ports) -> Result<Taken, Error> {
    let codec = codec(&request.files)?;
    let facts = ports.postgres.facts().await;
    let facts = facts.map_err(Error::server("ask the server about itself"))?;
    if let Some(pinned) = request.pinned.filter(|pinned| *pinned != facts.system_id) {
        let found = facts.system_id;
        return Err(Error::ForeignSystem { pinned, found });
    }
    let pgdata = match request.method {
        Method::Files => local_pgdata(request, ports, &facts)?,
        Method::Stream => facts.data_directory.clone(),
        Method::Snapshot => {
            let disks = ports.disks.as_ref();
            if disks.is_some_and(Disks::must_be_here) {
                local_pgdata(request, ports, &facts)?;
            }
            facts.data_directory.clone()
        }
    };
    let warnings = match &ports.disks {
        Some(disks) => disks.check(&facts).await?,
        None => Vec::new(),
    };
    let catalog = ports.catalog.clone();
    let claim = claim(request);
    let mut running = Running::claim(&catalog, ports.clock, &claim).await?;
    ports.progress.report(Event::Claimed(running.id().clone()));
    let mut backup = Backup {
        request,
        ports,
        facts,
        pgdata,
        codec,
        times: Times::default(),
        snapshots: None,
        warnings,
    };
    match backup.store_files(&mut running).await {
        Ok(stored) => backup.complete(running, stored).await,
        Err(error) => {
            let error = backup.as_asked(error);
            backup.ports.postgres.close().await;
            let left = backup.snapshots.as_ref();
            let (name, parent) = (request.name.as_deref(), request.parent.as_ref());
            running.fail(&error, name, parent, left).await;
            Err(error)
        }
    }
}

/// The directory with the server's files, proved to be that.
fn local_pgdata(
    request: &BackupRequest,
    ports: &Ports,
    facts: &ServerFacts,
) -> Result<PathBuf, Error> {
    let pgdata = request.pgdata.as_ref().unwrap_or(&facts.data_directory);
    let local = ports.postgres.prove_local(pgdata, facts);
    local.map_err(Error::NotLocal)?;
    pgdata.canonicalize().map_err(|source| Error::Read {
        path: pgdata.clone(),
        source,
    })
}

fn checkpoint(files: &FilesOptions) -> Checkpoint {
    match files.checkpoint {
        desired::Checkpoint::Spread => Checkpoint::Spread,
        desired::Checkpoint::Immediate => Checkpoint::Fast,
    }
}

fn claim(request: &BackupRequest) -> Claim<'_> {
    Claim {
        above: request.above.as_ref(),
        due: request.due,
        zone: &request.zone,
        actor: &request.actor,
        records: request.records,
    }
}

fn codec(files: &FilesOptions) -> Result<Codec, Error> {
    if !files.compression.is_supported_for_base() {
        return Err(Error::NotRestorable(files.compression));
    }
    let level = files.level.map(Level::Exact);
    Codec::for_base(files.compression, level).map_err(Error::Compression)
}

struct Backup<'a> {
    request: &'a BackupRequest,
    ports: &'a mut Ports,
    facts: ServerFacts,
    pgdata: PathBuf,
    codec: Codec,
    times: Times,
    /// The snapshots that it consists of, or that are left of it.
    snapshots: Option<SnapshotSet>,
    /// What was noticed before it began.
    warnings: Vec<Warning>,
}

/// A backup of which nothing is missing but WAL and the last word.
struct StoredFiles {
    final_info: BackupInfo,
    stopped: Stopped,
    findings: Findings,
    bytes: u64,
    memory: Memory,
}

impl Backup<'_> {
    /// From entering backup mode to the attempt record that no longer needs this process.
    async fn store_files(&mut self, running: &mut Running<'_>) -> Result<StoredFiles, Error> {
        let began = Instant::now();
        let begun = {
            let id = running.id().clone();
            alive(running, self.begin(&id)).await?
        };
        let start = begun.start();
        self.times.start = began.elapsed();
        let mut info = BackupInfo::started(&self.started(&start));
        self.make_visible(running, &begun, &mut info).await?;
        let copied = alive(running, self.copy_all(running.id(), &begun)).await?;
        let CopiedFiles {
            stop,
            archives,
            mut findings,
            bytes,
            memory,
        } = copied;
        findings.warnings.append(&mut self.warnings);
        self.times.copy = began.elapsed().saturating_sub(self.times.start);
        self.ports.progress.report(Event::Checking);
        let proven = leftover::check_archives(&self.ports.catalog, running.id(), &archives).await;
        self.permitting(proven)?;
        self.record_damage(running.id(), &findings).await?;
        self.record_archives(running.id(), &archives).await?;
        info.set_stopped(&self.ended(&stop), self.facts.segment_size);
        if let Some(snapshots) = &self.snapshots {
            info.set_snapshots(snapshots);
        }
        info.set_name(self.request.name.as_deref());
        info.set_status(BackupStatus::Done);
        let size = self.facts.segment_size;
        let stopped = Stopped {
            final_info: info.render(),
            begin_wal: start.lsn.segment(start.timeline, size),
            end_wal: stop.lsn.segment_before(stop.timeline, size),
            end_lsn: stop.lsn,
            archives,
        };
        running.stopped(stopped.clone()).await?;
        Ok(StoredFiles {
            final_info: info,
            stopped,
            findings,
            bytes,
            memory,
        })
    }

    async fn begin(&mut self, id: &BackupId) -> Result<Begun, Error> {
        match self.request.method {
            Method::Files => self.start(id).await.map(Begun::Files),
            Method::Stream => self.start_sending(id).await.map(Begun::Stream),
            Method::Snapshot => self.start(id).await.map(Begun::Snapshot),
        }
    }

    /// Writes the record of the backup.
    async fn make_visible(
        &self,
        running: &mut Running<'_>,
        begun: &Begun,
        info: &mut BackupInfo,
    ) -> Result<(), Error> {
        let parent = begun.parent();
        if let Some(parent) = parent {
            info.set_parent(parent);
        }
        while !running.begin(info.clone(), parent).await? {
            running.move_on(&claim(self.request)).await?;
        }
        Ok(())
    }

    async fn copy_all(&mut self, id: &BackupId, begun: &Begun) -> Result<CopiedFiles, Error> {
        match begun {
            Begun::Files(start) => self.copy_and_stop(id, start).await,
            Begun::Stream(sending) => self.receive_and_stop(id, sending).await,
            Begun::Snapshot(_) => self.snapshot_and_stop(id).await,
        }
    }

    fn permitting(&self, read_back: Result<(), Error>) -> Result<(), Error> {
        match self.request.records {
            Records::Written => read_back,
            Records::None => leftover::where_permitted(read_back),
        }
    }

    async fn record_damage(&self, id: &BackupId, findings: &Findings) -> Result<(), Error> {
        if findings.damaged_files == 0 || self.request.records == Records::None {
            return Ok(());
        }
        let evidence = PageEvidence {
            backup: id.clone(),
            at: self.ports.clock.now(),
            files: findings.damaged_files,
            damaged: findings.damaged.clone(),
        };
        let object = OwnObject::Evidence(format!("{id}/pages"));
        let catalog = &self.ports.catalog;
        let written = catalog
            .write_record(object, &evidence, PutMode::Overwrite)
            .await;
        let doing = "record the damaged pages";
        written.map(|_| ()).map_err(Error::catalog(doing))
    }

    /// Notes what was sent, so that reading it back later can be compared with it.
    async fn record_archives(
        &self,
        id: &BackupId,
        archives: &[ArchiveRecord],
    ) -> Result<(), Error> {
        if self.request.records == Records::None {
            return Ok(());
        }
        let evidence = ArchiveEvidence {
            backup: id.clone(),
            archives: archives.to_vec(),
        };
        let object = OwnObject::Evidence(format!("{id}/archives"));
        let catalog = &self.ports.catalog;
        let written = catalog
            .write_record(object, &evidence, PutMode::Overwrite)
            .await;
        let doing = "record the archives";
        written.map(|_| ()).map_err(Error::catalog(doing))
    }

    /// From here on nothing is lost with this process: an error leaves the attempt for a later run to finish.
    async fn complete(
        &mut self,
        mut running: Running<'_>,
        stored: StoredFiles,
    ) -> Result<Taken, Error> {
        let began = Instant::now();
        let missing = alive(&running, self.wait_for_wal(&stored.stopped, running.id())).await;
        self.times.wal = began.elapsed();
        let state = match missing {
            None => {
                running.rewrite(stored.final_info.clone()).await?;
                let info = &stored.final_info;
                let proven = leftover::check_info(&self.ports.catalog, running.id(), info).await;
                self.permitting(proven)?;
                running.free().await?;
                TakenState::Done
            }
            Some(missing) => {
                let mut info = stored.final_info.clone();
                info.set_status(BackupStatus::WaitingForWals);
                running.rewrite(info).await?;
                if self.ports.cancel.is_cancelled() {
                    let backup = running.id().clone();
                    return Err(Error::InterruptedWaiting { backup, missing });
                }
                TakenState::WaitingForWals(missing)
            }
        };
        Ok(Taken {
            backup: running.id().clone(),
            state,
            archives: stored.stopped.archives,
            files: stored.findings.files,
            bytes: stored.bytes,
            damaged: stored.findings.damaged,
            damaged_files: stored.findings.damaged_files,
            warnings: stored.findings.warnings,
            memory: stored.memory,
            times: self.times,
        })
    }

    async fn wait_for_wal(&mut self, stopped: &Stopped, id: &BackupId) -> Option<SegmentName> {
        self.close_segment(id).await;
        let WalProof::Destination(limit) = self.request.wal else {
            return None;
        };
        let patience = Patience {
            limit,
            cancel: &self.ports.cancel,
            progress: &*self.ports.progress,
        };
        let needed = Needed::of(stopped, self.facts.segment_size);
        arrival::wait(needed, &*self.ports.wal, &patience).await
    }

    /// On a primary leaving backup mode has completed the last segment; on a standby somebody must be asked to.
    async fn close_segment(&mut self, id: &BackupId) {
        let postgres = &mut self.ports.postgres;
        if self.request.restore_point == RestorePoint::Create
            && let Err(error) = postgres.restore_point(&format!("barman_{id}")).await
        {
            let error = chain(&error);
            tracing::warn!(backup = %id, error, "cannot create the restore point");
        }
        if self.facts.role == Role::Standby
            && let Err(error) = postgres.switch_wal().await
        {
            let error = chain(&error);
            tracing::warn!(backup = %id, error, "cannot switch WAL on the primary");
        }
    }

    /// What was stopped by the operator is no failure of whatever noticed first.
    fn as_asked(&self, error: Error) -> Error {
        if self.ports.cancel.is_cancelled() {
            Error::Interrupted
        } else {
            error
        }
    }
}

/// A backup that PostgreSQL has begun, in one way or the other.
enum Begun {
    Files(BackupStart),
    Stream(Sending),
    Snapshot(BackupStart),
}

impl Begun {
    fn start(&self) -> BackupStart {
        match self {
            Self::Files(start) | Self::Snapshot(start) => *start,
            Self::Stream(sending) => sending.stream.start,
        }
    }

    fn parent(&self) -> Option<&BackupId> {
        match self {
            Self::Files(_) | Self::Snapshot(_) => None,
            Self::Stream(sending) => sending.parent.as_ref(),
        }
    }
}

struct CopiedFiles {
    stop: BackupStop,
    archives: Vec<ArchiveRecord>,
    findings: Findings,
    bytes: u64,
    memory: Memory,
}

/// Does some work while the attempt record says every now and then that the attempt lives.
async fn alive<T>(running: &Running<'_>, work: impl Future<Output = T>) -> T {
    let stop = CancellationToken::new();
    let work = async {
        let done = work.await;
        stop.cancel();
        done
    };
    join(work, running.beat(&stop)).await.0
}

#[cfg(test)]
mod tests;
