//! The pages of the watch mode: how it stands, for people, for programs, and for what watches over it.
//!
//! Only reading, without a password: whoever reaches the address may see how the servers stand. Connections are few and short, and
//! every one has an owner that waits for it; what is asked costs no request to a destination.

use std::{convert::Infallible, io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    clock::{Clock, pause},
    reconcile::board::Board,
    status::{
        Status, metrics,
        page::{self, Refresh},
    },
};

/// How many connections there are at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;

/// How long one connection may last.
const CONNECTION_MAX: Duration = Duration::from_mins(1);

/// How long a client may take to say what it wants.
const HEADER_MAX: Duration = Duration::from_secs(10);

/// How long the loop may not have gone round before it counts as stuck.
pub const STUCK_AFTER: Duration = Duration::from_mins(2);

/// Every path, and what is there.
pub const PATHS: [(&str, &str); 5] = [
    ("/", "the status page"),
    (
        "/status.json",
        "the same for programs, as `barkeep status --format json`",
    ),
    ("/metrics", "OpenMetrics"),
    ("/healthz", "200 while the loop goes round, else 503"),
    (
        "/readyz",
        "200 once every server has been looked at, else 503",
    ),
];

/// An address that is listened at.
pub struct Listener(TcpListener);

impl Listener {
    /// Listens at an address.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self)
    }

    /// The address, with the port that was chosen if that was left open.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Serves until told to stop; what is being answered is answered first.
pub async fn serve(listener: Listener, board: Board, clock: Clock, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.0.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    let board = board.clone();
                    connections.spawn(connection(stream, board, clock, stop.clone()));
                }
                Err(error) => {
                    // Too many open files, as a rule: those that there are end sooner than that.
                    warn!("cannot accept a connection: {error}");
                    pause(Duration::from_secs(1)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, board: Board, clock: Clock, stop: CancellationToken) {
    let answering = service_fn(move |request: Request<Incoming>| {
        let answer = answer(request.method(), request.uri().path(), &board, clock);
        async move { Ok::<_, Infallible>(answer) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_MAX)
        .serve_connection(TokioIo::new(stream), answering);
    tokio::pin!(serving);
    let served = timeout(CONNECTION_MAX, async {
        tokio::select! {
            served = &mut serving => return served,
            () = stop.cancelled() => serving.as_mut().graceful_shutdown(),
        }
        serving.await
    });
    match served.await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => debug!("a connection ended: {error}"),
    }
}

fn answer(method: &Method, path: &str, board: &Board, clock: Clock) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
        refused
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let state = board.read();
    match path {
        "/" => {
            let status = Status::watched(&state, clock.now());
            typed(
                StatusCode::OK,
                "text/html; charset=utf-8",
                page::html(&status, Refresh::Often),
            )
        }
        "/status.json" => {
            let status = Status::watched(&state, clock.now());
            let json = serde_json::to_string(&status).unwrap_or_default();
            typed(StatusCode::OK, "application/json", json + "\n")
        }
        "/metrics" => {
            let status = Status::watched(&state, clock.now());
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            typed(StatusCode::OK, kind, metrics::render(&state, status))
        }
        "/healthz" => match state.beat.elapsed() {
            ago if ago < STUCK_AFTER => text(StatusCode::OK, "ok\n".to_owned()),
            ago => {
                let why = format!("the loop last went round {}s ago\n", ago.as_secs());
                text(StatusCode::SERVICE_UNAVAILABLE, why)
            }
        },
        "/readyz" if state.is_ready() => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => {
            let unseen = state.servers.values().filter(|row| row.last.is_none());
            let why = format!("{} servers have not been looked at\n", unseen.count());
            text(StatusCode::SERVICE_UNAVAILABLE, why)
        }
        _ => text(StatusCode::NOT_FOUND, "there is nothing here\n".to_owned()),
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", text)
}

fn typed(status: StatusCode, kind: &'static str, content: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(content)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(page::POLICY),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::scene::now;

    fn code(method: &Method, path: &str, board: &Board) -> u16 {
        answer(method, path, board, Clock::Fixed(now()))
            .status()
            .as_u16()
    }

    #[tokio::test(start_paused = true)]
    async fn every_path_answers_and_no_other() {
        let board = Board::new(now());
        assert_eq!(code(&Method::GET, "/readyz", &board), 503, "not yet");
        board.configured([].iter(), now());
        for (path, _) in PATHS {
            assert_eq!(code(&Method::GET, path, &board), 200, "{path}");
            assert_eq!(code(&Method::POST, path, &board), 405, "{path}");
        }
        assert_eq!(code(&Method::GET, "/etc/passwd", &board), 404);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_is_stuck_is_not_healthy() {
        let board = Board::new(now());
        tokio::time::advance(STUCK_AFTER).await;
        assert_eq!(code(&Method::GET, "/healthz", &board), 503);
        assert_eq!(code(&Method::GET, "/", &board), 200, "the page still tells");
    }
}
