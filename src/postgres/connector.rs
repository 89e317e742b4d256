//! Finding the server and logging in.
//!
//! [`Connector::connect`] tries the endpoints in order as libpq does: the next one when a place cannot be reached, is starting up or is
//! not what `target_session_attrs` asks for; the end when it refuses the user or cannot prove who it is. Under `sslmode=prefer` a failed
//! handshake, or a refusal after it, is followed by an attempt in the clear, under `allow` a refusal by an encrypted one; no other mode
//! falls back. [`Connector::replicate`] does the same for a session that speaks the replication protocol.

mod sql;

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustls::ClientConfig;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    Cause, Error,
    conninfo::{Address, Endpoint, Environment, HostOrder, SessionAttributes, SslMode, Target},
    grants,
    replication::Replication,
    session::{Deadlines, Session},
    tls,
};
use crate::{failure::chain, secret::Secret};

/// Knows how to reach a server.
#[derive(Clone)]
pub struct Connector {
    target: Target,
    tls: Option<Tls>,
    deadlines: Deadlines,
}

/// How sessions are encrypted: the same settings, for `tokio-postgres` and for ourselves.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) make: MakeRustlsConnect,
    pub(super) config: Arc<ClientConfig>,
}

impl Connector {
    /// Works out a connection string; reads the files that it names, contacts nobody.
    ///
    /// A password given here counts before one in the string, the environment or the password file.
    pub fn new(
        conninfo: &str,
        password: Option<&Secret>,
        environment: &Environment,
    ) -> Result<Self, Error> {
        let target = Target::resolve(conninfo, password, environment)?;
        let tls = match target.tls.mode {
            SslMode::Disable => None,
            _ => {
                let config = tls::client_config(&target.tls)?;
                Some(Tls {
                    make: MakeRustlsConnect::new(config.clone()),
                    config: Arc::new(config),
                })
            }
        };
        Ok(Self {
            target,
            tls,
            deadlines: Deadlines::default(),
        })
    }

    /// The same with other deadlines.
    #[must_use]
    pub fn with_deadlines(mut self, deadlines: Deadlines) -> Self {
        self.deadlines = deadlines;
        self
    }

    /// The same for nothing but the endpoint of a session, so that a second session reaches the same server.
    #[must_use]
    pub fn beside(mut self, session: &Session) -> Self {
        let is_there = |endpoint: &Endpoint| endpoint.to_string() == session.endpoint();
        self.target.endpoints.retain(is_there);
        self
    }

    /// One for each endpoint, whatever kind of server is there.
    pub fn each(&self) -> impl Iterator<Item = Self> + '_ {
        self.target.endpoints.iter().map(|endpoint| {
            let mut one = self.clone();
            one.target.endpoints = vec![endpoint.clone()];
            one.target.session_attributes = SessionAttributes::Any;
            one
        })
    }

    /// What the connection string came to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Opens a session at the first endpoint that will do.
    pub async fn connect(&self) -> Result<Session, Error> {
        self.open().await
    }

    /// Opens a session for replication at the first endpoint that will do.
    pub async fn replicate(&self) -> Result<Replication, Error> {
        self.open().await
    }

    async fn open<S: Opened>(&self) -> Result<S, Error> {
        let endpoints = self.in_order();
        let mut failures = Vec::new();
        for wanted in passes(self.target.session_attributes) {
            for endpoint in &endpoints {
                match self.open_to::<S>(endpoint, *wanted).await {
                    Ok(session) => return Ok(session),
                    Err(error) if is_final(&error) => return Err(error),
                    Err(error) => failures.push(error),
                }
            }
        }
        if failures.len() > 1 {
            let shown = failures.iter().map(|error| chain(error));
            return Err(Error::Nowhere(shown.collect()));
        }
        Err(failures.pop().expect("a target has an endpoint"))
    }

    fn in_order(&self) -> Vec<&Endpoint> {
        let mut endpoints: Vec<&Endpoint> = self.target.endpoints.iter().collect();
        if self.target.host_order == HostOrder::Random {
            // The standard library's hasher is seeded at random, which is all that is needed here.
            let random = RandomState::new();
            endpoints.sort_by_cached_key(|endpoint| random.hash_one(endpoint.to_string()));
        }
        endpoints
    }

    async fn open_to<S: Opened>(
        &self,
        endpoint: &Endpoint,
        wanted: SessionAttributes,
    ) -> Result<S, Error> {
        let mut failure = None;
        for place in places(endpoint).await? {
            match self.open_at::<S>(endpoint, place).await {
                Ok(session) => return session.prepare(wanted).await,
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| Error::LookUp {
            host: endpoint.to_string(),
            source: std::io::Error::other("no address"),
        }))
    }

    /// Tries one address, with and without encryption as the mode allows.
    async fn open_at<S: Opened>(&self, endpoint: &Endpoint, place: Place) -> Result<S, Error> {
        let (first, second) = match (self.target.tls.mode, &place) {
            (SslMode::Disable, _) | (_, Place::Socket(_)) => (Attempt::Plain, None),
            (SslMode::Allow, _) => (Attempt::Plain, Some(Attempt::Encrypted)),
            (SslMode::Prefer, _) => (Attempt::EncryptedIfOffered, Some(Attempt::Plain)),
            _ => (Attempt::Encrypted, None),
        };
        match (self.attempt(endpoint, &place, first).await, second) {
            (Err(failed), Some(second)) if failed.may_fall_back => {
                let again = self.attempt(endpoint, &place, second).await;
                // Where neither works, the first failure says more about what was wanted.
                again.map_err(|_| failed.error)
            }
            (result, _) => result.map_err(|failed| failed.error),
        }
    }

    async fn attempt<S: Opened>(
        &self,
        endpoint: &Endpoint,
        place: &Place,
        attempt: Attempt,
    ) -> Result<S, FailedAttempt> {
        let limit = self.target.connect_timeout;
        let limit = limit.unwrap_or(self.deadlines.connect);
        let handshake = Arc::new(AtomicBool::new(false));
        let call = Call {
            target: &self.target,
            tls: self.tls.as_ref().filter(|_| attempt != Attempt::Plain),
            deadlines: self.deadlines,
            endpoint,
            place,
            attempt,
            handshake: &handshake,
        };
        let opened = timeout(limit, S::open(&call)).await;
        let cause = match opened {
            Ok(Ok(session)) => return Ok(session),
            Ok(Err(cause)) => cause,
            Err(_) => Cause::Timeout(limit),
        };
        let refused = matches!(cause, Cause::Server { .. });
        Err(FailedAttempt {
            may_fall_back: match attempt {
                Attempt::Plain => refused,
                Attempt::EncryptedIfOffered => handshake.load(Ordering::Relaxed),
                Attempt::Encrypted => false,
            },
            error: Error::Connect {
                endpoint: endpoint.to_string(),
                hint: self.hint(&cause),
                source: cause,
            },
        })
    }

    fn hint(&self, cause: &Cause) -> Option<String> {
        let passed_over = self.target.passed_over.as_ref().map(ToString::to_string);
        match cause {
            Cause::Server { .. } if cause.is(&SqlState::INVALID_CATALOG_NAME) => {
                Some("name an existing database with `dbname`".to_owned())
            }
            // Without a password at hand the client gives up before the server does.
            _ if cause.is_missing_password() => {
                let password = "the server asks for a password and none was found";
                Some(passed_over.unwrap_or_else(|| password.to_owned()))
            }
            // The only privilege that logging in may lack.
            Cause::Server { .. } if cause.is(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                Some(grants::replication(&self.target.user))
            }
            Cause::Server { .. } => passed_over,
            _ => None,
        }
    }
}

