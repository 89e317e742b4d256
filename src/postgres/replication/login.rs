//! Logging in for replication: socket, TLS, proof of who asks.
//!
//! The rules are those of the SQL sessions: the same settings, the same meaning of `sslmode` and `channel_binding`. SCRAM is bound to the
//! TLS session where the server offers it. Kerberos is not spoken.

use std::{io, sync::atomic::Ordering};

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{self, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256},
    },
    message::{
        backend::{AuthenticationSaslBody, Message},
        frontend,
    },
};
use rustix::net::sockopt;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

use super::wire::{Incoming, Transport, Wire};
use crate::postgres::{
    Cause, certificate,
    connector::{Attempt, Call, Place, Tls},
    conninfo::{ChannelBinding, Keepalives, SslNegotiation},
    error::PASSWORD_MISSING,
};

/// A connection that the server has let in, up to its first readiness.
pub(super) async fn log_in(call: &Call<'_>) -> Result<(Wire, Vec<(String, String)>), Cause> {
    let (transport, end_point) = connect(call).await?;
    let mut wire = Wire::new(transport);
    let mut parameters = vec![
        ("user", call.target.user.as_str()),
        ("replication", "true"),
        ("application_name", call.target.application_name.as_str()),
        ("client_encoding", "UTF8"),
    ];
    if let Some(options) = &call.target.options {
        parameters.push(("options", options));
    }
    wire.send(|buffer| frontend::startup_message(parameters, buffer))
        .await
        .map_err(Cause::Broken)?;
    prove(&mut wire, call, end_point).await?;
    let told = until_ready(&mut wire).await?;
    Ok((wire, told))
}

/// Opens the socket and encrypts it; the second value is what SCRAM can be bound to.
async fn connect(call: &Call<'_>) -> Result<(Box<dyn Transport>, Option<Vec<u8>>), Cause> {
    let (name, address) = match call.place {
        Place::Socket(directory) => {
            let path = directory.join(format!(".s.PGSQL.{}", call.endpoint.port));
            let socket = UnixStream::connect(path).await.map_err(Cause::Socket)?;
            return Ok((Box::new(socket), None));
        }
        Place::Tcp { name, address } => (name, *address),
    };
    let connected = TcpStream::connect((address, call.endpoint.port)).await;
    let mut socket = connected.map_err(Cause::Socket)?;
    keep_alive(&socket, &call.target.keepalives).map_err(Cause::Socket)?;
    let Some(tls) = call.tls else {
        return Ok((Box::new(socket), None));
    };
    if call.target.tls.negotiation == SslNegotiation::Postgres
        && !offers_tls(&mut socket).await.map_err(Cause::Broken)?
    {
        return match call.attempt {
            Attempt::Encrypted => Err(Cause::LogIn("the server does not support TLS")),
            _ => Ok((Box::new(socket), None)),
        };
    }
    call.handshake.store(true, Ordering::Relaxed);
    encrypt(socket, name, tls).await.map_err(Cause::Broken)
}

fn keep_alive(socket: &TcpStream, wanted: &Keepalives) -> io::Result<()> {
    socket.set_nodelay(true)?;
    if wanted.enabled {
        sockopt::set_socket_keepalive(socket, true)?;
        if let Some(idle) = wanted.idle {
            sockopt::set_tcp_keepidle(socket, idle)?;
        }
        if let Some(interval) = wanted.interval {
            sockopt::set_tcp_keepintvl(socket, interval)?;
        }
        if let Some(count) = wanted.count {
            sockopt::set_tcp_keepcnt(socket, count)?;
        }
    }
    if let Some(limit) = wanted.user_timeout {
        let millis = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(socket, millis)?;
    }
    Ok(())
}

async fn offers_tls(socket: &mut TcpStream) -> io::Result<bool> {
    let mut request = bytes::BytesMut::new();
    frontend::ssl_request(&mut request);
    socket.write_all(&request).await?;
    // Exactly one byte: whatever came after it in the clear must not be taken for a part of the encrypted session.
    let mut answer = [0];
    socket.read_exact(&mut answer).await?;
    Ok(answer[0] == b'S')
}

