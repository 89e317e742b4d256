//! PostgreSQL as barkeep meets it: asked what it is, and sending a backup of itself.
//!
//! What runs is the program's own attempt from end to end; only the server behind the port is made up. It sends a small archive with its
//! manifest, and its archiver brings the last segment after a while, or late.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use barkeep::{
    clock::pause,
    execute::{
        attempt::Ended,
        base_backup::{Postgres, StreamEnd, StreamStart},
    },
    failure::{Failure, Kind},
    model::{
        action::Action,
        desired::Server,
        observed::{self, ArchiveMode, Knowledge, Locality, Observed},
        time::Timestamp,
        timeline::TimelineId,
        wal::{Lsn, SegmentNumber, SystemId},
    },
    pipeline::{
        checksum::{Algorithm, Checksum},
        tar::{Entry, EntryKind, FileTime, Writer},
    },
    plan::Step,
    postgres::{
        ArchiverWait, Archiving, BackupRequest, BackupStart, BackupStop, Error, HeldLock, LockKey,
        Role, ServerFacts, WalSwitch, locality,
        replication::{
            Farewell, Location, ManifestText, Piece, Position, SentTablespace, StreamRequest,
        },
    },
    reconcile::{
        Ports,
        servers::{self, Servers},
    },
};
use bytes::Bytes;
use futures_util::TryStreamExt as _;

use crate::{
    cluster::{Cluster, size, timeline},
    line::Process,
    world::{Trouble, World, dice_for},
};

const VERSION: u32 = 180_001;

/// The servers as one process sees them.
pub(crate) struct Simulated {
    pub(crate) world: Arc<World>,
    pub(crate) process: Arc<Process>,
}

impl Simulated {
    fn cluster(&self, server: &Server) -> Arc<Mutex<Cluster>> {
        self.world.clusters[server.name.as_str()].clone()
    }
}

#[async_trait(?Send)]
impl Servers for Simulated {
    async fn ask(
        &self,
        _: &Ports,
        server: &Server,
    ) -> (Knowledge<observed::ServerFacts>, Locality) {
        let mut dice = self.process.dice(&format!("ask {}", server.name));
        pause(Duration::from_millis(1 + dice.roll(50))).await;
        let facts = facts(&self.cluster(server).lock().expect("no panic"), &self.world);
        let up = facts.is_some() && dice.roll(10_000) >= self.process.trouble().errors;
        if let Some(facts) = facts.filter(|_| up) {
            return (Knowledge::Known(facts), Locality::Local);
        }
        let why = "it does not answer".to_owned();
        let failure = Failure::new(Kind::Unreachable, &why);
        (Knowledge::Unknown(failure), Locality::NotLocal { why })
    }

    async fn attempt(&self, ports: &Ports, server: &Server, step: &Step, seen: &Observed) -> Ended {
        if let Action::CopyBackup { from, .. } = &step.action {
            return servers::copy(ports, server, step, from).await;
        }
        let session = Session {
            world: self.world.clone(),
            process: self.process.clone(),
            cluster: self.cluster(server),
            begun: None,
            pieces: VecDeque::new(),
        };
        servers::take(ports, server, step, seen, Box::new(session)).await
    }

    async fn lock(&self, _: &Ports, _: &Server, _: LockKey) -> Result<Option<HeldLock>, Error> {
        Ok(None)
    }
}

/// What a server says of itself; nothing if it is down.
fn facts(cluster: &Cluster, world: &World) -> Option<observed::ServerFacts> {
    let archived = cluster.archived.filter(|_| !cluster.standby);
    let archived = archived.map(|((on, number), at)| {
        let name = SegmentNumber(number).name(timeline(on), size());
        (name, at)
    });
    let ready = cluster.oldest_ready().filter(|_| !cluster.standby);
    cluster.up.then(|| observed::ServerFacts {
        system_id: SystemId(cluster.system),
        version: VERSION,
        segment_size: size(),
        role: if cluster.standby {
            observed::Role::Standby
        } else {
            observed::Role::Primary
        },
        timeline: cluster.on(),
        history: Some(cluster.history(cluster.timeline)),
        data_directory: cluster.pgdata().to_owned(),
        files: observed::ServerFiles {
            places: ["/data", "/data/pg_wal"].map(PathBuf::from).into(),
            outside: Vec::new(),
        },
        position: cluster.position(64),
        summarized_from: Some(Lsn(0)),
        slot: None,
        at_hand: cluster.at_hand(),
        archiver: observed::Archiver {
            mode: ArchiveMode::On,
            last_archived: archived.map(|(name, _)| name),
            last_archived_at: archived.map(|(_, at)| at),
            oldest_ready: ready.and_then(|(file, _)| file.segment()),
            oldest_ready_at: ready.map(|(_, at)| at),
            ..observed::Archiver::default()
        },
        clock: world.clock.now(),
    })
}

