//! Attempts: the long work that runs beside the loop.

use std::{fmt, num::NonZeroU64, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    base_backup::{self, BackupRequest, Disks, Ports, Postgres, RestorePoint, Taken, WalProof},
    copy, verify,
};
use crate::{
    clock::Clock,
    failure::{Failure, Kind},
    model::{
        action::Action,
        desired::{Destination, Server},
        names::DestinationName,
        observed::Observed,
        progress::Progress,
        record::{Actor, Verification},
        semantics::Records,
    },
    pipeline::throttle::Throttle,
    plan::Step,
    snapshot::Clouds,
    store::Archive,
};

/// How long a backup waits for the WAL that it needs before it leaves the rest to a later activation.
const WAL_PATIENCE: Duration = Duration::from_mins(5);

/// What an attempt is made with.
pub struct Bench<'a> {
    /// The server.
    pub server: &'a Server,
    /// Its catalog.
    pub archive: &'a Archive,
    /// How to reach it.
    pub postgres: Box<dyn Postgres>,
    /// How clouds are opened.
    pub clouds: &'a dyn Clouds,
    /// The process that makes it.
    pub actor: Actor,
    /// What the plan was made from.
    pub observed: &'a Observed,
    /// The destination's limit on bandwidth, shared by the whole process.
    pub throttle: Option<Throttle>,
    /// The present.
    pub clock: Clock,
    /// Stops the attempt.
    pub cancel: &'a CancellationToken,
    /// Who wants to know how far it is.
    pub progress: Arc<dyn Progress>,
}

/// How an attempt ended.
#[derive(Debug)]
pub struct Ended {
    /// Where.
    pub destination: DestinationName,
    /// What was done, or why nothing was.
    pub result: Result<Done, Failure>,
}

/// What an attempt did.
#[derive(Debug)]
pub enum Done {
    /// A backup was read back.
    Verified(Verification),
    /// A backup was taken.
    Taken(Taken),
    /// A backup was copied.
    Copied(copy::Copied),
}

impl Done {
    /// Whether pages were damaged when they were read, or a backup was found to be.
    pub fn is_damaged(&self) -> bool {
        match self {
            Self::Taken(taken) => taken.is_damaged(),
            Self::Verified(verification) => !verification.is_sound(),
            Self::Copied(_) => false,
        }
    }

    /// What went otherwise than it should.
    pub fn warnings(&self) -> &[base_backup::Warning] {
        match self {
            Self::Taken(taken) => &taken.warnings,
            Self::Copied(_) | Self::Verified(_) => &[],
        }
    }
}

impl fmt::Display for Done {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken(taken) => taken.fmt(formatter),
            Self::Copied(copied) => copied.fmt(formatter),
            Self::Verified(verification) => verification.fmt(formatter),
        }
    }
}

impl Ended {
    /// An attempt that could not even begin.
    pub fn failed(step: &Step, failure: Failure) -> Self {
        Self {
            destination: step.destination.clone(),
            result: Err(failure),
        }
    }

    /// An attempt whose server or destination is not configured.
    pub fn not_open(step: &Step) -> Self {
        let message = format!("no connection or no destination `{}`", step.destination);
        Self::failed(step, Failure::new(Kind::Usage, message))
    }
}

/// A limit as the whole process shares it.
pub fn throttle(destination: &Destination) -> Option<Throttle> {
    destination
        .max_bandwidth
        .and_then(NonZeroU64::new)
        .map(Throttle::new)
}

