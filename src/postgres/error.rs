//! What can go wrong with a server, and what its operator can do about it.

use std::{io, time::Duration};

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::ErrorFields;
use tokio_postgres::error::{DbError, SqlState};

use super::{conninfo, grants, tls};
use crate::{
    failure::{Disposition, Kind, chain},
    model::time::Span,
};

/// Why a server could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection string cannot be used.
    #[error(transparent)]
    Conninfo(#[from] conninfo::Error),
    /// The session cannot be encrypted as asked.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// A host's name has no address.
    #[error("cannot look up the host `{host}`")]
    LookUp {
        /// The host.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The server cannot be reached or does not let the user in.
    #[error("cannot connect to `{endpoint}`")]
    Connect {
        /// Where.
        endpoint: String,
        /// What may help.
        hint: Option<String>,
        /// Why.
        source: Cause,
    },
    /// The server is not of the kind that `target_session_attrs` asks for.
    #[error("`{endpoint}` is {is}, but the connection asks for {wanted}")]
    Unsuited {
        /// Where.
        endpoint: String,
        /// What it is.
        is: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// No endpoint of several can be used.
    #[error("none of the {} endpoints can be used: {}", .0.len(), .0.join("; "))]
    Nowhere(Vec<String>),
    /// The server is older or newer than what is supported.
    #[error("PostgreSQL {0} is not supported; 13 and later are")]
    Version(u32),
    /// The server refused a request, or the session broke while it was made.
    #[error("cannot {doing}")]
    Request {
        /// What was wanted.
        doing: &'static str,
        /// Who wanted it.
        user: String,
        /// Why.
        source: Cause,
    },
    /// An answer took too long. Whether the request had an effect is not known.
    #[error("PostgreSQL did not {doing} within {}", Span(*.limit))]
    Deadline {
        /// What was waited for.
        doing: &'static str,
        /// How long.
        limit: Duration,
    },
    /// The server answered with something that cannot be.
    #[error("cannot {doing}: PostgreSQL answered `{answer}`")]
    Answer {
        /// What was wanted.
        doing: &'static str,
        /// What came back.
        answer: String,
    },
    /// The session is no longer the one in which the backup was started.
    #[error(
        "the backup's session is now another one; connect to PostgreSQL directly, not through a \
         pooler"
    )]
    OtherSession,
    /// A server in recovery cannot do this.
    #[error("cannot {doing}: the server is in recovery")]
    InRecovery {
        /// What was wanted.
        doing: &'static str,
    },
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The server said no.
    #[error("{message} (SQLSTATE {sqlstate}){detail}")]
    Server {
        /// The five characters of its error code.
        sqlstate: String,
        /// Its message.
        message: String,
        /// Its detail and hint, each after `; `, if any.
        detail: String,
    },
    /// The connection failed.
    #[error(transparent)]
    Connection(tokio_postgres::Error),
    /// The connection was not made in time.
    #[error("no answer within {}", Span(*.0))]
    Timeout(Duration),
    /// Nobody answers at the address.
    #[error("error connecting to server")]
    Socket(#[source] io::Error),
    /// The connection broke, or what came over it cannot be understood.
    #[error("error communicating with the server")]
    Broken(#[source] io::Error),
    /// The server asks for a proof that cannot be given.
    #[error("{0}")]
    LogIn(&'static str),
}

/// What is said when the server asks for a password and there is none.
pub(super) const PASSWORD_MISSING: &str = "password missing";

impl From<ErrorFields<'_>> for Cause {
    fn from(mut fields: ErrorFields<'_>) -> Self {
        let (mut sqlstate, mut message, mut more) = (String::new(), String::new(), String::new());
        // A field that cannot be read ends the list; what was read until then is shown.
        while let Ok(Some(field)) = fields.next() {
            let value = String::from_utf8_lossy(field.value_bytes());
            match field.type_() {
                b'C' => sqlstate = value.into_owned(),
                b'M' => message = value.into_owned(),
                b'D' | b'H' => {
                    more.push_str("; ");
                    more.push_str(&value);
                }
                _ => {}
            }
        }
        Self::Server {
            sqlstate,
            message,
            detail: more,
        }
    }
}

impl From<tokio_postgres::Error> for Cause {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(server) => Self::Server {
                sqlstate: server.code().code().to_owned(),
                message: server.message().to_owned(),
                detail: detail(server),
            },
            None => Self::Connection(error),
        }
    }
}

