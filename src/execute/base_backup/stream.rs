//! A backup that the server sends: over the replication protocol, straight into Barman's archives, with nothing on a local disk.
//!
//! The server reads its own files, so it may be anywhere and its disks closed to us. One task receives, one thread takes the server's tar
//! archives apart and puts them together again as Barman's, on the way to the same compressing threads and uploads that the copy of
//! files uses. Every file's checksum is computed as its bytes pass and compared with the server's manifest, which is stored below
//! `barkeep/manifest/`. Memory: what [`super::dimensions`] says, two MiB between task and thread, and 24 bytes per file.

mod pieces;
mod received;
mod unpack;

pub(in crate::execute) use self::unpack::LEFT_OUT;
pub(super) use self::unpack::UnpackError;
use self::{
    pieces::pieces,
    unpack::{Unpack, Unpacked, Wrapping},
};

use std::{
    panic,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, task::JoinSet};

use super::{
    Backup, CopiedFiles, Error, chain,
    copy::CopyPorts,
    dimensions::{Dimensions, Wanted},
    findings::{Findings, Warning},
    outgoing::Outgoing,
    server::{Postgres, StreamEnd, StreamStart},
    sink::{Arrived, Sink},
};
use crate::{
    format::keys::{ObjectKey, OwnObject},
    model::{backup::BackupId, compression::Compression, progress::Event, record::ArchiveRecord},
    postgres::{
        BackupStop,
        replication::{ManifestText, Piece, SentTablespace, StreamRequest, Variant},
    },
    store,
};

/// How often progress is reported.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// How many archives are open at once: that of the data directory, and one of a tablespace.
const OPEN: usize = 2;

/// A backup that the server has begun to send.
pub(super) struct Sending {
    pub(super) stream: StreamStart,
    /// The backup that it builds on.
    pub(super) parent: Option<BackupId>,
    /// Why it builds on none although it should.
    refused: Option<Warning>,
}