/// Runs an attempt to its end.
pub async fn run(step: &Step, bench: Bench<'_>) -> Ended {
    let Action::TakeBackup {
        above,
        due,
        name,
        parent,
    } = &step.action
    else {
        let failure = Failure::new(Kind::Failed, format!("`{}` is no attempt", step.describe()));
        return Ended::failed(step, failure);
    };
    let Some(entry) = bench.server.entry(&step.destination) else {
        return Ended::not_open(step);
    };
    let stored = bench.observed.destinations.get(&step.destination);
    let identity = stored.and_then(|stored| stored.identity.known());
    let request = BackupRequest {
        destination: step.destination.clone(),
        above: above.clone(),
        due: *due,
        name: name.clone(),
        zone: entry.zone.clone(),
        method: entry.method,
        server_compression: entry.server_compression,
        parent: parent.clone(),
        files: entry.files.clone(),
        pgdata: bench.server.pgdata.clone(),
        pinned: identity.map(|identity| identity.system_id),
        wal: WalProof::Destination(WAL_PATIENCE),
        records: Records::Written,
        restore_point: RestorePoint::Create,
        actor: bench.actor,
    };
    let disks = match &entry.snapshot {
        None => None,
        Some(options) => match Disks::configured(options, bench.archive, bench.clouds).await {
            Ok(disks) => Some(disks),
            Err(error) => return Ended::failed(step, Failure::of(error.kind(), &error)),
        },
    };
    let mut ports = Ports {
        catalog: bench.archive.clone(),
        postgres: bench.postgres,
        wal: Arc::new(bench.archive.clone()),
        disks,
        throttle: bench.throttle,
        progress: bench.progress,
        clock: bench.clock,
        cancel: bench.cancel.clone(),
    };
    let taken = Box::pin(base_backup::take_backup(&request, &mut ports)).await;
    let result = taken.map(Done::Taken);
    Ended {
        destination: step.destination.clone(),
        result: result.map_err(|error| Failure::of(error.kind(), &error).hinted(error.hint())),
    }
}

/// What a copy is made with.
pub struct CopyBench<'a> {
    /// The server.
    pub server: &'a Server,
    /// Its catalog where the backup is.
    pub source: &'a Archive,
    /// Its catalog where the copy goes.
    pub target: &'a Archive,
    /// The target's limit on bandwidth, shared by the whole process.
    pub throttle: Option<Throttle>,
    /// Stops the copy.
    pub cancel: &'a CancellationToken,
}

/// Runs a copy to its end.
pub async fn copy(step: &Step, bench: CopyBench<'_>) -> Ended {
    let Action::CopyBackup {
        backup, version, ..
    } = &step.action
    else {
        let failure = Failure::new(Kind::Failed, format!("`{}` is no copy", step.describe()));
        return Ended::failed(step, failure);
    };
    let Some(entry) = bench.server.entry(&step.destination) else {
        return Ended::not_open(step);
    };
    let copying = copy::Copying {
        source: bench.source,
        target: bench.target,
        part_bytes: entry.files.part_bytes,
        throttle: bench.throttle,
        cancel: bench.cancel,
    };
    let copied = copy::backup(&copying, backup, version).await;
    Ended {
        destination: step.destination.clone(),
        result: match copied {
            Ok(copied) => Ok(Done::Copied(copied)),
            Err(error) => Err(Failure::of(error.kind(), &error)),
        },
    }
}

/// Runs a verification to its end.
pub async fn verify(step: &Step, verifier: verify::Verifier<'_>) -> Ended {
    let Action::VerifyBackup { backup } = &step.action else {
        let failure = Failure::new(Kind::Failed, format!("`{}` reads nothing", step.describe()));
        return Ended::failed(step, failure);
    };
    let verified = verify::verify(&verifier, backup).await;
    Ended {
        destination: step.destination.clone(),
        result: match verified {
            Ok(verification) => Ok(Done::Verified(verification)),
            Err(error) => Err(Failure::of(error.kind(), &error)),
        },
    }
}

impl Taken {
    /// Whether pages were damaged when they were read.
    pub fn is_damaged(&self) -> bool {
        self.damaged_files > 0
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stored: u64 = self.archives.iter().map(|archive| archive.bytes).sum();
        let size = crate::plan::render::Bytes;
        write!(
            formatter,
            "backup {}, {} files, {} stored as {}",
            self.backup,
            self.files,
            size(self.bytes),
            size(stored)
        )?;
        if let Some(first) = self.state.waiting_for() {
            write!(formatter, ", waiting for WAL {first}")?;
        }
        if self.is_damaged() {
            write!(
                formatter,
                ", {} files with damaged pages",
                self.damaged_files
            )?;
        }
        Ok(())
    }
}
