//! What a connection string means once everything is known: where to go, and what to say there.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use super::{
    Environment, Error, PassedOver, TlsSettings, encryption,
    passfile::{Login, Passfile},
    settings::{Settings, Words},
};
use crate::secret::Secret;

/// The directories in which a server's socket is looked for when no host is named, in this order.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];
const DEFAULT_PORT: u16 = 5432;
const DEFAULT_APPLICATION_NAME: &str = "barkeep";

/// Where a server may be, who logs in, and how the session is protected.
#[derive(Clone)]
pub struct Target {
    /// The places to try, in order; never empty.
    pub endpoints: Vec<Endpoint>,
    /// Whether that order is kept.
    pub host_order: HostOrder,
    /// What the session must be able to do.
    pub session_attributes: SessionAttributes,
    /// Who logs in.
    pub user: String,
    /// Into which database.
    pub database: String,
    /// What `pg_stat_activity` shows.
    pub application_name: String,
    /// Command line options for the server.
    pub options: Option<String>,
    /// How long one address may take to connect; without it a default applies.
    pub connect_timeout: Option<Duration>,
    /// How a dead peer is noticed.
    pub keepalives: Keepalives,
    /// Whether SCRAM is bound to the TLS session.
    pub channel_binding: ChannelBinding,
    /// How the session is encrypted.
    pub tls: TlsSettings,
    /// Why the password file was passed over, if it was.
    pub passed_over: Option<PassedOver>,
}

/// One place to try.
#[derive(Clone)]
pub struct Endpoint {
    /// Where it is.
    pub address: Address,
    /// Its port, which is also a part of a socket's name.
    pub port: u16,
    /// What to answer when it asks for a password.
    pub password: Option<Secret>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Socket(directory) => {
                write!(formatter, "{}/.s.PGSQL.{}", directory.display(), self.port)
            }
            Address::Name(host) => write!(formatter, "{host}:{}", self.port),
            Address::Numeric { address, .. } => write!(formatter, "{address}:{}", self.port),
        }
    }
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A directory with the server's socket.
    Socket(PathBuf),
    /// A name to look up, or an address written as a host.
    Name(String),
    /// An address that needs no looking up, `hostaddr`.
    Numeric {
        /// The address.
        address: IpAddr,
        /// The name that a certificate must have.
        name: Option<String>,
    },
}

/// In which order endpoints are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostOrder {
    /// As written.
    AsWritten,
    /// At random.
    Random,
}

/// What a session must be able to do: `target_session_attrs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionAttributes {
    /// Anything.
    Any,
    /// Write by default.
    ReadWrite,
    /// Not write by default.
    ReadOnly,
    /// Be no standby.
    Primary,
    /// Be a standby.
    Standby,
    /// Be a standby if any endpoint is one.
    PreferStandby,
}

/// How a dead peer is noticed; `None` leaves a value to the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalives {
    /// Whether probes are sent at all.
    pub enabled: bool,
    /// The silence before the first probe.
    pub idle: Option<Duration>,
    /// The time between probes.
    pub interval: Option<Duration>,
    /// How many probes may go unanswered.
    pub count: Option<u32>,
    /// How long sent data may go unacknowledged.
    pub user_timeout: Option<Duration>,
}

/// Whether SCRAM is bound to the TLS session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server offers it.
    Prefer,
    /// Always; a session without it is refused.
    Require,
}