impl Backup<'_> {
    /// Has the server begin. Where it refuses an incremental backup, which it alone can know, it sends a full one.
    pub(super) async fn start_sending(&mut self, id: &BackupId) -> Result<Sending, Error> {
        let mut refused = None;
        if let Some(parent) = self.request.parent.clone() {
            match self.start_incremental(id, &parent).await? {
                Ok(stream) => {
                    return Ok(Sending {
                        stream,
                        parent: Some(parent),
                        refused,
                    });
                }
                Err(why) => {
                    tracing::warn!(backup = %id, "no incremental backup, but a full one: {why}");
                    refused = Some(Warning::NotIncremental { why });
                }
            }
        }
        let stream = self.start_stream(id, None).await?;
        Ok(Sending {
            stream,
            parent: None,
            refused,
        })
    }

    /// Has the server begin an incremental backup, or tells why there can be none: it does not want to, or the parent's record is locked
    /// and cannot name another child.
    async fn start_incremental(
        &mut self,
        id: &BackupId,
        parent: &BackupId,
    ) -> Result<Result<StreamStart, String>, Error> {
        match chain::link(&self.ports.catalog, parent, id).await {
            Err(error) if error.is_locked() => return Ok(Err(crate::failure::chain(&error))),
            linked => linked?,
        }
        let manifest = chain::manifest(&self.ports.catalog, parent).await?;
        match self.start_stream(id, Some(manifest)).await {
            Err(Error::Server { source, .. }) if source.is_refusal() => {
                // A full backup of this id would look like the parent's child for ever.
                chain::unlink(&self.ports.catalog, parent, id).await?;
                Ok(Err(crate::failure::chain(&source)))
            }
            stream => stream.map(Ok),
        }
    }

    /// Has the server begin; it answers when its checkpoint is made.
    async fn start_stream(
        &mut self,
        id: &BackupId,
        parent: Option<ManifestText>,
    ) -> Result<StreamStart, Error> {
        let request = StreamRequest {
            label: self.label(id),
            checkpoint: super::checkpoint(&self.request.files),
            variant: match parent {
                Some(_) => Variant::Incremental,
                None => Variant::Full,
            },
            compression: self.server_compression(),
        };
        let system = self.facts.system_id;
        tokio::select! {
            biased;
            () = self.ports.cancel.cancelled() => Err(Error::Interrupted),
            start = self.ports.postgres.stream(system, &request, parent) => {
                start.map_err(Error::server("start the backup"))
            }
        }
    }

    /// Receives everything, and the position of the end.
    pub(super) async fn receive_and_stop(
        &mut self,
        id: &BackupId,
        sending: &Sending,
    ) -> Result<CopiedFiles, Error> {
        let cancel = self.ports.cancel.child_token();
        let ports = CopyPorts {
            catalog: &self.ports.catalog,
            throttle: self.ports.throttle.as_ref(),
            progress: &*self.ports.progress,
            cancel: &cancel,
        };
        let files = &self.request.files;
        let wanted = Wanted {
            codec: self.codec,
            jobs: OPEN,
            part_bytes: files.part_bytes,
            max_archive_bytes: files.max_archive_bytes,
        };
        let dimensions = Dimensions::of(&wanted, ports.catalog.store().limits());
        let outgoing = Outgoing::new(id, self.codec, dimensions, &ports)?;
        let wrapping = Wrapping {
            has_end_marks: sending.stream.has_end_marks,
            compression: self.server_compression(),
        };
        let receiving = Receiving::begin(id, &sending.stream.archives, wrapping, outgoing, &ports);
        let (end, received) = receiving.run(&mut *self.ports.postgres).await?;
        let mut findings = Findings {
            files: received.unpacked.files,
            ..Findings::default()
        };
        let damaged = received::damaged(&end.farewell, &self.facts.data_directory);
        for file in damaged {
            findings.damage(file);
        }
        findings.warnings = received.unpacked.warnings;
        findings.warnings.extend(sending.refused.clone());
        findings.warnings.extend(self.unstored_settings());
        findings.warnings.extend(self.unsent_settings());
        Ok(CopiedFiles {
            stop: BackupStop {
                lsn: end.position.lsn,
                timeline: end.position.timeline,
                time: end.time,
                backup_label: received.unpacked.label,
                tablespace_map: None,
            },
            archives: received.archives,
            findings,
            bytes: received.bytes,
            memory: dimensions.memory(),
        })
    }

    /// Before PostgreSQL 15 a server sends everything as it is.
    fn server_compression(&self) -> Compression {
        match self.facts.major() {
            15.. => self.request.server_compression,
            _ => Compression::None,
        }
    }

    /// The main configuration files, where they lie outside the data directory: the server does not send them.
    fn unsent_settings(&self) -> Vec<Warning> {
        let facts = &self.facts;
        let files = [&facts.config_file, &facts.hba_file, &facts.ident_file];
        let outside = files.into_iter().flatten();
        let outside = outside.filter(|path| !path.starts_with(&facts.data_directory));
        outside.cloned().map(Warning::IncludedFile).collect()
    }
}

/// What has been received.
struct Received {
    archives: Vec<ArchiveRecord>,
    unpacked: Unpacked,
    bytes: u64,
}

/// A backup being received.
struct Receiving<'a> {
    ports: &'a CopyPorts<'a>,
    outgoing: Arc<Outgoing>,
    sender: mpsc::Sender<Option<Piece>>,
    thread: JoinSet<Result<Unpacked, UnpackError>>,
    manifest: JoinSet<store::Result<Arrived>>,
    bytes: u64,
}

impl<'a> Receiving<'a> {
    fn begin(
        id: &BackupId,
        archives: &[SentTablespace],
        wrapping: Wrapping,
        outgoing: Outgoing,
        ports: &'a CopyPorts<'a>,
    ) -> Self {
        let estimates = archives.iter().map(|archive| archive.bytes);
        let estimate = estimates.sum::<Option<u64>>();
        ports.progress.report(Event::Begun { bytes: estimate });
        let outgoing = Arc::new(outgoing);
        let (sender, pieces) = pieces();
        let mut manifest = JoinSet::new();
        let sink = send_manifest(id, &outgoing, ports, &mut manifest);
        let unpack = Unpack::new(Arc::clone(&outgoing), sink, wrapping);
        let mut thread = JoinSet::new();
        thread.spawn_blocking(move || unpack.run(pieces));
        Self {
            ports,
            outgoing,
            sender,
            thread,
            manifest,
            bytes: 0,
        }
    }

