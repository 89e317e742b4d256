//! Logging in for SQL, with `tokio-postgres`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio_postgres::{
    Config, NoTls, Socket,
    tls::{MakeTlsConnect, TlsConnect},
};

use super::{
    super::{
        Cause, Error,
        conninfo::{ChannelBinding, SessionAttributes, SslNegotiation, Target},
        session::{Session, Wire},
    },
    Attempt, Call, Opened, Place,
};

impl Opened for Session {
    async fn open(call: &Call<'_>) -> Result<Self, Cause> {
        let config = config(call);
        let wire = match call.tls {
            Some(tls) => {
                let noting = Noting {
                    inner: tls.make.clone(),
                    begun: Arc::clone(call.handshake),
                };
                Wire::open(&config, noting).await?
            }
            None => Wire::open(&config, NoTls).await?,
        };
        let is_encrypted = call.handshake.load(Ordering::Relaxed);
        let tls = call.tls.filter(|_| is_encrypted);
        let tls = tls.map(|tls| tls.make.clone());
        let user = &call.target.user;
        Ok(Self::over(wire, tls, call.deadlines, call.endpoint, user))
    }

    async fn prepare(self, wanted: SessionAttributes) -> Result<Self, Error> {
        self.set_up(wanted).await
    }
}

fn config(call: &Call<'_>) -> Config {
    let Call {
        target,
        endpoint,
        attempt,
        ..
    } = call;
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
    if target.tls.negotiation == SslNegotiation::Direct && *attempt == Attempt::Encrypted {
        config.ssl_negotiation(tokio_postgres::config::SslNegotiation::Direct);
    }
    match call.place {
        Place::Socket(directory) => config.host_path(directory),
        Place::Tcp { name, address } => config.host(name).hostaddr(*address),
    };
    if let Some(options) = &target.options {
        config.options(options);
    }
    if let Some(password) = &endpoint.password {
        config.password(password.expose());
    }
    keep_alive(target, &mut config);
    config
}

fn keep_alive(target: &Target, config: &mut Config) {
    let wanted = &target.keepalives;
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

/// A TLS connector that notes whether a handshake was begun.
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