impl Target {
    /// Works out where a connection string leads.
    ///
    /// A password given here counts before one in the string, the environment or the password file.
    pub fn resolve(
        conninfo: &str,
        password: Option<&Secret>,
        environment: &Environment,
    ) -> Result<Self, Error> {
        let settings = Settings::gather(conninfo, environment)?;
        let user = settings.get("user").map(str::to_owned);
        let user = user
            .or_else(|| environment.user.clone())
            .ok_or(Error::NoUser)?;
        let database = settings.get("dbname").unwrap_or(&user).to_owned();
        let places = places(&settings)?;
        let tls = encryption::resolve(&settings, environment)?;
        let (passwords, passed_over) =
            Passwords::find(&settings, password, environment).with_login(&database, &user);
        let endpoints = places
            .into_iter()
            .map(|(address, port)| Endpoint {
                password: passwords.at(&address, port),
                address,
                port,
            })
            .collect();
        Ok(Self {
            endpoints,
            host_order: settings.choice("load_balance_hosts", HOST_ORDERS)?,
            session_attributes: settings.choice("target_session_attrs", SESSION_ATTRIBUTES)?,
            application_name: application_name(&settings),
            options: settings.get("options").map(str::to_owned),
            connect_timeout: connect_timeout(&settings)?,
            keepalives: keepalives(&settings)?,
            channel_binding: settings.choice("channel_binding", CHANNEL_BINDINGS)?,
            user,
            database,
            tls,
            passed_over,
        })
    }
}

const HOST_ORDERS: Words<HostOrder> = (
    &[
        ("disable", HostOrder::AsWritten),
        ("random", HostOrder::Random),
    ],
    "`disable` or `random`",
);
const SESSION_ATTRIBUTES: Words<SessionAttributes> = (
    &[
        ("any", SessionAttributes::Any),
        ("read-write", SessionAttributes::ReadWrite),
        ("read-only", SessionAttributes::ReadOnly),
        ("primary", SessionAttributes::Primary),
        ("standby", SessionAttributes::Standby),
        ("prefer-standby", SessionAttributes::PreferStandby),
    ],
    "`any`, `read-write`, `read-only`, `primary`, `standby` or `prefer-standby`",
);
const CHANNEL_BINDINGS: Words<ChannelBinding> = (
    &[
        ("prefer", ChannelBinding::Prefer),
        ("disable", ChannelBinding::Disable),
        ("require", ChannelBinding::Require),
    ],
    "`disable`, `prefer` or `require`",
);
fn connect_timeout(settings: &Settings) -> Result<Option<Duration>, Error> {
    let timeout = settings.duration("connect_timeout", Duration::from_secs(1))?;
    // libpq never waits less than that, because its clock counts whole seconds.
    Ok(timeout.map(|timeout| timeout.max(Duration::from_secs(2))))
}

fn keepalives(settings: &Settings) -> Result<Keepalives, Error> {
    let second = Duration::from_secs(1);
    let count = settings.number("keepalives_count")?;
    Ok(Keepalives {
        enabled: settings.number("keepalives")? != Some(0),
        idle: settings.duration("keepalives_idle", second)?,
        interval: settings.duration("keepalives_interval", second)?,
        count: count
            .and_then(|count| u32::try_from(count).ok())
            .filter(|count| *count > 0),
        user_timeout: settings.duration("tcp_user_timeout", Duration::from_millis(1))?,
    })
}

fn application_name(settings: &Settings) -> String {
    let name = settings.get("application_name");
    let name = name.or_else(|| settings.get("fallback_application_name"));
    name.unwrap_or(DEFAULT_APPLICATION_NAME).to_owned()
}

