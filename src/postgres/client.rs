//! Connecting, and a session that owns its connection.
//!
//! [`Connector::connect`] tries the endpoints in order as libpq does: the next one when a place cannot be reached, is starting up or is
//! not what `target_session_attrs` asks for; the end when it refuses the user or cannot prove who it is. A [`Session`] holds the task that moves
//! its bytes and ends it with itself. Every request has a deadline whose error names what was waited for; at the deadline the
//! server is asked to cancel.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::timeout};
use tokio_postgres::{
    CancelToken, Client, Config, NoTls, Row, Socket,
    error::SqlState,
    tls::{MakeTlsConnect, TlsConnect},
    types::ToSql,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    Cause, Error,
    conninfo::{
        Address, ChannelBinding, Endpoint, Environment, HostOrder, SessionAttributes, SslMode,
        SslNegotiation, Target,
    },
    tls,
};
use crate::secret::Secret;

/// How long things may take before they count as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// To connect to one address and log in, unless the connection has `connect_timeout`.
    pub connect: Duration,
    /// To answer a question.
    pub answer: Duration,
    /// To start a backup with a fast checkpoint. A spread one gets twice the server's `checkpoint_timeout` on top.
    pub start: Duration,
    /// To stop a backup, archiving not included.
    pub stop: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            answer: Duration::from_mins(1),
            start: Duration::from_mins(15),
            stop: Duration::from_mins(5),
        }
    }
}

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
            let shown = failures.iter().map(|error| crate::failure::chain(error));
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
                timeout(limit, open(&config, tls)).await
            }
            _ => timeout(limit, open(&config, NoTls)).await,
        };
        let begun = handshake.load(Ordering::Relaxed);
        let cause = match connected {
            Ok(Ok((client, connection))) => {
                return Ok(self.session(endpoint, client, connection, begun));
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

    fn session(
        &self,
        endpoint: &Endpoint,
        client: Client,
        connection: JoinSet<Result<(), tokio_postgres::Error>>,
        encrypted: bool,
    ) -> Session {
        let tls = self.tls.clone().filter(|_| encrypted);
        Session {
            canceller: Canceller {
                token: client.cancel_token(),
                tls,
            },
            client,
            connection,
            deadlines: self.deadlines,
            endpoint: endpoint.to_string(),
            user: self.target.user.clone(),
            version: 0,
        }
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
            Cause::Connection(error) if error.to_string().contains("password missing") => {
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
    Socket(std::path::PathBuf),
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

/// Opens a connection and starts the task that moves its bytes.
async fn open<T>(
    config: &Config,
    tls: T,
) -> Result<(Client, JoinSet<Result<(), tokio_postgres::Error>>), tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect(tls).await?;
    let mut task = JoinSet::new();
    task.spawn(connection);
    Ok((client, task))
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

struct Canceller {
    token: CancelToken,
    tls: Option<MakeRustlsConnect>,
}

impl Canceller {
    /// Asks the server to give up what the session is doing. Failing to ask changes nothing: the session is given up anyway.
    async fn cancel(&self) {
        const LIMIT: Duration = Duration::from_secs(5);
        let asked = match &self.tls {
            Some(tls) => timeout(LIMIT, self.token.cancel_query(tls.clone())).await,
            None => timeout(LIMIT, self.token.cancel_query(NoTls)).await,
        };
        if !matches!(asked, Ok(Ok(()))) {
            tracing::debug!("the server could not be asked to cancel a request");
        }
    }
}

/// A session with a server.
///
/// It ends with [`close`](Self::close), or hard when dropped; either way its connection ends with it.
pub struct Session {
    client: Client,
    connection: JoinSet<Result<(), tokio_postgres::Error>>,
    canceller: Canceller,
    deadlines: Deadlines,
    endpoint: String,
    user: String,
    version: u32,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Session")
            .field("endpoint", &self.endpoint)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// What every session is set to: no limits that a role may carry, and no functions but PostgreSQL's own.
const SETTINGS: &str = "SET statement_timeout = 0; SET lock_timeout = 0; \
    SET search_path = pg_catalog; SET client_min_messages = error";

impl Session {
    /// Sets a fresh session up, and checks that it is of the kind wanted.
    async fn prepare(mut self, wanted: SessionAttributes) -> Result<Self, Error> {
        const DOING: &str = "prepare the session";
        self.run(DOING, SETTINGS).await?;
        let sql = "SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), \
            current_setting('transaction_read_only') = 'on'";
        let row = self.row(DOING, sql, &[]).await?;
        let version: i32 = get(&row, DOING, 0)?;
        self.version = u32::try_from(version).unwrap_or_default();
        if self.version < 130_000 {
            return Err(Error::Version(self.version / 10_000));
        }
        match unsuited(wanted, get(&row, DOING, 1)?, get(&row, DOING, 2)?) {
            None => Ok(self),
            Some((is, wanted)) => Err(Error::Unsuited {
                endpoint: self.endpoint,
                is,
                wanted,
            }),
        }
    }

    /// `server_version_num`, such as 170005.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The major version, such as 17.
    pub fn major(&self) -> u32 {
        self.version / 10_000
    }

    /// Where the server was found: a socket, or host and port.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether the session is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.canceller.tls.is_some()
    }

    /// Whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Waits until the connection is gone, whoever ended it.
    pub async fn closed(&mut self) {
        // None means that it was waited for before.
        let _ended = self.connection.join_next().await;
    }

    /// Whether the server is in recovery.
    pub async fn is_in_recovery(&self) -> Result<bool, Error> {
        const DOING: &str = "say whether it is in recovery";
        let row = self.row(DOING, "SELECT pg_is_in_recovery()", &[]).await?;
        get(&row, DOING, 0)
    }

    /// Says goodbye and waits for the connection to end.
    pub async fn close(self) {
        let Self {
            client,
            mut connection,
            ..
        } = self;
        drop(client);
        // What does not end by then is ended by dropping the set.
        let _ended = timeout(Duration::from_secs(5), connection.join_next()).await;
    }

    pub(super) fn deadlines(&self) -> Deadlines {
        self.deadlines
    }

    /// Asks for exactly one row within the usual deadline.
    pub(super) async fn row(
        &self,
        doing: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, Error> {
        let limit = self.deadlines.answer;
        self.row_within(limit, doing, sql, parameters).await
    }

    /// Asks for exactly one row.
    pub(super) async fn row_within(
        &self,
        limit: Duration,
        doing: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, Error> {
        let answer = timeout(limit, self.client.query_one(sql, parameters)).await;
        self.answer(doing, limit, answer).await
    }

    /// Asks for any number of rows within the usual deadline.
    pub(super) async fn rows(&self, doing: &'static str, sql: &str) -> Result<Vec<Row>, Error> {
        let limit = self.deadlines.answer;
        let answer = timeout(limit, self.client.query(sql, &[])).await;
        self.answer(doing, limit, answer).await
    }

    /// Has the server do something that has no answer.
    pub(super) async fn run(&self, doing: &'static str, sql: &str) -> Result<(), Error> {
        let limit = self.deadlines.answer;
        let answer = timeout(limit, self.client.batch_execute(sql)).await;
        self.answer(doing, limit, answer).await
    }

    async fn answer<T>(
        &self,
        doing: &'static str,
        limit: Duration,
        answer: Result<Result<T, tokio_postgres::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T, Error> {
        let Ok(answer) = answer else {
            self.canceller.cancel().await;
            return Err(Error::Deadline { doing, limit });
        };
        answer.map_err(|error| Error::Request {
            doing,
            user: self.user.clone(),
            source: error.into(),
        })
    }
}

/// What a server is and should be, if these differ.
fn unsuited(
    wanted: SessionAttributes,
    in_recovery: bool,
    read_only: bool,
) -> Option<(&'static str, &'static str)> {
    match wanted {
        SessionAttributes::ReadWrite if read_only => Some(("read-only", "read-write")),
        SessionAttributes::ReadOnly if !read_only => Some(("read-write", "read-only")),
        SessionAttributes::Primary if in_recovery => Some(("a standby", "a primary")),
        SessionAttributes::Standby if !in_recovery => Some(("a primary", "a standby")),
        _ => None,
    }
}

/// One column of an answer.
pub(super) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    doing: &'static str,
    column: usize,
) -> Result<T, Error> {
    row.try_get(column).map_err(|error| Error::Answer {
        doing,
        answer: error.to_string(),
    })
}
