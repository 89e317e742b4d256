//! A server that only pretends.

use super::{
    stream::{Sending, Sends},
    *,
};

/// At which step something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Start,
    Stop,
}

#[derive(Clone)]
pub(super) struct Fake {
    pub(super) facts: ServerFacts,
    pub(super) fails: Option<At>,
    pub(super) cancels: Option<(At, CancellationToken)>,
    pub(super) lost: bool,
    pub(super) sends: Sending,
    /// What was asked, in order.
    pub(super) asked: Arc<Mutex<Vec<&'static str>>>,
}

impl Fake {
    pub(super) fn new(home: &Path) -> Self {
        let now = instant("2026-11-20T03:00:00Z");
        let facts = ServerFacts {
            system_id: SystemId(7),
            version: 180_001,
            segment_size: SegmentSize::DEFAULT,
            role: Role::Primary,
            timeline: TimelineId::FIRST,
            position: Lsn(0x0300_0028),
            data_directory: home.join("data"),
            port: 5432,
            config_file: Some(home.join("data/postgresql.conf")),
            hba_file: None,
            ident_file: None,
            included_files: Vec::new(),
            tablespaces: vec![Tablespace {
                name: "space".to_owned(),
                oid: 16399,
                location: home.join("ts"),
            }],
            data_checksums: false,
            summarize_wal: Some(false),
            summarized_from: None,
            cluster_size: Some(30_000),
            archiving: Archiving {
                mode: "on".to_owned(),
                command: None,
                library: None,
                archiver: Archiver::default(),
                oldest_ready: None,
            },
            started_at: now,
            now,
        };
        Self {
            facts,
            fails: None,
            cancels: None,
            lost: false,
            sends: Sending::default(),
            asked: Arc::default(),
        }
    }

    fn step(&self, at: At, name: &'static str) -> Result<(), postgres::Error> {
        self.asked.lock().expect("no panic").push(name);
        if let Some((when, cancel)) = &self.cancels
            && *when == at
        {
            cancel.cancel();
        }
        if self.fails == Some(at) {
            return Err(postgres::Error::OtherSession);
        }
        Ok(())
    }
}

#[async_trait]
impl Postgres for Fake {
    async fn facts(&mut self) -> Result<ServerFacts, postgres::Error> {
        Ok(self.facts.clone())
    }

    fn prove_local(&self, _: &Path, _: &ServerFacts) -> Result<(), locality::Error> {
        Ok(())
    }

    async fn start(&mut self, _: &postgres::BackupRequest) -> Result<BackupStart, postgres::Error> {
        self.step(At::Start, "start")?;
        Ok(BackupStart {
            lsn: Lsn(0x0300_0028),
            timeline: TimelineId::FIRST,
            time: self.facts.now,
        })
    }

    async fn lost(&mut self) {
        if !self.lost {
            std::future::pending::<()>().await;
        }
    }

    async fn stop(&mut self, wait: ArchiverWait) -> Result<BackupStop, postgres::Error> {
        let name = match wait {
            ArchiverWait::No => "stop",
            ArchiverWait::Yes => "stop, waiting",
        };
        self.step(At::Stop, name)?;
        Ok(BackupStop {
            lsn: Lsn(0x0300_0100),
            timeline: TimelineId::FIRST,
            time: self.facts.now,
            backup_label: "START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\n"
                .to_owned(),
            tablespace_map: Some("16399 /ts\n".to_owned()),
        })
    }

    async fn stream(
        &mut self,
        system: SystemId,
        _: &StreamRequest,
        _: Option<ManifestText>,
    ) -> Result<StreamStart, postgres::Error> {
        self.step(At::Start, "stream")?;
        assert_eq!(system, self.facts.system_id);
        Ok(StreamStart {
            start: BackupStart {
                lsn: self.facts.position,
                timeline: self.facts.timeline,
                time: self.facts.now,
            },
            archives: Vec::new(),
            has_end_marks: self.sends.has_end_marks,
        })
    }

    async fn receive(&mut self) -> Result<Option<Piece>, postgres::Error> {
        match self.sends.pieces.pop_front() {
            Some(Sends::Piece(piece)) => Ok(Some(piece)),
            Some(Sends::Silence) => std::future::pending().await,
            Some(Sends::Failure) => Err(postgres::Error::OtherSession),
            None => Ok(None),
        }
    }

    async fn end_stream(&mut self) -> Result<StreamEnd, postgres::Error> {
        self.step(At::Stop, "end")?;
        Ok(StreamEnd {
            position: Position {
                lsn: Lsn(self.facts.position.0 + 256),
                timeline: self.facts.timeline,
            },
            time: self.facts.now,
            farewell: Farewell::default(),
        })
    }

    async fn restore_point(&mut self, _: &str) -> Result<Option<Lsn>, postgres::Error> {
        Ok(None)
    }

    async fn switch_wal(&mut self) -> Result<WalSwitch, postgres::Error> {
        Ok(WalSwitch::NoPrimary)
    }

    async fn close(&mut self) {
        self.asked.lock().expect("no panic").push("close");
    }
}
