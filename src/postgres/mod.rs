//! The server's side: how a PostgreSQL server is reached, what it says of itself, and a backup's start and stop in it.
//!
//! [`Connector`] turns a libpq connection string into a [`Session`]; a session tells [`ServerFacts`] and can begin one
//! [`BackupSession`], which only `stop` or `abort` ends. [`locality`] proves that a directory on this machine is the server connected to.
//! Every wait has a deadline and its error names what was waited for. Nothing here decides whether a backup is wanted, and nothing here
//! knows where one is stored. PostgreSQL 13 to 18; no superuser is needed (`docs/postgresql-role.md` lists the grants).
//!
//! ```ignore
//! Connector::new(conninfo: &str, password: Option<Secret>, environment: &Environment) -> Result<Connector>
//! connector.connect().await -> Result<Session>                     // hosts in order, target_session_attrs, TLS as libpq
//! session.facts().await -> Result<ServerFacts>
//! session.archiving().await -> Result<Archiving>                   // pg_stat_archiver and archive_* settings
//! session.is_in_recovery().await, session.timeline_history(..)?
//! session.switch_wal().await -> Result<Option<Lsn>>                // None in recovery
//! session.create_restore_point(name).await -> Result<Option<Lsn>>  // None in recovery
//! session.try_lock(key: LockKey).await -> Result<LockState>        // advisory lock, held as long as the session lives
//! session.close().await
//! BackupSession::begin(session, primary: Option<Session>, &BackupRequest).await -> Result<BackupSession>
//! backup.started() -> &BackupStart
//! backup.check().await -> Result<()>                               // the session still lives, so the backup does
//! backup.stop().await -> Result<Stopped>                           // Stopped { stop: BackupStop, session, primary }
//! backup.abort().await                                             // PostgreSQL forgets the backup
//! locality::prove(pgdata: &Path, &ServerFacts) -> Result<ControlFile>
//! control_file::ControlFile::parse(&[u8]) -> Result<ControlFile>
//! ```

mod backup;
pub mod conninfo;
mod identify;

pub use backup::{BackupRequest, BackupStart, BackupStop, Checkpoint};
pub use identify::{Archiver, Archiving, Role, ServerFacts};
