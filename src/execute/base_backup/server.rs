//! The server, as far as a base backup needs it.
//!
//! [`Postgres`] is what [`take_backup`](super::take_backup) asks of a server; [`Server`] asks a real one. The trait exists so that a
//! backup can be interrupted at every step in a test, without a server.

use std::path::Path;

use async_trait::async_trait;

use crate::{
    model::{
        time::Timestamp,
        wal::{Lsn, SystemId},
    },
    postgres::{
        ArchiverWait, BackupRequest, BackupSession, BackupStart, BackupStop, Checkpoint, Connector,
        Error, ServerFacts, Session, WalSwitch, locality,
        replication::{
            Farewell, ManifestText, Piece, Position, SentTablespace, ServerBackup, StreamRequest,
        },
    },
};

/// A backup that a server has begun to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStart {
    /// Where it began.
    pub start: BackupStart,
    /// The archives that come, in this order.
    pub archives: Vec<SentTablespace>,
    /// Whether they end in the mark with which tar archives end.
    pub has_end_marks: bool,
}

/// Where a backup ended that a server has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEnd {
    /// The position up to which WAL is needed.
    pub position: Position,
    /// The server's clock then.
    pub time: Timestamp,
    /// What the server had to say.
    pub farewell: Farewell,
}

/// What a base backup asks of a server, in this order: facts, start, stop; or facts, stream, receive until there is nothing more, the end.
#[async_trait]
pub trait Postgres: Send {
    /// What the server says of itself.
    async fn facts(&mut self) -> Result<ServerFacts, Error>;

    /// Proves that a directory here is the server's.
    fn prove_local(&self, pgdata: &Path, facts: &ServerFacts) -> Result<(), locality::Error>;

    /// Enters backup mode.
    async fn start(&mut self, request: &BackupRequest) -> Result<BackupStart, Error>;

    /// Waits until the session of the backup is gone. For ever, if all goes well.
    async fn lost(&mut self);

    /// Leaves backup mode.
    async fn stop(&mut self, wait: ArchiverWait) -> Result<BackupStop, Error>;

    /// Has the server with this identity send a backup of itself; an incremental one with the manifest that it builds on. The answer comes
    /// when its checkpoint is made.
    async fn stream(
        &mut self,
        system: SystemId,
        request: &StreamRequest,
        parent: Option<ManifestText>,
    ) -> Result<StreamStart, Error>;

    /// The next piece of what the server sends; `None` when all has come.
    async fn receive(&mut self) -> Result<Option<Piece>, Error>;

    /// Where what was sent ended.
    async fn end_stream(&mut self) -> Result<StreamEnd, Error>;

    /// Names a point in the WAL, after the stop. `None` on a standby.
    async fn restore_point(&mut self, name: &str) -> Result<Option<Lsn>, Error>;

    /// Completes the segment in which the backup ended, after the stop.
    async fn switch_wal(&mut self) -> Result<WalSwitch, Error>;

    /// Ends whatever is open; a backup that was not stopped is forgotten.
    async fn close(&mut self);
}

/// A running server.
pub struct Server {
    connector: Connector,
    primary: Option<Connector>,
    state: State,
}

enum State {
    Closed,
    Open(Session),
    Started(BackupSession),
    Streaming(Box<ServerBackup>),
    Stopped(Session),
}

impl Server {
    /// A server, and its primary if it is a standby and somebody may switch WAL there.
    pub fn new(connector: Connector, primary: Option<Connector>) -> Self {
        Self {
            connector,
            primary,
            state: State::Closed,
        }
    }

    async fn session(&mut self) -> Result<Session, Error> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Open(session) => Ok(session),
            _ => self.connector.connect().await,
        }
    }
}

