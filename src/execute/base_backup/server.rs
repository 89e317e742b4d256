//! The server, as far as a base backup needs it.
//!
//! [`Postgres`] is what [`take_backup`](super::take_backup) asks of a server; [`Server`] asks a real one. The trait exists so that a
//! backup can be interrupted at every step in a test, without a server.

use std::path::Path;

use async_trait::async_trait;

use crate::{
    model::wal::Lsn,
    postgres::{
        ArchiverWait, BackupRequest, BackupSession, BackupStart, BackupStop, Connector, Error,
        ServerFacts, Session, Stopped, WalSwitch, locality,
    },
};

/// What a base backup asks of a server, in this order: facts, start, stop. One of `stop` and `abort` ends what `start` began.
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
    Stopped(Stopped),
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
                let stop = stopped.stop.clone();
                self.state = State::Stopped(stopped);
                Ok(stop)
            }
            _ => Err(Error::OtherSession),
        }
    }

    async fn restore_point(&mut self, name: &str) -> Result<Option<Lsn>, Error> {
        match &self.state {
            State::Stopped(stopped) => stopped.session.create_restore_point(name).await,
            _ => Err(Error::OtherSession),
        }
    }

    async fn switch_wal(&mut self) -> Result<WalSwitch, Error> {
        match &self.state {
            State::Stopped(stopped) => stopped.switch_wal(self.primary.as_ref()).await,
            _ => Err(Error::OtherSession),
        }
    }

    async fn close(&mut self) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => {}
            State::Open(session) => session.close().await,
            State::Started(session) => session.abort().await,
            State::Stopped(stopped) => stopped.session.close().await,
        }
    }
}