async fn encrypt(
    socket: TcpStream,
    name: &str,
    tls: &Tls,
) -> io::Result<(Box<dyn Transport>, Option<Vec<u8>>)> {
    let server = ServerName::try_from(name.to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let connector = TlsConnector::from(tls.config.clone());
    let stream = connector.connect(server, socket).await?;
    let shown = stream.get_ref().1.peer_certificates();
    let end_point = shown
        .and_then(|chain| chain.first())
        .and_then(certificate::end_point);
    Ok((Box::new(stream), end_point))
}

/// Answers whatever proof the server asks for.
async fn prove(wire: &mut Wire, call: &Call<'_>, end_point: Option<Vec<u8>>) -> Result<(), Cause> {
    let required = call.target.channel_binding == ChannelBinding::Require;
    let mut bound = Bound::No;
    loop {
        let password = || {
            let password = call.endpoint.password.as_ref();
            password.ok_or(Cause::LogIn(PASSWORD_MISSING))
        };
        match message(wire).await? {
            Message::AuthenticationOk if required && bound == Bound::No => {
                return Err(Cause::LogIn("the server did not use channel binding"));
            }
            Message::AuthenticationOk => return Ok(()),
            Message::AuthenticationCleartextPassword | Message::AuthenticationMd5Password(_)
                if required =>
            {
                return Err(Cause::LogIn("the server did not use channel binding"));
            }
            Message::AuthenticationCleartextPassword => {
                answer(wire, password()?.expose().as_bytes()).await?;
            }
            Message::AuthenticationMd5Password(body) => {
                let (user, password) = (call.target.user.as_bytes(), password()?);
                let hash = md5_hash(user, password.expose().as_bytes(), body.salt());
                answer(wire, hash.as_bytes()).await?;
            }
            Message::AuthenticationSasl(body) => {
                let scram = Scram {
                    password: password()?.expose().as_bytes(),
                    wanted: call.target.channel_binding,
                    end_point: end_point.as_deref(),
                };
                bound = scram.run(wire, &body).await?;
            }
            _ => {
                return Err(Cause::LogIn(
                    "the server asks for a proof that is not known",
                ));
            }
        }
    }
}

async fn answer(wire: &mut Wire, password: &[u8]) -> Result<(), Cause> {
    let sent = wire.send(|buffer| frontend::password_message(password, buffer));
    sent.await.map_err(Cause::Broken)
}

/// Whether SCRAM was bound to the TLS session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Yes,
    No,
}

struct Scram<'a> {
    password: &'a [u8],
    wanted: ChannelBinding,
    end_point: Option<&'a [u8]>,
}

impl Scram<'_> {
    async fn run(&self, wire: &mut Wire, offered: &AuthenticationSaslBody) -> Result<Bound, Cause> {
        let (mechanism, binding, bound) = self.choose(offered)?;
        let mut scram = ScramSha256::new(self.password, binding);
        wire.send(|buffer| frontend::sasl_initial_response(mechanism, scram.message(), buffer))
            .await
            .map_err(Cause::Broken)?;
        let Message::AuthenticationSaslContinue(body) = message(wire).await? else {
            return Err(Cause::LogIn("the server broke the authentication off"));
        };
        scram.update(body.data()).map_err(Cause::Broken)?;
        wire.send(|buffer| frontend::sasl_response(scram.message(), buffer))
            .await
            .map_err(Cause::Broken)?;
        let Message::AuthenticationSaslFinal(body) = message(wire).await? else {
            return Err(Cause::LogIn("the server broke the authentication off"));
        };
        scram.finish(body.data()).map_err(Cause::Broken)?;
        Ok(bound)
    }

    fn choose(
        &self,
        offered: &AuthenticationSaslBody,
    ) -> Result<(&'static str, sasl::ChannelBinding, Bound), Cause> {
        let mut names = offered.mechanisms();
        let (mut plain, mut plus) = (false, false);
        while let Some(name) = names.next().map_err(Cause::Broken)? {
            plain |= name == SCRAM_SHA_256;
            plus |= name == SCRAM_SHA_256_PLUS;
        }
        let end_point = match self.wanted {
            ChannelBinding::Disable => None,
            ChannelBinding::Prefer | ChannelBinding::Require => self.end_point,
        };
        match end_point {
            Some(end_point) if plus => {
                let binding = sasl::ChannelBinding::tls_server_end_point(end_point.to_vec());
                Ok((SCRAM_SHA_256_PLUS, binding, Bound::Yes))
            }
            _ if self.wanted == ChannelBinding::Require => {
                Err(Cause::LogIn("the server does not offer channel binding"))
            }
            // To say that it could have been bound makes a man in the middle who took the offer away noticed.
            Some(_) if plain => Ok((
                SCRAM_SHA_256,
                sasl::ChannelBinding::unrequested(),
                Bound::No,
            )),
            None if plain => Ok((
                SCRAM_SHA_256,
                sasl::ChannelBinding::unsupported(),
                Bound::No,
            )),
            _ => Err(Cause::LogIn(
                "the server asks for a proof that is not known",
            )),
        }
    }
}

/// What the server tells of itself until it is ready for a command.
async fn until_ready(wire: &mut Wire) -> Result<Vec<(String, String)>, Cause> {
    let mut told = Vec::new();
    loop {
        match message(wire).await? {
            Message::ReadyForQuery(_) => return Ok(told),
            Message::ParameterStatus(body) => {
                let name = body.name().map_err(Cause::Broken)?.to_owned();
                let value = body.value().map_err(Cause::Broken)?.to_owned();
                told.push((name, value));
            }
            _ => {}
        }
    }
}

/// The next message that is not an error.
async fn message(wire: &mut Wire) -> Result<Message, Cause> {
    match wire.receive().await.map_err(Cause::Broken)? {
        Incoming::Message(Message::ErrorResponse(body)) => Err(body.fields().into()),
        Incoming::Message(message) => Ok(message),
        Incoming::CopyBoth => Err(Cause::Broken(io::ErrorKind::InvalidData.into())),
    }
}