/// What a connector opens: a session of one kind or the other.
pub(super) trait Opened: Sized {
    /// Connects and logs in.
    async fn open(call: &Call<'_>) -> Result<Self, Cause>;

    /// Sets a fresh session up, and checks that it is of the kind wanted.
    async fn prepare(self, wanted: SessionAttributes) -> Result<Self, Error>;
}

/// One attempt to log in at one address.
pub(super) struct Call<'a> {
    pub(super) target: &'a Target,
    /// How to encrypt; none when that is not to be tried.
    pub(super) tls: Option<&'a Tls>,
    pub(super) deadlines: Deadlines,
    pub(super) endpoint: &'a Endpoint,
    pub(super) place: &'a Place,
    pub(super) attempt: Attempt,
    /// Set when a handshake is begun, which tells a refusal of TLS from a failure to connect.
    pub(super) handshake: &'a Arc<AtomicBool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Plain,
    EncryptedIfOffered,
    Encrypted,
}

struct FailedAttempt {
    may_fall_back: bool,
    error: Error,
}

/// One address of an endpoint.
pub(super) enum Place {
    Socket(PathBuf),
    Tcp { name: String, address: IpAddr },
}

async fn places(endpoint: &Endpoint) -> Result<Vec<Place>, Error> {
    let name = match &endpoint.address {
        Address::Socket(directory) => return Ok(vec![Place::Socket(directory.clone())]),
        Address::Numeric { address, name } => {
            let name = name.clone().unwrap_or_else(|| address.to_string());
            let address = *address;
            return Ok(vec![Place::Tcp { name, address }]);
        }
        Address::Name(name) => name,
    };
    let found = tokio::net::lookup_host((name.as_str(), endpoint.port)).await;
    let found = found.map_err(|source| Error::LookUp {
        host: name.clone(),
        source,
    })?;
    let at = |address: std::net::SocketAddr| Place::Tcp {
        name: name.clone(),
        address: address.ip(),
    };
    Ok(found.map(at).collect())
}

/// What to ask for, in each round over the endpoints.
fn passes(wanted: SessionAttributes) -> &'static [SessionAttributes] {
    match wanted {
        SessionAttributes::Any => &[SessionAttributes::Any],
        SessionAttributes::ReadWrite => &[SessionAttributes::ReadWrite],
        SessionAttributes::ReadOnly => &[SessionAttributes::ReadOnly],
        SessionAttributes::Primary => &[SessionAttributes::Primary],
        SessionAttributes::Standby => &[SessionAttributes::Standby],
        SessionAttributes::PreferStandby => &[SessionAttributes::Standby, SessionAttributes::Any],
    }
}

/// Whether other endpoints are not to be tried any more: somebody answered, and the answer was no.
fn is_final(error: &Error) -> bool {
    match error {
        Error::LookUp { .. } | Error::Unsuited { .. } => false,
        Error::Connect { source, .. } => match source {
            Cause::Server { .. } => !source.is(&SqlState::CANNOT_CONNECT_NOW),
            Cause::Timeout(_) | Cause::Socket(_) => false,
            // A refused connection is nobody's answer; a failed handshake or authentication is.
            Cause::Connection(error) => !error.to_string().starts_with("error connecting"),
            Cause::Broken(_) | Cause::LogIn(_) => true,
        },
        _ => true,
    }
}