fn detail(error: &DbError) -> String {
    let mut text = String::new();
    for part in [error.detail(), error.hint()].into_iter().flatten() {
        text.push_str("; ");
        text.push_str(part);
    }
    text
}

impl Cause {
    fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Server { sqlstate, .. } => Some(sqlstate),
            _ => None,
        }
    }

    pub(super) fn is(&self, state: &SqlState) -> bool {
        self.sqlstate() == Some(state.code())
    }

    pub(super) fn is_missing_password(&self) -> bool {
        match self {
            Self::Connection(error) => chain(error).contains(PASSWORD_MISSING),
            Self::LogIn(why) => *why == PASSWORD_MISSING,
            _ => false,
        }
    }
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Conninfo(_) | Self::Tls(_) => Kind::Usage,
            Self::Request {
                source: Cause::Server { .. },
                ..
            }
            | Self::Version(_)
            | Self::Answer { .. }
            | Self::OtherSession
            | Self::InRecovery { .. } => Kind::Failed,
            Self::LookUp { .. }
            | Self::Connect { .. }
            | Self::Nowhere(_)
            | Self::Unsuited { .. }
            | Self::Deadline { .. }
            | Self::Request { .. } => Kind::Unreachable,
        }
    }

    /// Whether trying again can help.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Conninfo(_) | Self::Tls(_) | Self::Version(_) | Self::OtherSession => {
                Disposition::Permanent
            }
            Self::LookUp { .. }
            | Self::Unsuited { .. }
            | Self::Nowhere(_)
            | Self::InRecovery { .. } => Disposition::Transient,
            Self::Deadline { .. } | Self::Answer { .. } => Disposition::Unknown,
            Self::Connect { source, .. } => match source.sqlstate() {
                Some(state) => of_class(state),
                None => Disposition::Transient,
            },
            Self::Request { source, .. } => match source.sqlstate() {
                Some(state) => of_class(state),
                None => Disposition::Unknown,
            },
        }
    }

    /// What its operator can do about it, in one line.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Connect { hint, .. } => hint.clone(),
            Self::Request {
                source: Cause::Server {
                    sqlstate, message, ..
                },
                user,
                ..
            } if sqlstate == SqlState::INSUFFICIENT_PRIVILEGE.code() => {
                Some(grants::hint(message, user))
            }
            _ => None,
        }
    }

    /// Whether the server has understood a request and does not do it.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Request {
                source: Cause::Server { .. },
                ..
            }
        )
    }

    /// Whether the server has removed a file that was asked for.
    pub fn is_removed(&self) -> bool {
        self.is_state(&SqlState::UNDEFINED_FILE)
    }

    /// Whether what is to be made is there already.
    pub fn is_duplicate(&self) -> bool {
        self.is_state(&SqlState::DUPLICATE_OBJECT)
    }

    /// Whether somebody else uses what was asked for.
    pub fn is_in_use(&self) -> bool {
        self.is_state(&SqlState::OBJECT_IN_USE)
    }

    fn is_state(&self, state: &SqlState) -> bool {
        matches!(self, Self::Request { source, .. } if source.is(state))
    }

    pub(super) fn is_insufficient_privilege(&self) -> bool {
        self.is_state(&SqlState::INSUFFICIENT_PRIVILEGE)
    }
}

/// Source: PostgreSQL's appendix of error codes. 08 connection, 40 rollback, 53 resources, 57 intervention, 58 system.
fn of_class(sqlstate: &str) -> Disposition {
    match sqlstate.get(..2) {
        Some("08" | "40" | "53" | "57" | "58") => Disposition::Transient,
        _ => Disposition::Permanent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_grant_is_named() {
        let error = Error::Request {
            doing: "start the backup",
            user: "barkeep".to_owned(),
            source: Cause::Server {
                sqlstate: "42501".to_owned(),
                message: "permission denied for function pg_backup_start".to_owned(),
                detail: String::new(),
            },
        };
        assert_eq!(
            error.hint().as_deref(),
            Some("GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean) TO barkeep")
        );
        assert_eq!(error.disposition(), Disposition::Permanent);
        assert_eq!(
            crate::failure::chain(&error),
            "cannot start the backup: permission denied for function pg_backup_start \
             (SQLSTATE 42501)"
        );
    }
}