/// One backup of a server.
struct Session {
    world: Arc<World>,
    process: Arc<Process>,
    cluster: Arc<Mutex<Cluster>>,
    begun: Option<TimelineId>,
    pieces: VecDeque<Piece>,
}

impl Session {
    /// Something is asked of the server, which may be gone, or not answer for a while.
    async fn step(&self, what: &str) -> Result<(), Error> {
        let name = self.cluster.lock().expect("no panic").name.clone();
        let mut dice = self.process.dice(&format!("{name} {what}"));
        let trouble = self.process.trouble();
        pause(Duration::from_millis(1 + dice.roll(2000))).await;
        if dice.roll(10_000) < trouble.crashes {
            self.process.die(what);
            std::future::pending::<()>().await;
        }
        let up = self.cluster.lock().expect("no panic").up;
        if !up || dice.roll(10_000) < trouble.errors {
            return Err(Error::OtherSession);
        }
        Ok(())
    }
}

#[async_trait]
impl Postgres for Session {
    async fn facts(&mut self) -> Result<ServerFacts, Error> {
        self.step("facts").await?;
        let cluster = self.cluster.lock().expect("no panic");
        Ok(ServerFacts {
            system_id: SystemId(cluster.system),
            version: VERSION,
            segment_size: size(),
            role: if cluster.standby {
                Role::Standby
            } else {
                Role::Primary
            },
            timeline: cluster.on(),
            position: cluster.position(64),
            data_directory: PathBuf::from("/data"),
            port: 5432,
            config_file: None,
            hba_file: None,
            ident_file: None,
            included_files: Vec::new(),
            tablespaces: Vec::new(),
            data_checksums: true,
            summarize_wal: Some(true),
            summarized_from: Some(Lsn(0)),
            cluster_size: Some(30_000),
            archiving: Archiving {
                mode: "on".to_owned(),
                command: None,
                library: None,
                archiver: barkeep::postgres::Archiver::default(),
                oldest_ready: None,
            },
            started_at: self.world.clock.now(),
            now: self.world.clock.now(),
        })
    }

    fn prove_local(&self, _: &Path, _: &ServerFacts) -> Result<(), locality::Error> {
        Ok(())
    }

    async fn start(&mut self, _: &BackupRequest) -> Result<BackupStart, Error> {
        self.step("start").await?;
        let cluster = self.cluster.lock().expect("no panic");
        self.begun = Some(cluster.on());
        Ok(BackupStart {
            lsn: cluster.position(40),
            timeline: cluster.on(),
            time: self.world.clock.now(),
        })
    }

    async fn lost(&mut self) {
        std::future::pending::<()>().await;
    }

    async fn stop(&mut self, _: ArchiverWait) -> Result<BackupStop, Error> {
        let (position, time) = self.leave().await?;
        Ok(BackupStop {
            lsn: position.lsn,
            timeline: position.timeline,
            time,
            backup_label: "START WAL LOCATION\n".to_owned(),
            tablespace_map: None,
        })
    }

    async fn stream(
        &mut self,
        _: SystemId,
        _: &StreamRequest,
        parent: Option<ManifestText>,
    ) -> Result<StreamStart, Error> {
        if let Some(manifest) = parent {
            let read = manifest.try_collect::<Vec<Bytes>>().await;
            read.map_err(|_| Error::OtherSession)?;
        }
        self.step("stream").await?;
        let cluster = self.cluster.lock().expect("no panic");
        let start = BackupStart {
            lsn: cluster.position(40),
            timeline: cluster.on(),
            time: self.world.clock.now(),
        };
        self.begun = Some(cluster.on());
        self.pieces = sent(&start);
        Ok(StreamStart {
            start,
            archives: vec![SentTablespace {
                location: Location::Data,
                bytes: None,
            }],
            has_end_marks: true,
        })
    }

    async fn receive(&mut self) -> Result<Option<Piece>, Error> {
        Ok(self.pieces.pop_front())
    }

