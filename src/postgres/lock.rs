//! A lock in PostgreSQL, for destinations whose store cannot keep two writers apart.
//!
//! It is an advisory lock of the session, so it ends with the session whatever happens. It says nothing about other databases of the same
//! server: whoever relies on it must always connect to the same one. The lock counts on a primary only.

use sha2::{Digest, Sha256};

use super::{Error, identify::Answer, session::Session};

/// What a lock is for, as PostgreSQL's 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockKey(i64);

impl LockKey {
    /// The key that stands for a text. The same text has the same key in every version of this program.
    pub fn of(text: &str) -> Self {
        let digest = Sha256::digest(format!("barkeep lock {text}"));
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest[..8]);
        Self(i64::from_be_bytes(bytes))
    }
}

/// A lock that is held. It is let go with [`release`](Self::release), or when dropped.
#[derive(Debug)]
pub struct HeldLock {
    session: Session,
    key: LockKey,
}

const DOING: &str = "take the lock of the single writer";

impl HeldLock {
    /// Takes a lock over a session of its own; `None` if somebody else holds it.
    pub async fn take(session: Session, key: LockKey) -> Result<Option<Self>, Error> {
        if session.is_in_recovery().await? {
            return Err(Error::InRecovery { doing: DOING });
        }
        let row = session
            .row(DOING, "SELECT pg_try_advisory_lock($1)", &[&key.0])
            .await?;
        if (Answer {
            row: &row,
            doing: DOING,
        })
        .get(0)?
        {
            Ok(Some(Self { session, key }))
        } else {
            session.close().await;
            Ok(None)
        }
    }

    /// Whether the lock is still held, asked of the server.
    pub async fn is_held(&self) -> Result<bool, Error> {
        const DOING: &str = "tell whether the lock is held";
        // The two halves of the key, as `pg_locks` shows them.
        let sql = "SELECT NOT pg_is_in_recovery() AND EXISTS (SELECT FROM pg_locks \
            WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted AND objsubid = 1 \
            AND classid::bigint = ($1::bigint >> 32) & 4294967295 \
            AND objid::bigint = $1::bigint & 4294967295)";
        let row = self.session.row(DOING, sql, &[&self.key.0]).await?;
        (Answer {
            row: &row,
            doing: DOING,
        })
        .get(0)
    }

    /// Lets the lock go, by ending its session.
    pub async fn release(self) {
        self.session.close().await;
    }
}