    /// Whatever goes wrong, no upload is under way afterwards.
    async fn run(mut self, postgres: &mut dyn Postgres) -> Result<(StreamEnd, Received), Error> {
        // Dropping the future must not leave a thread behind that reads on.
        let guard = self.ports.cancel.clone().drop_guard();
        let end = self.receive_all(postgres).await;
        let Self {
            outgoing,
            sender,
            mut thread,
            mut manifest,
            bytes,
            ..
        } = self;
        // What was not ended in good order is broken off: the thread takes that for an error.
        drop(sender);
        let joined = thread.join_next().await.expect("one was started");
        let unpacked = joined.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()));
        let uploads = outgoing.take_uploads();
        let cancelled = guard.disarm();
        let error = match (end, unpacked) {
            (Ok(end), Ok(unpacked)) => match uploads.arrive(outgoing.codec(), &cancelled).await {
                Ok(archives) => {
                    arrived(&mut manifest).await?;
                    let received = Received {
                        archives,
                        unpacked,
                        bytes,
                    };
                    return Ok((end, received));
                }
                Err(error) => error.into(),
            },
            (_, Err(UnpackError::Copy(error))) => {
                cancelled.cancel();
                uploads.because(error).await.into()
            }
            (end, unpacked) => {
                cancelled.cancel();
                uploads.end().await;
                cause(end.err(), unpacked.err())
            }
        };
        while manifest.join_next().await.is_some() {}
        Err(error)
    }

    async fn receive_all(&mut self, postgres: &mut dyn Postgres) -> Result<StreamEnd, Error> {
        let mut reported = Instant::now();
        loop {
            let piece = tokio::select! {
                biased;
                () = self.ports.cancel.cancelled() => return Err(Error::Interrupted),
                piece = postgres.receive() => piece.map_err(Error::server("receive the backup"))?,
            };
            if let Some(Piece::Data(bytes)) = &piece {
                self.bytes += bytes.len() as u64;
            }
            if reported.elapsed() >= REPORT_EVERY || piece.is_none() {
                reported = Instant::now();
                self.ports
                    .progress
                    .report(Event::Advanced { bytes: self.bytes });
            }
            let is_last = piece.is_none();
            let sent = tokio::select! {
                biased;
                () = self.ports.cancel.cancelled() => return Err(Error::Interrupted),
                sent = self.sender.send(piece) => sent,
            };
            // Why the thread has stopped listening is for it to say.
            if sent.is_err() {
                return Err(Error::SessionLost);
            }
            if is_last {
                break;
            }
        }
        let end = postgres.end_stream().await;
        let end = end.map_err(Error::server("end the backup"))?;
        self.ports.progress.report(Event::Stopped);
        Ok(end)
    }
}

/// Why a backup failed: what the thread found wrong comes before the end of the session that followed, but not what that end made it miss.
fn cause(session: Option<Error>, thread: Option<UnpackError>) -> Error {
    match (session, thread) {
        (Some(session), None | Some(UnpackError::CutOff)) => session,
        (_, Some(thread)) => thread.into(),
        (None, None) => Error::SessionLost,
    }
}

/// Begins to store the manifest; what is written to the answer becomes it.
fn send_manifest(
    id: &BackupId,
    outgoing: &Outgoing,
    ports: &CopyPorts<'_>,
    tasks: &mut JoinSet<store::Result<Arrived>>,
) -> Sink {
    let object = ObjectKey::Own(OwnObject::Manifest(id.clone()));
    let target = outgoing.target(ports.catalog.key(&object));
    let (sink, sending) = outgoing.open_object();
    tasks.spawn(sending.run(target));
    sink
}

async fn arrived(manifest: &mut JoinSet<store::Result<Arrived>>) -> Result<(), Error> {
    let joined = manifest.join_next().await.expect("one was started");
    let arrived = joined.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()));
    arrived.map(|_| ()).map_err(|source| Error::Upload {
        archive: "manifest".to_owned(),
        source,
    })
}
