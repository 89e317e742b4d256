//! The server's side: how a PostgreSQL server is reached, what it says of itself, and a backup's start and stop in it.
//!
//! [`Connector`] turns a libpq connection string into a [`Session`]; a session tells [`ServerFacts`] and can begin one
//! [`BackupSession`], which only `stop` or `abort` ends. [`locality`] proves that a directory on this machine is the server connected to.
//! Every wait has a deadline and its error names what was waited for. Nothing here decides whether a backup is wanted, and nothing here
//! knows where one is stored. PostgreSQL 13 to 18; no superuser is needed (`docs/postgresql-role.md` lists the grants).

mod backup;
mod certificate;
mod connector;
pub mod conninfo;
pub mod control_file;
mod error;
pub mod grants;
mod identify;
pub mod locality;
mod lock;
pub mod replication;
mod sending;
mod session;
mod slot;
mod tls;

pub use self::{
    backup::{
        ArchiverWait, BackupRequest, BackupSession, BackupStart, BackupStop, Checkpoint, Stopped,
        WalSwitch,
    },
    connector::Connector,
    conninfo::Environment,
    error::{Cause, Error},
    identify::{Archiver, Archiving, Role, ServerFacts},
    lock::{HeldLock, LockKey},
    sending::{Places, Sending, SlotKind},
    session::{Deadlines, Session},
    tls::Error as TlsError,
};