#[async_trait]
impl Postgres for Server {
    async fn facts(&mut self) -> Result<ServerFacts, Error> {
        if let State::Started(_) = self.state {
            // The session of the backup is asked for nothing but the backup.
            let session = self.connector.connect().await?;
            let facts = session.facts().await;
            session.close().await;
            return facts;
        }
        let session = self.session().await?;
        let facts = session.facts().await;
        self.state = State::Open(session);
        facts
    }

    fn prove_local(&self, pgdata: &Path, facts: &ServerFacts) -> Result<(), locality::Error> {
        locality::prove(pgdata, &facts.into()).map(|_| ())
    }

    async fn start(&mut self, request: &BackupRequest) -> Result<BackupStart, Error> {
        let session = self.session().await?;
        let session = BackupSession::begin(session, request).await?;
        let start = *session.started();
        self.state = State::Started(session);
        Ok(start)
    }

    async fn lost(&mut self) {
        match &mut self.state {
            State::Started(session) => session.lost().await,
            _ => std::future::pending().await,
        }
    }

    async fn stop(&mut self, wait: ArchiverWait) -> Result<BackupStop, Error> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Started(session) => {
                let stopped = session.stop(wait).await?;
                self.state = State::Stopped(stopped.session);
                Ok(stopped.stop)
            }
            _ => Err(Error::OtherSession),
        }
    }

    async fn stream(
        &mut self,
        system: SystemId,
        request: &StreamRequest,
        parent: Option<ManifestText>,
    ) -> Result<StreamStart, Error> {
        let session = self.session().await?;
        // Whichever of several servers answered: the same one must send.
        let there = self.connector.clone().beside(&session);
        let mut sending = there.replicate().await?;
        let identity = sending.identify().await?;
        if identity.system_id != system {
            return Err(Error::Answer {
                doing: "identify the system",
                answer: identity.system_id.to_string(),
            });
        }
        if let Some(manifest) = parent {
            sending.upload_manifest(manifest).await?;
        }
        let patience = match request.checkpoint {
            Checkpoint::Fast => std::time::Duration::ZERO,
            Checkpoint::Spread => session.checkpoint_patience().await?,
        };
        let backup = sending.base_backup(request, patience).await?;
        let Position { lsn, timeline } = backup.start();
        let start = StreamStart {
            start: BackupStart {
                lsn,
                timeline,
                time: session.clock().await?,
            },
            archives: backup.tablespaces().to_vec(),
            has_end_marks: backup.has_end_marks(),
        };
        session.close().await;
        self.connector = there;
        self.state = State::Streaming(Box::new(backup));
        Ok(start)
    }

    async fn receive(&mut self) -> Result<Option<Piece>, Error> {
        match &mut self.state {
            State::Streaming(backup) => backup.next().await,
            _ => Err(Error::OtherSession),
        }
    }

    async fn end_stream(&mut self) -> Result<StreamEnd, Error> {
        let State::Streaming(backup) = std::mem::replace(&mut self.state, State::Closed) else {
            return Err(Error::OtherSession);
        };
        let (position, farewell) = backup.finish().await?;
        let session = self.connector.connect().await?;
        let time = session.clock().await?;
        self.state = State::Stopped(session);
        Ok(StreamEnd {
            position,
            time,
            farewell,
        })
    }

    async fn restore_point(&mut self, name: &str) -> Result<Option<Lsn>, Error> {
        match &self.state {
            State::Stopped(session) => session.create_restore_point(name).await,
            _ => Err(Error::OtherSession),
        }
    }

    async fn switch_wal(&mut self) -> Result<WalSwitch, Error> {
        match &self.state {
            State::Stopped(session) => session.complete_segment(self.primary.as_ref()).await,
            _ => Err(Error::OtherSession),
        }
    }

    async fn close(&mut self) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => {}
            State::Open(session) | State::Stopped(session) => session.close().await,
            State::Started(session) => session.abort().await,
            // What the server was about to send fills its socket; only a hard end stops it.
            State::Streaming(backup) => drop(backup),
        }
    }
}