/// Where to try, in order.
fn places(settings: &Settings) -> Result<Vec<(Address, u16)>, Error> {
    let list = |keyword| -> Vec<&str> {
        settings
            .get(keyword)
            .map(|value| value.split(',').map(str::trim).collect())
            .unwrap_or_default()
    };
    let (hosts, addresses) = (list("host"), list("hostaddr"));
    let count = addresses.len().max(hosts.len()).max(1);
    let unequal = |right_keyword, right| Error::Count {
        left_keyword: if addresses.is_empty() {
            "host"
        } else {
            "hostaddr"
        },
        left: count,
        right_keyword,
        right,
    };
    if !addresses.is_empty() && !hosts.is_empty() && addresses.len() != hosts.len() {
        return Err(Error::Count {
            left_keyword: "hostaddr",
            left: addresses.len(),
            right_keyword: "host",
            right: hosts.len(),
        });
    }
    let ports = ports(settings)?;
    if ports.len() > 1 && ports.len() != count {
        return Err(unequal("port", ports.len()));
    }
    let mut places = Vec::with_capacity(count);
    for position in 0..count {
        let host = hosts.get(position).copied().unwrap_or_default();
        let address = addresses.get(position).copied().unwrap_or_default();
        let port = ports.get(position).or(ports.first()).copied();
        let port = port.unwrap_or(DEFAULT_PORT);
        let at = addresses_of(host, address)?;
        places.extend(at.into_iter().map(|address| (address, port)));
    }
    Ok(places)
}

fn addresses_of(host: &str, address: &str) -> Result<Vec<Address>, Error> {
    if !address.is_empty() {
        let parsed = address.parse().map_err(|_| Error::Value {
            keyword: "hostaddr",
            value: address.to_owned(),
            expected: "a numeric IP address",
        })?;
        return Ok(vec![Address::Numeric {
            address: parsed,
            name: Some(host.to_owned()).filter(|name| !name.is_empty()),
        }]);
    }
    if host.is_empty() {
        let sockets = SOCKET_DIRECTORIES.map(|directory| Address::Socket(directory.into()));
        return Ok(sockets.to_vec());
    }
    if host.starts_with('@') {
        return Err(Error::Refused {
            keyword: "host",
            reason: "sockets in the abstract namespace are not supported",
        });
    }
    Ok(vec![if host.starts_with('/') {
        Address::Socket(host.into())
    } else {
        Address::Name(host.to_owned())
    }])
}

fn ports(settings: &Settings) -> Result<Vec<u16>, Error> {
    let Some(value) = settings.get("port") else {
        return Ok(Vec::new());
    };
    let parse = |text: &str| match text.trim() {
        "" => Ok(DEFAULT_PORT),
        text => text
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| Error::Value {
                keyword: "port",
                value: text.to_owned(),
                expected: "a number from 1 to 65535",
            }),
    };
    value.split(',').map(parse).collect()
}

/// Where passwords come from.
struct Passwords {
    given: Option<Secret>,
    file: Passfile,
    database: String,
    user: String,
}

impl Passwords {
    fn find(settings: &Settings, given: Option<&Secret>, environment: &Environment) -> Self {
        let written = || {
            settings
                .get("password")
                .map(|text| Secret::new(text.to_owned()))
        };
        let given = given.cloned().or_else(written);
        let named = settings.get("passfile").map(PathBuf::from);
        let path = named.or_else(|| environment.home().map(|home| home.join(".pgpass")));
        let file = match (&given, path) {
            (None, Some(path)) => Passfile::read(&path),
            _ => Passfile::default(),
        };
        Self {
            given,
            file,
            database: String::new(),
            user: String::new(),
        }
    }

    fn with_login(mut self, database: &str, user: &str) -> (Self, Option<PassedOver>) {
        database.clone_into(&mut self.database);
        user.clone_into(&mut self.user);
        let passed_over = self.file.passed_over.clone();
        (self, passed_over)
    }

    fn at(&self, address: &Address, port: u16) -> Option<Secret> {
        let host = match address {
            Address::Socket(directory) => {
                let directory = directory.to_str().unwrap_or_default();
                if SOCKET_DIRECTORIES.contains(&directory) {
                    "localhost".to_owned()
                } else {
                    directory.to_owned()
                }
            }
            Address::Name(name) => name.clone(),
            Address::Numeric { address, name } => {
                name.clone().unwrap_or_else(|| address.to_string())
            }
        };
        let login = Login {
            host: &host,
            port,
            database: &self.database,
            user: &self.user,
        };
        let from_file = || self.file.password(&login);
        self.given.clone().or_else(from_file)
    }
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