    async fn end_stream(&mut self) -> Result<StreamEnd, Error> {
        let (position, time) = self.leave().await?;
        Ok(StreamEnd {
            position,
            time,
            farewell: Farewell::default(),
        })
    }

    async fn restore_point(&mut self, _: &str) -> Result<Option<Lsn>, Error> {
        Ok(None)
    }

    async fn switch_wal(&mut self) -> Result<WalSwitch, Error> {
        self.step("switch").await?;
        let mut cluster = self.cluster.lock().expect("no panic");
        let position = cluster.position(4096);
        cluster.write(self.world.clock.now());
        self.bring(&cluster.name);
        Ok(WalSwitch::Switched(position))
    }

    async fn close(&mut self) {}
}

impl Session {
    /// Backup mode ends, if the server is still the one that it began on.
    async fn leave(&self) -> Result<(Position, Timestamp), Error> {
        // Long enough for something to happen meanwhile.
        let name = self.cluster.lock().expect("no panic").name.clone();
        let mut dice = self.process.dice(&format!("{name} sends"));
        pause(Duration::from_secs(dice.roll(1500))).await;
        self.step("end").await?;
        let now = self.world.clock.now();
        let mut cluster = self.cluster.lock().expect("no panic");
        if self.begun != Some(cluster.on()) {
            return Err(Error::OtherSession);
        }
        let position = Position {
            lsn: cluster.position(4096),
            timeline: cluster.on(),
        };
        if !cluster.standby {
            cluster.write(now);
            self.bring(&cluster.name);
        }
        Ok((position, now))
    }

    /// The archiver brings what waits: mostly at once, sometimes when nobody waits for it any more.
    fn bring(&self, name: &str) {
        let mut dice = self.process.dice(&format!("{name} archives"));
        let late = self.process.trouble() != Trouble::default() && dice.percent(10);
        let seconds = if late {
            dice.roll(20_000)
        } else {
            dice.roll(20)
        };
        let (cluster, world) = (self.cluster.clone(), self.world.clone());
        let archive = move || {
            let mut cluster = cluster.lock().expect("no panic");
            let mut dice = dice_for(world.seed, &format!("{} {}", cluster.name, cluster.segment));
            cluster.archive(&mut dice, 0, world.clock.now());
        };
        self.world.log.after(Duration::from_secs(seconds), archive);
    }
}

/// What a server sends: one archive, and the manifest of it.
fn sent(start: &BackupStart) -> VecDeque<Piece> {
    let segment = start.lsn.segment(start.timeline, size());
    let label = format!("START WAL LOCATION: {} (file {segment})\n", start.lsn);
    let files: [(&str, Vec<u8>); 4] = [
        ("backup_label", label.into_bytes()),
        ("PG_VERSION", b"18\n".to_vec()),
        ("base/5/1259", vec![7; 3000]),
        ("global/pg_control", vec![1; 8192]),
    ];
    let mut writer = Writer::new(Vec::new());
    for (name, content) in &files {
        let entry = Entry {
            name: name.as_bytes(),
            kind: EntryKind::File {
                size: content.len() as u64,
            },
            mode: 0o600,
            uid: 70,
            gid: 70,
            owner: "postgres",
            group: "postgres",
            modified: FileTime::default(),
        };
        let written = writer.append_file(&entry, &mut content.as_slice());
        written.expect("memory takes it");
    }
    let archive = writer.finish().expect("memory takes it");
    let mut pieces = VecDeque::from([Piece::Archive(Location::Data)]);
    let data = |bytes: &[u8]| Piece::Data(Bytes::copy_from_slice(bytes));
    pieces.extend(archive.chunks(4000).map(data));
    pieces.push_back(Piece::Manifest);
    pieces.push_back(data(manifest(&files).as_bytes()));
    pieces
}

fn manifest(files: &[(&str, Vec<u8>)]) -> String {
    let line = |(name, content): &(&str, Vec<u8>)| {
        let crc = crc32c::crc32c(content).swap_bytes();
        format!(
            "{{ \"Path\": \"{name}\", \"Size\": {}, \"Checksum-Algorithm\": \"CRC32C\", \
             \"Checksum\": \"{crc:08x}\" }}",
            content.len()
        )
    };
    let lines: Vec<String> = files.iter().map(line).collect();
    let text = format!("{{ \"Files\": [\n{}\n],\n", lines.join(",\n"));
    let digest = Checksum::of(Algorithm::Sha256, text.as_bytes()).to_hex();
    format!("{text}\"Manifest-Checksum\": \"{digest}\"}}\n")
}
