//! Finding the server and logging in.
//!
//! [`Connector::connect`] tries the endpoints in order as libpq does: the next one when a place cannot be reached, is starting up or is
//! not what `target_session_attrs` asks for; the end when it refuses the user or cannot prove who it is. Under `sslmode=prefer` a failed
//! handshake, or a refusal after it, is followed by an attempt in the clear, under `allow` a refusal by an encrypted one; no other mode
//! falls back.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::time::timeout;
use tokio_postgres::{
    Config, NoTls, Socket,
    error::SqlState,
    tls::{MakeTlsConnect, TlsConnect},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    Cause, Error,
    conninfo::{
        Address, ChannelBinding, Endpoint, Environment, HostOrder, SessionAttributes, SslMode,
        SslNegotiation, Target,
    },
    session::{Deadlines, Session, Wire},
    tls,
};
use crate::{failure::chain, secret::Secret};

/// Knows how to reach a server.
#[derive(Clone)]
pub struct Connector {
    target: Target,
    tls: Option<MakeRustlsConnect>,
    deadlines: Deadlines,
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
            _ => Some(MakeRustlsConnect::new(tls::client_config(&target.tls)?)),
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

    /// What the connection string came to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Opens a session at the first endpoint that will do.
    pub async fn connect(&self) -> Result<Session, Error> {
        let endpoints = self.in_order();
        let mut failures = Vec::new();
        for wanted in passes(self.target.session_attributes) {
            for endpoint in &endpoints {
                match self.connect_to(endpoint, *wanted).await {
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

    async fn connect_to(
        &self,
        endpoint: &Endpoint,
        wanted: SessionAttributes,
    ) -> Result<Session, Error> {
        let mut failure = None;
        for place in places(endpoint).await? {
            match self.connect_at(endpoint, place).await {
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
    async fn connect_at(&self, endpoint: &Endpoint, place: Place) -> Result<Session, Error> {
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

    async fn attempt(
        &self,
        endpoint: &Endpoint,
        place: &Place,
        attempt: Attempt,
    ) -> Result<Session, FailedAttempt> {
        let config = self.config(endpoint, place, attempt);
        let limit = self.target.connect_timeout;
        let limit = limit.unwrap_or(self.deadlines.connect);
        let handshake = Arc::new(AtomicBool::new(false));
        let connected = match (&self.tls, attempt) {
            (Some(tls), Attempt::Encrypted | Attempt::EncryptedIfOffered) => {
                let tls = Noting {
                    inner: tls.clone(),
                    begun: Arc::clone(&handshake),
                };
                timeout(limit, Wire::open(&config, tls)).await
            }
            _ => timeout(limit, Wire::open(&config, NoTls)).await,
        };
        let begun = handshake.load(Ordering::Relaxed);
        let cause = match connected {
            Ok(Ok(wire)) => {
                let tls = self.tls.clone().filter(|_| begun);
                let user = &self.target.user;
                return Ok(Session::over(wire, tls, self.deadlines, endpoint, user));
            }
            Ok(Err(error)) => Cause::from(error),
            Err(_) => Cause::Timeout(limit),
        };
        let refused = matches!(cause, Cause::Server { .. });
        Err(FailedAttempt {
            may_fall_back: match attempt {
                Attempt::Plain => refused,
                Attempt::EncryptedIfOffered => begun,
                Attempt::Encrypted => false,
            },
            error: Error::Connect {
                endpoint: endpoint.to_string(),
                hint: self.hint(&cause),
                source: cause,
            },
        })
    }

    fn config(&self, endpoint: &Endpoint, place: &Place, attempt: Attempt) -> Config {
        let target = &self.target;
        let mut config = Config::new();
        config
            .user(&target.user)
            .dbname(&target.database)
            .application_name(&target.application_name)
            .port(endpoint.port)
            .channel_binding(match target.channel_binding {
                ChannelBinding::Disable => tokio_postgres::config::ChannelBinding::Disable,
                ChannelBinding::Prefer => tokio_postgres::config::ChannelBinding::Prefer,
                ChannelBinding::Require => tokio_postgres::config::ChannelBinding::Require,
            })
            .ssl_mode(match attempt {
                Attempt::Plain => tokio_postgres::config::SslMode::Disable,
                Attempt::EncryptedIfOffered => tokio_postgres::config::SslMode::Prefer,
                Attempt::Encrypted => tokio_postgres::config::SslMode::Require,
            });
        if target.tls.negotiation == SslNegotiation::Direct && attempt == Attempt::Encrypted {
            config.ssl_negotiation(tokio_postgres::config::SslNegotiation::Direct);
        }
        match place {
            Place::Socket(directory) => config.host_path(directory),
            Place::Tcp { name, address } => config.host(name).hostaddr(*address),
        };
        if let Some(options) = &target.options {
            config.options(options);
        }
        if let Some(password) = &endpoint.password {
            config.password(password.expose());
        }
        self.keep_alive(&mut config);
        config
    }

    fn keep_alive(&self, config: &mut Config) {
        let wanted = &self.target.keepalives;
        config.keepalives(wanted.enabled);
        if let Some(idle) = wanted.idle {
            config.keepalives_idle(idle);
        }
        if let Some(interval) = wanted.interval {
            config.keepalives_interval(interval);
        }
        if let Some(count) = wanted.count {
            config.keepalives_retries(count);
        }
        if let Some(limit) = wanted.user_timeout {
            config.tcp_user_timeout(limit);
        }
    }

    fn hint(&self, cause: &Cause) -> Option<String> {
        let passed_over = self.target.passed_over.as_ref().map(ToString::to_string);
        match cause {
            Cause::Server { .. } if cause.is(&SqlState::INVALID_CATALOG_NAME) => {
                Some("name an existing database with `dbname`".to_owned())
            }
            // Without a password at hand the library fails before the server does.
            Cause::Connection(error) if chain(error).contains("password missing") => {
                let password = "the server asks for a password and none was found";
                Some(passed_over.unwrap_or_else(|| password.to_owned()))
            }
            Cause::Server { .. } => passed_over,
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    Plain,
    EncryptedIfOffered,
    Encrypted,
}

struct FailedAttempt {
    may_fall_back: bool,
    error: Error,
}

/// One address of an endpoint.
enum Place {
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
            Cause::Timeout(_) => false,
            // A refused connection is nobody's answer; a failed handshake or authentication is.
            Cause::Connection(error) => !error.to_string().starts_with("error connecting"),
        },
        _ => true,
    }
}

/// A TLS connector that notes whether a handshake was begun, which tells a refusal of TLS from a failure to connect.
struct Noting<T> {
    inner: T,
    begun: Arc<AtomicBool>,
}

impl<T: MakeTlsConnect<Socket>> MakeTlsConnect<Socket> for Noting<T> {
    type Stream = T::Stream;
    type TlsConnect = Noting<T::TlsConnect>;
    type Error = T::Error;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Self::TlsConnect, Self::Error> {
        Ok(Noting {
            inner: self.inner.make_tls_connect(domain)?,
            begun: Arc::clone(&self.begun),
        })
    }
}

impl<T: TlsConnect<Socket>> TlsConnect<Socket> for Noting<T> {
    type Stream = T::Stream;
    type Error = T::Error;
    type Future = T::Future;

    fn connect(self, stream: Socket) -> Self::Future {
        self.begun.store(true, Ordering::Relaxed);
        self.inner.connect(stream)
    }
}
